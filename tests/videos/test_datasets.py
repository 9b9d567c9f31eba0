"""Every data set in miniature: its layout, its split files' syntax, and what is wrong with copies of it."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.cli import main
from avssl.clips.dataset import ClipDataset, Pass, Request
from avssl.clips.decode import ClipSpec, read_clips
from avssl.config import ClipConfig, DataConfig, IndexConfig
from avssl.config.compose import compose_config, groups
from avssl.config.words import accepted, read_words
from avssl.core.errors import ClipError, UserError
from avssl.videos.index import index_videos, read_index
from avssl.videos.match import TIMES, match_annotations
from avssl.videos.repeat import repeated
from tests.media.make_media import noise, numbered_frames, talking, write_media


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """clip: 1.5 s with sound; mute: without; whole: 9 s, with sound from 4 s on alone."""
    folder = tmp_path_factory.mktemp("media")
    times = [i / 5 for i in range(45)]
    loud = noise(8000, 9.0) * (np.arange(72000) >= 32000)
    frames = numbered_frames(45, (16, 16))
    return {
        "clip": talking(folder / "clip.mp4"),
        "mute": write_media(folder / "mute.avi", times[:10], frames[:10], None, video_codec="mpeg4"),
        "whole": write_media(folder / "whole.mkv", times, frames, loud, 8000, audio_codec="pcm_s16le"),
    }


def fill(root: Path, paths: list[str], video: Path) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / path)
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def data_of(name: str, root: Path, annotations: Path | None = None, *words: str) -> DataConfig:
    given = [] if annotations is None else [f"data.annotations={annotations}"]
    index = f"data.index={root.parent / 'index'}"
    return compose_config("index", IndexConfig, [f"data={name}", f"data.root={root}", index, *given, *words]).data


def indexed(data: DataConfig) -> dict[str, tuple[str, str | None]]:
    """Split and class of every indexed path."""
    report = index_videos(IndexConfig(data=data, workers=1))
    rows = [row for split in report.rows for row in read_index(data.index, split).to_pylist()]
    return {row["path"]: (row["split"], row["class"]) for row in rows}


CLIP = ClipConfig(short_side_min=16, short_side_max=16, crop=16)


def table(path: str | Path) -> list[list[str]]:
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))[1:]


# the cards


@pytest.mark.parametrize("name", groups()["data"])
def test_a_card_agrees_with_itself(name: str) -> None:
    data = data_of(name, Path("/somewhere/root"))
    card = data.card
    assert card.title
    assert card.layouts
    if card.class_names:
        assert len(set(card.class_names)) == len(card.class_names) == card.classes
    if data.format == "none":
        return
    assert card.url.startswith("https://")
    assert card.annotations_url.startswith("https://")
    assert card.licence
    assert data.name == name
    for _, names in card.file_names(1):
        assert not any("{" in n for n in names)


def test_published_counts() -> None:
    ucf, hmdb = (data_of(name, Path("/x/y")).card for name in ("ucf101", "hmdb51"))
    assert [c["train"] + c["test"] for c in ucf.counts] == [13320] * 3
    assert ucf.expected(1) == {"all": 13320, "train": 9537, "test": 3783}
    assert [ucf.expected(fold)["test"] for fold in (2, 3, 4) if ucf.expected(fold)] == [3734, 3696]
    assert hmdb.expected(3)["train"] == 51 * 70
    assert sum(data_of("ave", Path("/x/y")).card.expected(1).values()) == 4143
    assert len(hmdb.file_names(2)) == 51
    assert hmdb.file_names(2)[1][1] == ["cartwheel_test_split2.txt"]


def test_a_card_is_no_option(capsys) -> None:
    assert main(["index", "data.root=x", "data.card.url=y"]) == 2
    assert "unknown option 'data.card.url'" in capsys.readouterr().err
    assert main(["index", "--help"]) == 0
    assert "card" not in capsys.readouterr().out


# the data sets


def test_vggsound(tmp_path: Path, media: dict[str, Path]) -> None:
    root = tmp_path / "root"
    fill(root, ["--0PQM4-hqg_000030.mp4", "video/-A_b_000012_000022.mp4", "a_12_34567_000005.mp4"], media["clip"])
    fill(root, ["ms/plain-IDxyz_7000_17000.mp4", "Not_in_list00.mp4", "other_start_000099.mp4"], media["clip"])
    listed = write(
        tmp_path / "vggsound.csv",
        '\ufeff--0PQM4-hqg,30,"waterfall burbling",train\r\n-A_b,12,"bird chirping, tweeting",test\r\n'
        'a_12_34567,5,people marching,train\r\nplain-IDxyz,7,"dog ""woof""",test \r\ndead_video1,0,dog,train\r\n'
        "other_start,10,dog,test\r\n\r\n",
    )
    data = data_of("vggsound", root, listed)
    assert indexed(data) == {
        "--0PQM4-hqg_000030.mp4": ("train", "waterfall burbling"),
        "video/-A_b_000012_000022.mp4": ("test", "bird chirping, tweeting"),
        "a_12_34567_000005.mp4": ("train", "people marching"),
        "ms/plain-IDxyz_7000_17000.mp4": ("test", 'dog "woof"'),
    }
    folder = Path(data.index)
    assert table(folder / "missing.csv") == [
        ["train", "dog", "dead_video1", "0.0", "10.0"],
        ["test", "dog", "other_start", "10.0", "20.0"],
    ]
    assert table(folder / "unlisted.csv") == [
        ["Not_in_list00.mp4", "not annotated"],
        ["other_start_000099.mp4", "not annotated"],
    ]
    noted = json.loads((folder / "index.json").read_text())
    assert noted["annotated"] == {"train": 3, "test": 3}
    assert noted["found"] == {"train": 2, "test": 2}


def test_whole_videos_are_cut_at_their_annotations(tmp_path: Path, media: dict[str, Path]) -> None:
    root = fill(
        tmp_path / "root", ["loud.mkv", "quiet.mkv", "beyond.mkv", "both.mkv", "named_000004.mkv"], media["whole"]
    )
    fill(root, ["cut.mp4"], media["clip"])
    listed = write(
        tmp_path / "train.csv",
        "label,youtube_id,time_start,time_end,split\na,loud,5,8,train\na,quiet,1,3,train\na,beyond,40,43,train\n"
        "a,cut,20,22,train\na,both,4,6,train\nb,both,7,9.5,train\na,named,4,7,train\n",
    )
    data = data_of("kinetics400", root, listed)
    report = index_videos(IndexConfig(data=data, workers=1))
    rows = read_index(data.index, "train").to_pylist()
    windows = {(r["path"], r["class"]): (r["window_start"], pytest.approx(r["window_seconds"], abs=0.2)) for r in rows}
    assert windows == {
        ("loud.mkv", "a"): (5.0, 3.0),
        ("both.mkv", "a"): (4.0, 2.0),
        ("both.mkv", "b"): (7.0, 2.0),
        ("named_000004.mkv", "a"): (0.0, 9.0),
        ("cut.mp4", "a"): (0.0, 1.5),
    }
    assert report.videos == {"train": 5}
    rejects = {row[0]: row[3:5] for row in table(Path(data.index) / "rejects.csv")}
    assert rejects["quiet.mkv"][0] == "silent"
    assert rejects["beyond.mkv"][0] == "too short"
    assert "annotated at 40 s" in rejects["beyond.mkv"][1]
    dataset = ClipDataset(read_index(data.index, "train"), root, CLIP)
    place = [(r["path"], r["class"]) for r in rows].index(("loud.mkv", "a"))
    item = dataset[Request(place, Pass.EVALUATE, 0)]
    assert item.clips is not None
    assert not item.failures

    cut = index_videos(IndexConfig(data=data_of("kinetics400", root, listed, "data.window_seconds=1"), workers=1))
    starts = [r["window_start"] for r in read_index(data.index, "train").to_pylist() if r["path"] == "loud.mkv"]
    assert starts == [5, 6, 7]
    assert cut.probed <= 2  # the annotated ones' whole sound is known already

    data = data_of("kinetics400", root, listed, "data.trimmed=always")
    assert {r["window_start"] for r in rows_of(data)} == {0.0}
    never = rows_of(data_of("kinetics400", root, listed, "data.trimmed=never"))
    assert [r["window_start"] for r in never if r["path"] == "named_000004.mkv"] == [4.0]


def rows_of(data: DataConfig) -> list[dict]:
    index_videos(IndexConfig(data=data, workers=1))
    return read_index(data.index, "train").to_pylist()


def test_kinetics(tmp_path: Path, media: dict[str, Path]) -> None:
    root = tmp_path / "root"
    fill(
        root,
        ["train/riding a bike/-12_-x_abcd_000010_000020.mp4", "val/abseiling/vv_000000_000010.mp4"],
        media["clip"],
    )
    fill(root, ["test/tt_000100_000110.mp4", "val/_singing_/copy/vv_000000_000010.mp4"], media["clip"])
    folder = tmp_path / "annotations"
    write(
        folder / "train.csv",
        "label,youtube_id,time_start,time_end,split,is_cc\r\nriding a bike,-12_-x_abcd,10,20,train,0\r\n",
    )
    write(
        folder / "validate.csv",
        '"label","youtube_id","time_start","time_end","split"\n"abseiling",vv,0,10,validate\n',
    )
    write(folder / "test.csv", "youtube_id,time_start,time_end,split\ntt,100,110,test\ndead,1,11,test\n")
    data = data_of("kinetics400", root, folder)
    assert indexed(data) == {
        "train/riding a bike/-12_-x_abcd_000010_000020.mp4": ("train", "riding a bike"),
        "val/abseiling/vv_000000_000010.mp4": ("val", "abseiling"),
        "test/tt_000100_000110.mp4": ("test", None),
    }
    assert table(Path(data.index) / "missing.csv") == [["test", "", "dead", "1.0", "11.0"]]
    assert table(Path(data.index) / "unlisted.csv") == [
        ["val/_singing_/copy/vv_000000_000010.mp4", "another file of an annotated video"]
    ]


def test_kinetics_sound_is_a_part_of_kinetics(tmp_path: Path, media: dict[str, Path], capsys) -> None:
    root = fill(tmp_path / "root", ["train/aaa_000001_000011.mp4", "train/bbb_000001_000011.mp4"], media["clip"])
    listed = write(
        tmp_path / "a/train.csv",
        "label,youtube_id,time_start,time_end,split\ntap dancing,aaa,1,11,train\nabseiling,bbb,1,11,train\n"
        "abseiling,dead,1,11,train\n",
    )
    data = data_of("kinetics_sound", root, listed.parent)
    assert indexed(data) == {"train/aaa_000001_000011.mp4": ("train", "tap dancing")}
    assert table(Path(data.index) / "missing.csv") == table(Path(data.index) / "unlisted.csv") == []
    words = [f"data.root={root}", f"data.index={data.index}", f"data.annotations={listed.parent}"]
    assert main(["index", "data=kinetics_sound", *words]) == 0
    assert "1 file is in other classes" in capsys.readouterr().out

    by_folder = fill(tmp_path / "folders", ["train/tap_dancing/1.mp4", "train/Abseiling/2.mp4"], media["clip"])
    data = data_of("kinetics_sound", by_folder, None, f"data.index={tmp_path / 'index2'}")
    assert indexed(data) == {"train/tap_dancing/1.mp4": ("train", "tap_dancing")}
    flat = fill(tmp_path / "flat", ["1.mp4"], media["clip"])
    with pytest.raises(UserError, match=r"data\.keep_classes"):
        indexed(data_of("kinetics_sound", flat, None, f"data.index={tmp_path / 'index3'}"))


def test_ave(tmp_path: Path, media: dict[str, Path]) -> None:
    root = fill(tmp_path / "root", ["AVE/-3jhHgFEUp4.mp4", "AVE/bbb.mp4", "AVE/ccc.mp4", "AVE/ddd.mp4"], media["clip"])
    write(tmp_path / "AVE_Dataset/Annotations.txt", "Category&VideoID&Quality&StartTime&EndTime\nBark&bbb&good&7&9\n")
    write(
        tmp_path / "AVE_Dataset/trainSet.txt",
        "Male speech, man speaking&-3jhHgFEUp4&good&6&10\r\nBark&bbb&good&7&9\r\n\r\n",
    )
    write(tmp_path / "AVE_Dataset/valSet.txt", "Church bell&ccc&good&0&10\n")
    write(tmp_path / "AVE_Dataset/testSet.txt", "Church bell&eee&good&0&0\nFrying (food)&ddd&good&0&2 \n")
    data = data_of("ave", root, tmp_path / "AVE_Dataset")
    assert indexed(data) == {
        "AVE/-3jhHgFEUp4.mp4": ("train", "Male speech, man speaking"),
        "AVE/bbb.mp4": ("train", "Bark"),
        "AVE/ccc.mp4": ("val", "Church bell"),
        "AVE/ddd.mp4": ("test", "Frying (food)"),
    }
    assert {r["window_start"] for r in read_index(data.index, "train").to_pylist()} == {0.0}
    assert table(Path(data.index) / "missing.csv") == [["test", "Church bell", "eee", "", ""]]


HEADER = (
    "# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=2, num_segs=2\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)


def test_audioset(tmp_path: Path, media: dict[str, Path]) -> None:
    root = fill(tmp_path / "root", ["Y--PJHxphWEs.mp4", "--aE2O5G5WE_0_10000.mp4", "zz/eval_000030.mp4"], media["clip"])
    folder = tmp_path / "segments"
    write(folder / "balanced_train_segments.csv", HEADER + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n')
    write(folder / "unbalanced_train_segments.csv", HEADER + '--aE2O5G5WE, 0.000, 10.000, "/m/03fwl,/m/unknown"\n')
    write(folder / "eval_segments.csv", HEADER + 'eval, 30.000, 40.000, "/m/09x0r"\n')
    write(
        folder / "class_labels_indices.csv",
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/t/dd00088,"Gush"\n2,/m/03fwl,"Goat, bleat"\n',
    )
    data = data_of("audioset", root, folder)
    assert indexed(data) == {
        "Y--PJHxphWEs.mp4": ("train", "Gush; Speech"),
        "--aE2O5G5WE_0_10000.mp4": ("train", "/m/unknown; Goat, bleat"),
        "zz/eval_000030.mp4": ("test", "Speech"),
    }
    data = data_of("audioset_balanced", root, folder, f"data.index={tmp_path / 'index2'}")
    assert set(indexed(data)) == {"Y--PJHxphWEs.mp4", "zz/eval_000030.mp4"}
    assert table(tmp_path / "index2/unlisted.csv") == [["'--aE2O5G5WE_0_10000.mp4", "not annotated"]]


def test_ucf101(tmp_path: Path, media: dict[str, Path], capsys) -> None:
    root = tmp_path / "UCF-101"
    fill(
        root,
        ["HandStandPushups/v_HandstandPushups_g01_c01.avi", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"],
        media["mute"],
    )
    fill(root, ["YoYo/v_YoYo_g25_c05.avi"], media["mute"])
    lists = tmp_path / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 ApplyEyeMakeup\r\n37 HandstandPushups\r\n101 YoYo\r\n")
    write(lists / "trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nYoYo/v_YoYo_g25_c05.avi 101\r\n")
    write(lists / "testlist01.txt", "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n")
    write(lists / "trainlist02.txt", "HandstandPushups/v_HandStandPushups_g01_c01.avi 37\n")
    write(lists / "testlist02.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\nYoYo/v_YoYo_g25_c05.avi\n")
    first = indexed(data_of("ucf101", root, lists))
    assert first == {
        "HandStandPushups/v_HandstandPushups_g01_c01.avi": ("test", "HandstandPushups"),
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi": ("train", "ApplyEyeMakeup"),
        "YoYo/v_YoYo_g25_c05.avi": ("train", "YoYo"),
    }
    second = indexed(data_of("ucf101", root, tmp_path, "data.fold=2"))  # the lists one folder deeper
    assert {path: split for path, (split, _) in second.items()} == {
        path: {"train": "test", "test": "train"}[split] for path, (split, _) in first.items()
    }
    with pytest.raises(UserError, match=r"no trainlist04\.txt"):
        indexed(data_of("ucf101", root, lists, "data.fold=4"))
    with pytest.raises(UserError, match="3 no sound"):
        indexed(data_of("ucf101", root, lists, "data.require_sound=true"))
    capsys.readouterr()
    assert main(["index", "data=ucf101", f"data.root={root}", f"data.index={tmp_path / 'index'}"]) == 0
    out = capsys.readouterr().out
    assert "all: 13,317 fewer than the 13,320 published videos" in out
    assert "data.annotations=<folder of trainlist01.txt>" in out
    assert not (tmp_path / "index/missing.csv").exists()


def test_hmdb51(tmp_path: Path, media: dict[str, Path]) -> None:
    odd = "#122_Cleaning_Up_The_Beach_(_Nippidotcom_)_sit_f_nm_np1_le_med_0.avi"
    odder = "50_FIRST_DATES_[;]_sit_f_cm_np1_fr_med_12.avi"
    root = fill(tmp_path / "root", [f"sit/{odd}", f"sit/{odder}", "wave/a_wave.avi", "wave/b_wave.avi"], media["mute"])
    folder = tmp_path / "testTrainMulti_7030_splits"
    for name in data_of("hmdb51", root).card.class_names:
        write(folder / f"{name}_test_split1.txt", "")
    write(folder / "sit_test_split1.txt", f"{odd} 1 \n{odder} 2 \n")
    write(folder / "wave_test_split1.txt", "a_wave.avi 0 \r\nb_wave.avi\t1\r\ndead.avi 1 \r\n")
    data = data_of("hmdb51", root, folder)
    assert indexed(data) == {
        f"sit/{odd}": ("train", "sit"),
        f"sit/{odder}": ("test", "sit"),
        "wave/b_wave.avi": ("train", "wave"),
    }
    assert table(Path(data.index) / "missing.csv") == [["train", "wave", "dead", "", ""]]
    assert table(Path(data.index) / "unlisted.csv") == []
    matched = match_annotations(data, tmp_path / "again")
    assert (matched.left_out, matched.classes) == (1, 2)
    (folder / "clap_test_split1.txt").unlink()
    with pytest.raises(UserError, match=r"no clap_test_split1\.txt.*51 files"):
        indexed(data)


# what is printed


def test_the_report_says_what_is_there(tmp_path: Path, media: dict[str, Path], capsys) -> None:
    root = fill(tmp_path / "root", ["aaa.mp4", "bbb.mp4", "zzz.mp4"], media["clip"])
    listed = write(tmp_path / "vggsound.csv", "aaa,0,x,train\nbbb,0,y,test\nccc,0,y,test\nddd,0,y,test\n")
    words = [f"data.root={root}", f"data.index={tmp_path / 'index'}", f"data.annotations={listed}"]
    assert main(["index", "data=vggsound", *words, "workers=1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["split", "published", "annotated", "found", "usable"] in lines
    assert ["train", "183,730", "1", "1", "1"] in lines
    assert ["test", "15,446", "3", "1", "1"] in lines
    said = [" ".join(line) for line in lines]
    assert "test: 2 of 3 annotated videos (66.7 %) are missing" in said
    assert "2 classes are annotated, but 309 were published" in said
    assert any("1 file is not annotated" in line and "unlisted.csv" in line for line in said)


# what is wrong


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("vggsound", "vggsound.csv", "aaa,0,dog,train\naaa,zero,dog,train\n", "line 2: 'aaa,zero,dog,train' is not"),
        ("vggsound", "vggsound.csv", "aaa,0,bird, tweeting,train\n", "line 1"),
        ("vggsound", "vggsound.csv", "aaa,0,dog,trian\n", "line 1"),
        ("kinetics400", "train.csv", "a,b,c\n", "the columns label, youtube_id, time_start"),
        ("kinetics400", "train.csv", "label,youtube_id,time_start,time_end,split\nx,aaa,9,3,train\n", "line 2"),
        ("kinetics400", "train.csv", "label,youtube_id,time_start,time_end,split\nx,aaa,1\n", "5 fields"),
        (
            "kinetics400",
            "list.csv",
            "youtube_id,time_start,time_end\naaa,1,2\n",
            "of the split train, validate or test",
        ),
        ("ave", "trainSet.txt", "Bark&aaa&good&0\n", "Category&VideoID&Quality&StartTime&EndTime"),
        ("ave", "Annotations.txt", "Bark&aaa&good&0&10\n", "contains no split"),
        ("audioset", "eval_segments.csv", "aaa, 30\n", "YTID, start_seconds"),
        ("ucf101", "trainlist01.txt", "aaa 1\n", "line 1: 'aaa 1' is not Class/v_Class"),
        ("hmdb51", "sit_test_split1.txt", "aaa.avi 3\n", "a file name and 0, 1 or 2"),
        ("hmdb51", "sit.txt", "aaa.avi 1\n", "does not have the name of"),
        ("vggsound", "vggsound.csv", "bbb,0,dog,train\n", "no file below"),
        ("vggsound", "vggsound.csv", '"' + "x" * 200_000, "is not a CSV file"),
        ("folder", "vggsound.csv", "aaa,0,dog,train\n", "data.annotations needs a format"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, media, name: str, file: str, text: str, said: str, capsys) -> None:
    root = fill(tmp_path / "root", ["aaa.mp4"], media["clip"])
    listed = write(tmp_path / file, text)
    words = [f"data={name}", f"data.root={root}", f"data.index={tmp_path / 'index'}", f"data.annotations={listed}"]
    assert main(["index", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.glob("index/*"))


def test_missing_split_files_are_named(tmp_path: Path, media: dict[str, Path]) -> None:
    root = fill(tmp_path / "root", ["aaa.mp4"], media["clip"])
    (tmp_path / "empty").mkdir()
    for name, said in {
        "ucf101": r"no trainlist01\.txt: give the folder with trainlist01\.txt, testlist01\.txt; those of UCF101 are at https://",
        "kinetics600": r"none of train\.csv, val\.csv, test\.csv; those of Kinetics-600 are at https://",
        "audioset": r"no unbalanced_train_segments\.csv",
    }.items():
        with pytest.raises(UserError, match=said):
            indexed(data_of(name, root, tmp_path / "empty"))
    with pytest.raises(UserError, match=r"nowhere does not exist: give the folder of vggsound\.csv"):
        indexed(data_of("vggsound", root, tmp_path / "nowhere"))
    assert not (tmp_path / "index").exists()


def test_another_data_sets_index_is_left_alone(tmp_path: Path, media: dict[str, Path]) -> None:
    listed = write(tmp_path / "vggsound.csv", "aaa,0,dog,train\nbbb,0,dog,train\n")
    first = fill(tmp_path / "root", ["aaa.mp4"], media["clip"])
    second = fill(tmp_path / "other", ["bbb.mp4"], media["clip"])
    indexed(data_of("vggsound", first, listed))
    before = (tmp_path / "index/missing.csv").read_bytes()
    with pytest.raises(UserError, match=r"data\.index"):
        indexed(data_of("vggsound", second, listed))
    assert (tmp_path / "index/missing.csv").read_bytes() == before


# names


IDS = st.text("ab-_0189Yv", min_size=1, max_size=11).filter(lambda text: not text.startswith("."))


LAYOUTS = ["{i}", "{i}_{s}", "{i}_{s:06d}_{e:06d}", "Y{i}", "{i}_{m}_{n}"]


@settings(max_examples=50, deadline=None)
@given(st.sets(IDS, min_size=1, max_size=5), st.integers(0, 9999), st.sampled_from(LAYOUTS))
def test_any_id_is_found_in_any_layout(tmp_path_factory, ids: set[str], start: int, layout: str) -> None:
    folder = tmp_path_factory.mktemp("ids")
    times = {"s": start, "e": start + 10, "m": start * 1000, "n": start * 1000 + 10000}
    names = {layout.format(i=i, **times): i for i in ids}
    for name in names:
        (folder / "root" / name).mkdir(parents=True)
        (folder / "root" / name / f"{name}.mp4").touch()
    write(folder / "list.csv", "".join(f"{i},{start},class of {i},train\n" for i in ids))
    data = DataConfig(root=str(folder / "root"), annotations=str(folder / "list.csv"), format="vggsound")
    matched = match_annotations(data, folder / "out")
    assert matched.found["train"] == len(ids)
    if len(ids) == 1:
        (video,) = matched.videos
        assert video.class_name == f"class of {next(iter(ids))}"


def test_times_in_names() -> None:
    assert TIMES.fullmatch("_000010_000020")[1] == "000010"
    assert TIMES.fullmatch("_30.000_40.000")[1] == "30.000"
    assert TIMES.fullmatch("_7")[1] == "7"
    assert TIMES.fullmatch("_7_8_9") is None


# without sound


def test_videos_without_sound_are_for_video_encoders(tmp_path: Path, media: dict[str, Path]) -> None:
    root = fill(tmp_path / "root", ["a.avi"], media["mute"])
    data = data_of("folder", root, None, "data.require_sound=false")
    assert set(indexed(data)) == {"a.avi"}
    rows = read_index(data.index, "all")
    assert rows["audio_rate"].to_pylist() == rows["channels"].to_pylist() == [0]
    assert rows["duration"].to_pylist() == pytest.approx([2.0], abs=0.05)
    with pytest.raises(UserError, match="1 of 1 videos have no audio"):
        ClipDataset(rows, root, CLIP)
    item = ClipDataset(rows, root, CLIP, modalities=("video",))[Request(0, Pass.EVALUATE, 0)]
    assert item.clips is not None
    assert item.clips["video"].shape == (1, 30, 16, 16, 3)
    with pytest.raises(ClipError, match="no sound"):
        read_clips(root / "a.avi", [0.0], ClipSpec(30, 30.0, 24000, 1.0), 16)
    with pytest.raises(UserError, match="1 no sound.*; to keep .*: avssl index .* data.require_sound=false"):
        indexed(data_of("folder", root))


def test_what_is_silent_may_stay(tmp_path: Path) -> None:
    write_media(tmp_path / "root/a.mp4", [0.0, 0.5, 1.0, 1.5], numbered_frames(4), np.zeros(48000, np.float32))
    with pytest.raises(UserError, match="1 silent"):
        indexed(data_of("folder", tmp_path / "root"))
    assert set(indexed(data_of("folder", tmp_path / "root", None, "data.require_sound=false"))) == {"a.mp4"}


@pytest.mark.slow
def test_clusters_of_videos_without_sound(tmp_path: Path, media: dict[str, Path], capsys) -> None:
    root = fill(tmp_path / "root", [f"a/{i}.avi" for i in range(4)], media["mute"])
    words = [f"data.root={root}", f"data.index={tmp_path / 'index'}"]
    assert main(["index", *words, "data.require_sound=false", "workers=1"]) == 0
    words += [
        "experiment=selavi_small",
        "labelling.clusters=2",
        "optim.epochs=1",
        "workers=0",
        f"out={tmp_path / 'run'}",
    ]
    assert main(["train", *words]) == 2
    assert "4 of 4 videos have no audio" in capsys.readouterr().err
    assert main(["train", *words, "labelling.modalities=[video]"]) == 0
    assert main(["clusters", f"run={tmp_path / 'run'}", "workers=0"]) == 0
    assert len(list((tmp_path / "run/clusters/explorer/previews").rglob("*.mp4"))) == 4


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["data.name=a b", "data.window_seconds=2.0", "data.keep_classes=[x,'y z']", "data.extensions=[avi]"],
        ["data.min_seconds=0.5", "workers=1", "json=true"],
    ],
)
def test_the_command_to_repeat_makes_the_same_index(words: list[str], tmp_path: Path) -> None:
    root = str(tmp_path / "my videos")
    config = compose_config("index", IndexConfig, [f'data.root="{root}"', *words])
    command = repeated(config)
    assert command == f"avssl index '{root}'" or words
    known = accepted("avssl index", IndexConfig, {}, "data.root")
    Path(root).mkdir()
    assert compose_config("index", IndexConfig, read_words(known, shlex.split(command)[2:]).words) == config


def test_what_is_rejected_without_sound_is_kept_by_a_line_to_copy(tmp_path, media, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "holiday", ["a.avi"], media["mute"])
    fill(tmp_path / "holiday", ["b.avi"], media["clip"])
    assert main(["index", "holiday", "workers=1"]) == 0
    line = "to keep videos without audio: avssl index holiday workers=1 data.require_sound=false"
    assert line in capsys.readouterr().out
