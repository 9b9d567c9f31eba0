"""`avssl locate`: its files, the page, an interrupted command, and videos in which there is nothing to locate."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import avssl
from avssl.cli import main
from avssl.clips.dataset import ClipDataset
from avssl.config import LocateConfig
from avssl.config.run_folder import read_config
from avssl.core.errors import UserError
from avssl.core.out_folder import folder_lock
from avssl.core.untrusted import open_arrays
from avssl.evaluate import feature_shards
from avssl.explore.assignments import read_assignments
from avssl.explore.page_data import taken
from avssl.explore.previews import read_previews
from avssl.locate import locate, silent_objects
from avssl.locate.tables import SCHEMA
from avssl.metrics.detection import box_ious
from avssl.sample.picture import write_mp4
from avssl.videos.box_annotations import Annotations, TrueBoxes

TRAIN = [
    "experiment=selavi_small", "task=both", "loss.localisation=1", "labelling.clusters=3", "labelling.heads=2",
    "labelling.passes=1", "optim.epochs=1", "optim.batch=12", "workers=0", "device=cpu",
]  # fmt: skip
WORDS = ["workers=0", "device=cpu"]


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory) -> Path:
    """A tiny run that learned to locate, with its page of clusters."""
    out = tmp_path_factory.mktemp("locate") / "run"
    assert main(["train", *indexed, *TRAIN, f"out={out}"]) == 0
    assert main(["clusters", f"run={out}", "previews=1", *WORDS]) == 0
    return out


def test_boxes_figures_and_the_page(run, tiny_sample, capsys, monkeypatch):
    kept = run.parent / "maps"
    monkeypatch.setattr(locate.shutil, "rmtree", lambda path, **_: path.rename(kept))
    (run / "clusters" / "names.json").write_text('{"avssl_names": 1, "clusters": {"1": {"name": "seven"}}}')
    capsys.readouterr()
    assert main(["locate", f"run={run}", *WORDS]) == 0
    printed, out = capsys.readouterr().out, run / "locate"
    figures = json.loads((out / "locate.json").read_text())

    table = pq.read_table(out / "boxes.parquet")
    assert table.schema.equals(SCHEMA)
    about = json.loads(table.schema.metadata[b"avssl"])
    assert (about["clusters"], about["names"]["1"]) == (3, "seven")
    boxes = {name: table[name].to_numpy() for name in SCHEMA.names}
    assert figures["boxes"] == len(table) > 0
    assert figures["videos"] <= 48
    assert ((boxes["x0"] >= 0) & (boxes["x0"] < boxes["x1"]) & (boxes["x1"] <= 1)).all()
    assert ((boxes["y0"] >= 0) & (boxes["y0"] < boxes["y1"]) & (boxes["y1"] <= 1)).all()
    assert (np.abs(boxes["score"]) <= 1.001).all()
    assert figures["tracks"] == len({*zip(boxes["path"], boxes["track"], strict=True)})

    known = read_assignments(run / "clusters")  # the clusters are those of `avssl clusters`, in its order
    label = dict(zip(known.path, known.label[:, known.chosen_head], strict=True))
    assert [label[path] for path in boxes["path"]] == boxes["cluster"].tolist()
    assert [*dict.fromkeys(boxes["path"])] == [path for path in known.path if path in {*boxes["path"]}]

    coco = json.loads((out / "boxes.coco.json").read_text())
    images = {image["id"]: image for image in coco["images"]}
    assert len(images) == figures["moments"] == len({image["file_name"] for image in images.values()})
    assert [c["name"] for c in coco["categories"]] == ["cluster_000", "seven", "cluster_002"]
    assert len(coco["annotations"]) == len(table)
    for annotation, x0, score in zip(coco["annotations"], boxes["x0"], boxes["score"], strict=True):
        assert annotation["bbox"][0] == pytest.approx(64 * x0, abs=1e-2)
        assert annotation["score"] == pytest.approx(score, abs=1e-5)
        assert annotation["area"] == pytest.approx(np.prod(annotation["bbox"][2:]), abs=0.1)
        assert images[annotation["image_id"]]["video"] in label

    assert figures["measured_split"] == "test"  # with the sample's own boxes.csv
    assert figures["measures"]["videos"] == 12
    assert {"own audio", "audio of another video", "centre of the frame", "random"} == {*figures["measures"]["rows"]}
    assert {"silence", "noise", "other"} == {*figures["measures"]["universal"]["pia"]}
    assert "audio of another video" in printed
    assert printed.splitlines()[-1].startswith(f"{len(table)} boxes in ")
    assert "avssl open" in printed.splitlines()[-1]

    assert figures["overlays"] > 0
    there = len(read_previews(run / "clusters" / "explorer" / "previews"))
    assert f"heat maps and boxes over {figures['overlays']} of {there} previews on the page of clusters\n" in printed
    assert (run / "clusters" / "explorer" / "data" / "locate.js").is_file()
    others = 0
    for path in sorted(kept.rglob("*.npz")):
        with open_arrays(path) as arrays:
            own, other = arrays["rows"], arrays["other_row"]
        assert (own != other).all()
        others += (other >= 0).sum()
    assert others >= 48


def test_one_split_says_how_many_previews_it_has(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    assert main(["locate", f"run={tmp_path}/run", *WORDS, "split=test"]) == 0
    explorer = tmp_path / "run" / "clusters" / "explorer"
    paths = [of.path for of in read_previews(explorer / "previews").values()]
    maps = sum(path.startswith("test/") for path in paths)
    assert maps < len(paths)
    words = f"heat maps and boxes over {maps} of {len(paths)} previews on the page of clusters: only the split test "
    assert f"{words}is located\n" in capsys.readouterr().out
    index = taken(explorer / "data" / "locate.js")
    assert (index["split"], index["maps"]) == ("test", maps)


def test_an_interrupted_command_is_resumed_to_the_same_files(run, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_shards, "SHARD", 4)
    words = ["locate", f"run={run}", *WORDS, "split=test"]
    assert main([*words, f"out={tmp_path}/whole"]) == 0
    real, calls = ClipDataset.__getitem__, []

    def stopped(self, request):
        calls.append(request.video)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(self, request)

    monkeypatch.setattr(ClipDataset, "__getitem__", stopped)
    mine = tmp_path / "again" / "maps"
    mine.mkdir(parents=True)
    (mine / "mine.txt").write_text("mine")
    assert main([*words, f"out={tmp_path}/again"]) == 130
    assert not (tmp_path / "again" / "boxes.parquet").exists()
    assert main([*words, f"out={tmp_path}/again"]) == 0
    assert len(calls) == 12 + 3  # the first file of four was not computed again
    for name in ("boxes.parquet", "boxes.coco.json", "locate.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    files = {path.name for path in (tmp_path / "again").iterdir()}
    assert files == {".lock", "boxes.parquet", "boxes.coco.json", "locate.json", "silent.parquet", "maps"}
    assert (mine / "mine.txt").read_text() == "mine"


def test_silent_objects_of_the_training_split_are_written_and_a_damaged_part_is_told(
    run, tmp_path, monkeypatch, capsys
):
    """Of a run that learned nothing: labels are made up, and every maximum outside the box counts."""

    def labels(model, features):
        label = (1e4 * features["video"].abs().sum(1)).long() % model.clusters
        return {"joint": (label.expand(2, -1), label.new_ones(2, len(label)))}

    monkeypatch.setattr("avssl.locate.heat_pass.labels_of", labels)
    monkeypatch.setattr(silent_objects, "LEAST_LEVEL", -np.inf)
    monkeypatch.setattr(locate.shutil, "rmtree", lambda *_, **__: None)
    out = tmp_path / "out"
    assert main(["locate", f"run={run}", *WORDS, f"out={out}"]) == 0
    silent, boxes = (pq.read_table(out / name) for name in ("silent.parquet", "boxes.parquet"))
    figures = json.loads((out / "locate.json").read_text())
    assert silent.schema.equals(silent_objects.SCHEMA)
    assert figures["silent_objects"] == len(silent) > 0
    assert f"silent objects: {len(silent):,}, found with the sounds" in capsys.readouterr().out
    of = [json.loads(table.schema.metadata[b"avssl"])["model"] for table in (silent, boxes)]
    assert of[0] == of[1]
    assert {*silent["split"].to_pylist()} == {"train"}
    places = {(x["path"], x["time"]): x for x in boxes.to_pylist()}
    rows = silent.to_pylist()
    assert [*dict.fromkeys(x["path"] for x in rows)] == [x for x in dict.fromkeys(boxes["path"].to_pylist())
                                                         if x in {*silent["path"].to_pylist()}]  # fmt: skip
    for row in rows:
        corners = np.array(
            [[x[name] for name in ("x0", "y0", "x1", "y1")] for x in (row, places[row["path"], row["time"]])]
        )
        assert box_ious(corners[:1], corners[1:])[0, 0] < silent_objects.SAME

    for path in out.rglob("*.npz"):
        with open_arrays(path) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        if "sound_peaks" in kept:
            np.savez(path, **{**kept, "sound_peaks": kept["sound_peaks"][..., :-1]})
    assert main(["locate", f"run={run}", *WORDS, f"out={out}"]) == 2
    assert "its maps with the sounds of clusters differ in shape" in capsys.readouterr().err
    assert main(["locate", f"run={run}", *WORDS, "split=test", f"out={tmp_path}/test"]) == 0
    assert len(pq.read_table(tmp_path / "test" / "silent.parquet")) == 0


def test_two_objects_are_located_with_a_sound_of_their_class_each(run, tiny_sample, tmp_path, monkeypatch, capsys):
    """The videos of the sample, as if there were a second object in each; the table is what it is without."""
    paths = sorted(path.relative_to(tiny_sample).as_posix() for path in (tiny_sample / "test").rglob("*.mp4"))
    others = {"same": ["digit_0"] * 3, "other": ["digit_1", "digit_2", "digit_0"]}
    real, seen, figures = locate.locate_objects, [], {}

    def kept(part, *words):
        found = real(part, *words)
        seen.append((part, found))
        return found

    monkeypatch.setattr(locate, "locate_objects", kept)
    for which, classes in others.items():
        lines = ["path,time,sounding,x0,y0,x1,y1,class"]
        for i, path in enumerate(paths):
            names = ("digit_0" if which == "same" else f"digit_{i % 3}", classes[i % 3])
            lines += [f"{path},,1,0.1,0.1,0.5,0.9,{names[0]}", f"{path},,0,0.5,0.1,0.9,0.9,{names[1]}"]
        (tmp_path / "true.csv").write_text("\n".join(lines) + "\n")
        words = ["locate", f"run={run}", *WORDS, f"truth={tmp_path}/true.csv", f"out={tmp_path}/{which}"]
        assert main(words) == 0
        figures[which] = json.loads((tmp_path / which / "locate.json").read_text())["measures"]
    found = figures["other"].pop("interactive")
    assert (found["pictures"], found["objects"]) == (12, 24)
    assert "each of two objects with a sound of its class: IIoU " in capsys.readouterr().out
    assert figures["other"] == figures["same"]
    assert (tmp_path / "same/boxes.parquet").read_bytes() == (tmp_path / "other/boxes.parquet").read_bytes()

    part, objects = seen[1]
    assert seen[0][1] is None  # one class twice is no picture of two
    own = dict(zip(part.paths, part.maps["final"][:, 0], strict=True))  # [moments, h, w] of each
    for truth, heat in zip(objects.truth, objects.maps, strict=True):
        moments = own[truth.path]
        same = min(np.abs(moment - heat).max() for moment in moments)
        assert (same < 1e-5) == (truth.boxes[0, 0] == 0.1)  # what sounds alone is heard with its own audio


@pytest.fixture
def odd(run, tiny_sample, tmp_path) -> Path:
    """The run with other videos: two good ones, one silent, one without audio, one that became text."""
    folder, copy = tmp_path / "odd", tmp_path / "run"
    folder.mkdir()
    good = sorted((tiny_sample / "test").rglob("*.mp4"))
    for i in (0, 1):
        shutil.copy(good[i], folder / f"good_{i}.mp4")
    shutil.copy(good[2], folder / "text.mp4")
    frames = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    write_mp4(folder / "silent.mp4", frames, np.zeros(48000, np.float32), fps=15, audio_rate=24000)
    with av.open(str(good[0])) as source, av.open(str(folder / "mute.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    words = [f"data.root={folder}", f"data.index={tmp_path}/index", "data.require_sound=false", "workers=0"]
    assert main(["index", *words]) == 0
    (folder / "text.mp4").write_text("no video")
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("locate", "clusters"))
    data = read_config(run).data
    text = (copy / "config.yaml").read_text()
    text = text.replace(f"root: {data.root}\n", f"root: {folder}\n").replace(
        f"index: {data.index}\n", f"index: {tmp_path}/index\n"
    )
    (copy / "config.yaml").write_text(text)
    return copy


def test_what_cannot_be_located_is_counted_and_a_weak_run_says_so(odd, capsys, monkeypatch):
    monkeypatch.setattr("avssl.models.localise.HEADS", "none")  # as if it had only learned to contrast
    truth = odd.parent / "true.csv"
    rows = ["path,frame,time,digit,sounding,x0,y0,x1,y1,class", "good_0.mp4,0,1.0,7,1,0.1,0.1,0.5,0.9,7",
            "gone.mp4,0,1.0,7,1,0.1,0.1,0.5,0.9,7"]  # fmt: skip
    truth.write_text("\n".join(rows) + "\n")
    assert main(["locate", f"run={odd}", *WORDS, f"truth={truth}"]) == 0
    printed = capsys.readouterr().out
    assert locate.WEAK in printed
    assert "left out: 1 video has changed since it was indexed" in printed
    assert "left out: 1 video without audio" in printed
    assert "left out: 1 clip in which nothing can be heard" in printed
    assert "annotated videos that are not in the index or have no audio: 1" in printed
    assert "; writing to " in printed  # the step, before the figures
    assert "avssl clusters" in printed.splitlines()[-1]  # it has no page yet
    figures = json.loads((odd / "locate" / "locate.json").read_text())
    assert (figures["weak"], figures["videos"], figures["undecodable"], figures["overlays"]) == (True, 2, 1, 0)
    assert {*pq.read_table(odd / "locate" / "boxes.parquet")["path"].to_pylist()} == {"good_0.mp4", "good_1.mp4"}

    pairs = odd.parent / "negatives.csv"  # the frames of one video with the audio of the other
    pairs.write_text("video,audio,label\ngood_0,good_1,non-sounding\ngood_1,gone,non-sounding\n")
    boxes = [{"file": "good_1", "class": "seven", "bbox": [[0.1, 0.1, 0.5, 0.9]]}]
    (odd.parent / "vggss.json").write_text(json.dumps(boxes))
    assert main(["locate", f"run={odd}", *WORDS, f"truth={pairs}"]) == 0
    printed = capsys.readouterr().out
    assert "annotations with the audio of a video that is not in the index: 1" in printed
    assert "with 1 moment in which nothing sounds: AP" in printed
    figures = json.loads((odd / "locate" / "locate.json").read_text())
    assert (figures["measures"]["moments"], figures["measures"]["negatives"]["moments"]) == (1, 1)

    truth.write_text("\n".join([rows[0], rows[2]]) + "\n")
    assert main(["locate", f"run={odd}", *WORDS, f"truth={truth}"]) == 2
    assert "none of the 1 annotation belongs to a video of the index" in capsys.readouterr().err


def test_one_cluster_for_everything_is_warned_about(run, capsys):
    class Run:
        name = "runs/a"

    figures = {"without_audio": 0, "silent_clips": 0, "boxes": 9, "clusters": 3, "used_clusters": 1}
    locate.tell_left_out(figures, [], Run(), locate.Console())  # type: ignore[arg-type]
    assert "all boxes have the same cluster, although runs/a has 3" in capsys.readouterr().err
    locate.tell_left_out({**figures, "new_videos": "new"}, [], Run(), locate.Console())  # type: ignore[arg-type]
    assert not capsys.readouterr().err  # a few new videos may show the same
    locate.tell_left_out({**figures, "boxes": 0}, [], Run(), locate.Console())  # type: ignore[arg-type]
    assert "no heat map has a box" in capsys.readouterr().err


def test_its_options_have_the_defaults_of_the_published_form():
    config = LocateConfig(run="run")
    assert (config.beta, config.clips, config.prior, config.prior_weight) == (0.3, 1, "", 0.6)


def test_new_videos_get_the_boxes_of_the_index_also_in_python(run, tiny_sample, tmp_path, capsys):
    new, out = tmp_path / "new", tmp_path / "out"
    shutil.copytree(tiny_sample / "test", new / "test")
    shutil.copy(tiny_sample / "boxes.csv", new)
    (new / "text.mp4").write_text("no video")
    (new / "other.txt").write_text("image,left,top,right,bottom\n1.jpg,1,2,3,4\n")
    before = sorted(new.rglob("*"))
    assert main(["locate", f"run={run}", *WORDS, "split=test", f"out={tmp_path}/own"]) == 0
    own = pq.read_table(tmp_path / "own" / "boxes.parquet").drop_columns(["split"])
    capsys.readouterr()
    assert main(["locate", str(new), f"run={run}", *WORDS, f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "left out: 1 file that cannot be used, such as text.mp4" in printed
    assert "of 12 videos with true boxes" in printed  # measured with the folder's own boxes.csv
    found = pq.read_table(out / "boxes.parquet")
    assert {*found["split"].to_pylist()} == {"all"}
    assert found.drop_columns(["split"]).equals(own)
    assert sorted(new.rglob("*")) == before

    (new / "other.txt").replace(new / "boxes.csv")  # another program's file does not stop the command
    assert main(["locate", str(new), f"run={run}", *WORDS, f"out={out}"]) == 0
    assert "nothing is measured: " in capsys.readouterr().err
    assert "measures" not in json.loads((out / "locate.json").read_text())
    assert main(["locate", str(new), f"run={run}", *WORDS, f"out={out}", f"truth={new}/boxes.csv"]) == 2
    assert "boxes.csv has the columns image,left,top,right,bottom: true boxes need" in capsys.readouterr().err

    (new / "text.mp4").rename(tmp_path / "text.mp4")
    before = [path for path in before if path.name not in ("text.mp4", "other.txt")]
    names = tmp_path / "names.json"
    names.write_text('{"avssl_names": 1, "clusters": {"1": {"name": "seven"}}}')
    table = avssl.load(run, device="cpu").locate(new, names, cache=tmp_path / "maps")
    assert table["path"].to_pylist() == [f"{new}/{path}" for path in own["path"].to_pylist()]
    for name in own.column_names[1:]:
        assert table[name].equals(own[name])
    title = {0: "cluster_000", 1: "seven", 2: "cluster_002"}
    assert table["name"].to_pylist() == [title[k] for k in own["cluster"].to_pylist()]
    assert [path.suffix for path in (tmp_path / "maps").rglob("*.npz")] == [".npz"]
    with pytest.raises(UserError, match="none has audio; the first that cannot be used is .*text.mp4"):
        avssl.load(run, device="cpu").locate([tmp_path / "text.mp4"])
    assert sorted(new.rglob("*")) == before


def test_new_videos_of_one_name_have_one_folder(run, tiny_sample, tmp_path, capsys):
    good = sorted((tiny_sample / "test").rglob("*.mp4"))
    for name in ("a", "b"):
        (tmp_path / name / "new").mkdir(parents=True)
        shutil.copy(good[0], tmp_path / name / "new")
    words = ["locate", f"run={run}", *WORDS]
    assert main([*words, f"videos={tmp_path}/a/new"]) == 0
    assert (run / "locate" / "videos" / "new" / "boxes.parquet").is_file()
    capsys.readouterr()
    assert main([*words, f"videos={tmp_path}/b/new"]) == 2
    assert f"contains the boxes of {tmp_path}/a/new: choose another folder with out=" in capsys.readouterr().err
    assert main([*words, f"videos={tmp_path}/b/new", "split=test"]) == 2
    capsys.readouterr()
    with folder_lock(run / "locate" / "videos" / "new"):
        assert main([*words, f"videos={tmp_path}/a/new"]) == 2
    assert "another command is writing to" in capsys.readouterr().err
    assert main([*words, f"videos={good[0]}", f"out={tmp_path}/one"]) == 0
    assert {*pq.read_table(tmp_path / "one" / "boxes.parquet")["path"].to_pylist()} == {good[0].name}


def test_annotations_of_a_split_that_was_not_asked_for_are_not_said_to_be_missing():
    rows = {"test": pa.table({"path": ["a.mp4"]})}
    annotated = [TrueBoxes(path, 1.0, np.array([[0, 0, 0.5, 0.5]])) for path in ("a.mp4", "b.mp4")]
    truth, counts = locate.matched(Annotations("sample", annotated), rows, "the split test")
    assert [*truth[0]] == [0]
    assert not +counts
    assert locate.matched(Annotations("sample", annotated), rows)[1]["annotated videos that are not in the index"] == 1
    with pytest.raises(UserError, match="belongs to a video of the split test"):
        locate.matched(Annotations("sample", annotated[1:]), rows, "the split test")
