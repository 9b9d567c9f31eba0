"""Readers of true boxes, on files in the syntax of the published ones, and which videos they belong to."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from avssl.core.errors import UserError
from avssl.metrics.localisation import truth_map
from avssl.videos.box_annotations import match, read_boxes
from avssl.videos.true_boxes import Annotations, TrueBoxes, usable_box

HEADER = "path,frame,time,digit,sounding,x0,y0,x1,y1,class\n"
VGGSS = [
    {"file": "Kp3-Drt61_M_000064", "class": "playing cello", "bbox": [[0.25, 0, 0.75, 1.0], [-0.1, 0.5, 0.5, 1.2]]},
    {"file": "aaaaaaaaaaa_000030", "class": "tap, dancing", "bbox": [[0.5, 0.25, 0.625, 0.5], [0.1, 0.1, 0.1, 0.1]]},
    {"file": "bbbbbbbbbbb_000000", "class": "timbales", "bbox": [[0.38, 0.86, 0.7, -2.8823037615171176e16]]},
]
XML = """<?xml version="1.0" ?>
<annotation>
{}</annotation>
"""
ANNOTATOR = """\t<annotator{}>
\t\t<bbox>
\t\t\t<name>object</name>
\t\t\t<xmin>{}</xmin>
\t\t\t<ymin>{}</ymin>
\t\t\t<xmax>{}</xmax>
\t\t\t<ymax>{}</ymax>
\t\t</bbox>
\t</annotator{}>
"""


def annotated(*boxes: tuple[int, int, int, int]) -> str:
    return XML.format("".join(ANNOTATOR.format(n, *box, n) for n, box in enumerate(boxes, 1)))


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return path


def test_the_samples_boxes(tmp_path):
    rows = [
        "test/a/a_0.mp4,0,0.0,3,1,0.25,0.1,0.75,0.9,digit_3",
        "test/a/a_0.mp4,1,0.04,3,1,0.5,0.1,1.0,0.9,digit_3",
        "test/a/a_0.mp4,0,0.0,5,0,0.0,0.0,0.2,0.2,digit_5",
        "'-b.mp4,0,0.0,3,0,0.1,0.1,0.5,0.5,",
        "c.mp4,0,0.0,3,0,,,,,",
        "c.mp4,1,0.04,3,1,nan,0,1,1,",
    ]
    found = read_boxes(written(tmp_path / "boxes.csv", HEADER + "\n".join(rows) + "\n"))
    assert found.form == "sample"
    assert [(t.path, t.time) for t in found.truth] == [
        ("test/a/a_0.mp4", 0.0), ("test/a/a_0.mp4", 0.04), ("-b.mp4", 0.0), ("c.mp4", 0.0)
    ]  # fmt: skip
    first = found.truth[0]
    assert first.boxes.tolist() == [[0.25, 0.1, 0.75, 0.9], [0, 0, 0.2, 0.2]]
    assert first.classes == ["digit_3", "digit_5"]
    assert first.sounding.tolist() == [True, False]
    assert found.truth[2].classes == ["3"]
    assert found.truth[3].boxes.shape == (0, 4)
    assert found.dropped == {"with NaN or infinite sides": 1, "pictures without any usable box": 1}
    assert [(t.path, t.time) for t in read_boxes(tmp_path).truth] == [(t.path, t.time) for t in found.truth]
    whole = read_boxes(written(tmp_path / "few.csv", "path,x0,y0,x1,y1\na.mp4,0,0,1,1\n")).truth[0]
    assert math.isnan(whole.time)
    assert whole.sounding.tolist() == [True]


def test_vggss(tmp_path):
    found = read_boxes(written(tmp_path / "vggss.json", VGGSS))
    assert found.form == "vggss"
    assert [t.path for t in found.truth] == ["Kp3-Drt61_M_000064", "aaaaaaaaaaa_000030"]
    assert found.truth[0].boxes.tolist() == [[0.25, 0, 0.75, 1], [0, 0.5, 0.5, 1]]
    assert found.truth[1].classes == ["tap, dancing"]
    assert found.dropped == {"of no area": 1, "with absurd sides": 1, "pictures without any usable box": 1}
    text = '[{"file": "a_000001", "class": "b", "bbox": [[0, 0, NaN, 1], [0, 0, 1e400, 1], [0, 0, 1, 1]]}]'
    assert read_boxes(written(tmp_path / "nan.json", text)).dropped == {"with NaN or infinite sides": 2}


def test_flickr_soundnet(tmp_path):
    folder = tmp_path / "Annotations"
    folder.mkdir()
    written(folder / "10000130166.xml", annotated((0, 0, 128, 128), (64, 0, 256, 128), (64, 0, 128, 64)))
    written(folder / "2.xml", annotated((0, 0, 300, 300), (5, 5, 5, 9)))
    written(folder / "3.xml", XML.format(""))
    found = read_boxes(tmp_path)
    assert found.form == "flickr"
    assert [t.path for t in found.truth] == ["10000130166", "2"]
    assert found.dropped == {"of no area": 1, "files without a <bbox>": 1}
    values = truth_map(found.truth[0], form=found.form)
    assert (values[:112, 56:112] == 1).all()
    assert (values[:112, :56] == 0.5).all()
    assert (values[:112, 112:] == 0.5).all()
    assert not values[112:].any()
    assert truth_map(found.truth[1], form=found.form).tolist() == [[0.5] * 224] * 224


@pytest.mark.parametrize("labelled", [False, True])
def test_slavcs_negatives_and_the_boxes_beside_them(tmp_path, labelled):
    rows = ["video,audio,label", "ccccccccccc_000001,ccccccccccc_000001,non-sounding", "d_000002,e_000003,non-sounding"]
    rows += ["Kp3-Drt61_M_000064,Kp3-Drt61_M_000064,sounding", "zzz_000001,zzz_000001,sounding"] if labelled else []
    path = written(tmp_path / "vggss_test_plus_silent.csv", "\n".join(rows))
    alone = read_boxes(path)
    assert [(t.path, t.source, len(t.boxes)) for t in alone.truth] == [
        ("ccccccccccc_000001", "", 0), ("d_000002", "e_000003", 0)
    ]  # fmt: skip
    assert list(alone.dropped.values()) == [2] * labelled
    written(tmp_path / "other.json", {"a": 1})
    written(tmp_path / "vggss.json", VGGSS)
    both = read_boxes(path)
    assert both.form == "slavc"
    boxed = ["Kp3-Drt61_M_000064"] if labelled else ["Kp3-Drt61_M_000064", "aaaaaaaaaaa_000030"]
    assert [t.path for t in both.truth if len(t.boxes)] == boxed
    assert len(both.truth) == len(boxed) + 2
    assert both.dropped.get("sounding pictures that have no boxes", 0) == labelled

    folder = tmp_path / "Annotations"
    folder.mkdir()
    written(folder / "10.xml", annotated((0, 0, 128, 128), (0, 0, 256, 256)))
    flickr = read_boxes(written(tmp_path / "flickr_test_plus_silent.csv", "video,audio,label\n12,34,non-sounding\n"))
    assert [t.path for t in flickr.truth] == ["10", "12"]
    assert np.array_equal(np.unique(truth_map(flickr.truth[0], form=flickr.form)), [0.5, 1])


def test_boxes_in_pixels_of_avsbench_is3_and_vpo(tmp_path):
    frames = "/data/s4_data/visual_frames/test/helicopter/0d9u2CymIxc/0d9u2CymIxc_2.png"
    several = "/data/ms3_data/visual_frames/rq5RDUm2Hnk_1/rq5RDUm2Hnk_1.mp4_1.png"
    entries = [
        {"image": frames, "audio": "/data/audio_wav/test/helicopter/0d9u2CymIxc.wav", "gt_box": [61, 115, 122, 224]},
        {"image": several, "audio": "/data/audio_wav/test/rq5RDUm2Hnk_1.wav", "gt_box": [0.0, 0.0, 0.0, 0.0]},
        {"image": several.replace("_1.png", "_2.png"), "gt_box": [[0, 0, 112, 112], [100, 100, 230, 224]]},
    ]
    found = read_boxes(written(tmp_path / "s4_box.json", entries))
    assert found.form == "avsbench"
    assert [(Path(t.path).name, t.time, t.classes, t.source) for t in found.truth] == [
        ("0d9u2CymIxc", 1.5, ["helicopter"], ""), ("rq5RDUm2Hnk_1", 0.5, [], ""), ("rq5RDUm2Hnk_1", 1.5, ["", ""], "")
    ]  # fmt: skip
    pixels = np.argwhere(truth_map(found.truth[0]))  # whole pixels stay what they are
    assert [*pixels.min(0), *pixels.max(0) + 1] == [115, 61, 224, 122]
    assert found.truth[2].boxes[1].tolist() == [100 / 224, 100 / 224, 1, 1]
    pictures = [
        {"image": f"/data/visual_frames/{name}.jpg", "audio": f"/data/audio_wav/{audio}.wav", "gt_box": [1, 2, 30, 40]}
        for name, audio in (("cat_dog_12_cat", "cat_dog_12_cat"), ("000000062491_432356", "other"))
    ]
    found = read_boxes(written(tmp_path / "is3.json", pictures))
    assert found.form == "is3"
    assert [(t.classes, t.source) for t in found.truth] == [(["cat"], ""), ([""], "other")]
    assert all(math.isnan(t.time) for t in found.truth)


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        ((0, 0, 0, 1), "of no area"),
        ((0.6, 0, 0.5, 1), "of no area"),
        ((-2, 0, -1, 1), "outside the picture"),
        ((1, 0, 1.5, 1), "outside the picture"),
        ((0, math.nan, 1, 1), "with NaN or infinite sides"),
        ((0, 0, 10**400, 1), "with NaN or infinite sides"),
        ((0, 0, 1, 2.9e16), "with absurd sides"),
        ((0, 0, 1), "that are not four numbers"),
        ((0, 0, True, 1), "that are not four numbers"),
        ((0, 0, "1", 1), "that are not four numbers"),
        ("0011", "that are not four numbers"),
        (None, "that are not four numbers"),
    ],
)
def test_what_is_no_box(sides, reason):
    assert usable_box(sides) == (None, reason)


def test_every_whole_pixel_stays_one():
    for size in (224, 256, 64, 100):
        for pixel in range(size):
            box, _ = usable_box((pixel, 0, pixel + 1, size), size)
            assert box is not None
            assert [int(size * side) for side in box] == [pixel, 0, pixel + 1, size]


WRONG = {
    "a.json": [
        ("{", "not valid JSON"), ("[]", "must be a list of annotations"), ("{}", "must be a list"),
        ("[1]", "neither bbox"), ('[{"bbox": [[0, 0, 1, 1]]}]', "entry 1: file is missing"),
        ('[{"file": "a", "bbox": 3}]', "entry 1: bbox is 3"), ('[{"file": "a", "bbox": []}, 3]', "entry 2"),
        ('[{"file": ["a"], "bbox": []}]', "file is a list"), ("[" * 500 + "]" * 500, "nested too deeply"),
        ("[" + "0," * 4_000_001 + "0]", "more than 4000000 values"), ('[{"gt_box": [0, 0, 1, 1]}]', "image is missing"),
        ('[{"image": "a.jpg", "gt_box": {"a": 1}}]', "gt_box is an object"), ("\udcff", "not UTF-8"),
        ('[{"file": "a", "bbox": [[0, 0, 0, 0]]}]', "no usable true box: 1 of no area"),
    ],
    "a.csv": [
        ("", "columns"), ("a,b\n1,2\n", "columns a,b"), ("path,x0,x0,y0,x1,y1\n", "a column twice"),
        ("path,x0,y0,x1,y1\na.mp4,0,0,1\n", "line 2: 4 cells"), ("path,x0,y0,x1,y1\n,0,0,1,1\n", "a path and a time"),
        ("path,time,x0,y0,x1,y1\na.mp4,soon,0,0,1,1\n", "line 2: a path and a time"),
        ("path,sounding,x0,y0,x1,y1\na.mp4,loud,0,0,1,1\n", "sounding is 'loud'"),
        ("video,audio,label\na,a,maybe\n", "'a,a,maybe'"), ("path,x0,y0,x1,y1\n", "no usable true box"),
        ("path,x0,y0,x1,y1\na.mp4,0,0,one,1\n", "no usable true box: 1 with NaN"),
    ],
    "Annotations/a.xml": [
        ('<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>', "document type or entities"),
        ("<a><b></a>", "not valid XML"), ("<a>" + " " * 70_000 + "</a>", "at most 65536"), ("<a/>", "files without"),
        ("<a>" * 5000 + "</a>" * 5000, "files without a <bbox>"), ("<a>&lol;</a>", "not valid XML"),
    ],
    "a.txt": [("a", "none of the forms")],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_one_line(tmp_path, name):
    for content, message in WRONG[name]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, errors="surrogateescape")
        with pytest.raises(UserError, match=message) as caught:
            read_boxes(path.parent if path.suffix == ".xml" else path)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders_without_boxes_are_one_line(tmp_path):
    for name in ("none", "none.csv", "none.json"):
        with pytest.raises(UserError, match=f"{name} does not exist: give the sample's boxes.csv"):
            read_boxes(tmp_path / name)
    with pytest.raises(UserError, match=r"has no boxes\.csv and no XML files"):
        read_boxes(tmp_path)


def test_damaged_files_are_read_or_one_line(tmp_path):
    rng, messages = random.Random(4), []
    sources = {
        "a.json": json.dumps(VGGSS),
        "a.csv": HEADER + "a.mp4,0,0.0,3,1,0.25,0.1,0.75,0.9,digit_3\nb.mp4,0,0.0,3,1,0.25,0.1,0.75,0.9,x\n",
        "b.csv": "video,audio,label\na,a,sounding\nb,c,non-sounding\n",
        "Annotations/1.xml": annotated((0, 0, 128, 128)),
    }
    (tmp_path / "Annotations").mkdir()
    for name, text in sources.items():
        path = tmp_path / name
        for _ in range(40):
            data = bytearray(text.encode())
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data))
                data[at : at + rng.randint(0, 3)] = rng.choice([b"", b'"', b"[", b",", b"<", b"-", b"9" * 30, b"\xff"])
            path.write_bytes(data)
            try:
                found = read_boxes(path.parent if path.suffix == ".xml" else path)
            except UserError as error:
                messages.append(str(error))
                continue
            for truth in found.truth:
                assert ((truth.boxes >= 0) & (truth.boxes <= 1)).all()
                assert len(truth.boxes) == len(truth.classes) == len(truth.sounding)
    assert not any("\n" in message for message in messages)


def annotations(form: str, *paths: str) -> Annotations:
    return Annotations(form, [TrueBoxes(path, 0.0, np.ones((1, 4))) for path in paths])


def test_videos_are_found_by_their_path():
    paths = ["digits/train/a/0.mp4", "digits/test/a/0.mp4", "digits/test/a/0.mp4", "digits/test/b/1.mp4"]
    found = match(annotations("sample", "test/a/0.mp4", "test/a/0.mp4", "valid/a/0.mp4", "train/a/0.mp4"), paths)
    assert {path: len(boxes) for path, boxes in found.truth.items()} == {paths[1]: 2, paths[0]: 1}
    assert found.missing == ["valid/a/0.mp4"]
    assert found.unannotated == [paths[3]]
    above = match(annotations("sample", "digits/test/b/1.mp4"), ["test/b/1.mp4"])
    assert list(above.truth) == ["test/b/1.mp4"]


def test_videos_are_found_by_their_name_or_their_youtube_id():
    names = ["id-a_b_000012", "idb_000001", "idb_000030", "idc_000005", "idd_000001", "gone_000001", "16_000332"]
    paths = [
        "x/id-a_b_000012.mp4",
        "idb_1_11.mkv",
        "idb_30000_40000.mp4",
        "v_idc.mp4",
        "idd_000002_000012.mp4",
        "16.mp4",
    ]
    found = match(annotations("vggss", *names), paths)
    assert {path: boxes[0].path for path, boxes in found.truth.items()} == {
        paths[0]: names[0], paths[1]: names[1], paths[2]: names[2], paths[3]: names[3], paths[5]: names[6]
    }  # fmt: skip
    assert found.missing == ["idd_000001", "gone_000001"]
    assert found.unannotated == [paths[4]]
    assert not match(annotations("is3", "idb_000001.jpg"), paths).truth


def test_names_that_several_videos_have_are_counted():
    paths = ["a/1.mp4", "b/1.mp4", "b/2.mp4"]
    found = match(annotations("avsbench", "/data/frames/b/1", "/data/frames/c/1", "2.png"), paths)
    assert list(found.truth) == ["b/1.mp4", "b/2.mp4"]
    assert found.ambiguous == ["/data/frames/c/1"]
    assert found.unannotated == ["a/1.mp4"]
