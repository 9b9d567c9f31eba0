"""New videos: the labels are those of `avssl clusters`, nothing is done twice, and what cannot be used is told."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

import avssl
from avssl.cli import main
from avssl.config import FilesConfig, LabelConfig
from avssl.config.run_folder import read_config
from avssl.core.errors import UserError
from avssl.explore.assignments import read_assignments
from avssl.label import arriving, probed
from avssl.label.check_options import check_label
from avssl.sample.picture import write_mp4

WORDS = ["experiment=selavi_small", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=2", "optim.epochs=2",
         "optim.batch=12", "workers=0", "device=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory) -> Path:
    """A tiny run, and what `avssl clusters` says of its videos."""
    out = tmp_path_factory.mktemp("label") / "run"
    assert main(["train", *indexed, *WORDS, f"out={out}"]) == 0
    assert main(["clusters", f"run={out}", "previews=0", "workers=0"]) == 0
    return out


@pytest.fixture
def odd(tiny_sample, tmp_path) -> Path:
    """A folder of one good video, one without sound, one silent, one too short, one empty and one that is text."""
    folder = tmp_path / "odd"
    folder.mkdir()
    good = sorted((tiny_sample / "test").rglob("*.mp4"))[0]
    shutil.copy(good, folder / "good.mp4")
    with av.open(str(good)) as source, av.open(str(folder / "mute.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    frames = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    write_mp4(folder / "silent.mp4", frames, np.zeros(48000, np.float32), fps=15, audio_rate=24000)
    write_mp4(folder / "short.mp4", frames[:5], np.ones(8000, np.float32), fps=15, audio_rate=24000)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    return folder


def label(run: Path, *words: str) -> list[dict]:
    """The rows that `avssl label` writes."""
    assert main(["label", f"run={run}", "workers=0", "device=cpu", f"out={run}/label/x", *words]) == 0
    return pq.read_table(run / "label" / "x.parquet").to_pylist()


@pytest.mark.parametrize("head", [None, 0, 1])
def test_labels_of_held_out_videos_are_those_of_clusters(run, tiny_sample, head):
    rows = label(run, f"videos={tiny_sample}/test", *([] if head is None else [f"head={head}"]))
    known = read_assignments(run / "clusters")
    at = known.chosen_head if head is None else head
    by_path = {f"{tiny_sample}/{path}": i for i, path in enumerate(known.path)}
    assert len(rows) == known.split.count("test") == 12
    for row in rows:
        i = by_path[row["path"]]
        assert row["label"] == known.label[i, at]
        assert row["label_video"] == known.label_video[i, at]
        assert row["label_audio"] == known.label_audio[i, at]
        assert row["agreement"] == (row["label_video"] == row["label_audio"])
        assert row["confidence"] == pytest.approx(known.confidence_joint[i, at], abs=1e-4)
        assert (row["labelled_by"], row["reason"]) == ("both", "")


def test_the_threshold_is_met_by_the_share_of_the_runs_own_videos(run, tiny_sample):
    test = f"videos={tiny_sample}/test"
    assert sum(row["none_of_these"] for row in label(run, test, "reject=0.25")) == 3
    assert {row["none_of_these"] for row in label(run, test, "reject=0")} == {None}


def test_clusters_and_label_take_the_validation_split_where_there_is_no_test_split(run, tiny_sample, tmp_path, capsys):
    copy, index = tmp_path / "run", tmp_path / "index"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("clusters", "label"))
    config = OmegaConf.load(copy / "config.yaml")
    shutil.copytree(config.data.index, index)
    (index / "test.parquet").rename(index / "val.parquet")
    config.data.index = str(index)
    OmegaConf.save(config, copy / "config.yaml")
    assert main(["clusters", f"run={copy}", "previews=0", "workers=0"]) == 0
    said = capsys.readouterr().out
    assert said.count("12 videos") == 1
    assert "val: 12 videos, 3 clusters" in said
    assert json.loads((copy / "clusters" / "clustering.json").read_text())["reported"] == "val"
    label(copy, f"videos={tiny_sample}/test")
    assert len(json.loads((copy / "label" / "calibration.json").read_text())["scores"]) == 12


def test_agreement_score_is_of_the_heads():
    logits = {"video": torch.tensor([[[20.0, 0.0], [20.0, 0.0], [0.0, 0.0]]]),
              "audio": torch.tensor([[[20.0, 0.0], [0.0, 20.0], [0.0, 0.0]]])}  # fmt: skip
    from avssl.evaluate.predictions import agreement_score

    alike, apart, unsure = agreement_score(logits).tolist()
    assert alike == pytest.approx(0, abs=1e-6)
    assert apart < -19
    assert unsure == pytest.approx(np.log(0.5))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_used_is_told(run, odd, workers):
    rows = {Path(row["path"]).stem: row for row in label(run, f"videos={odd}", f"workers={workers}")}
    reasons = {name: row["reason"] for name, row in rows.items()}
    assert reasons == {"good": "", "mute": "", "silent": "", "short": "too short", "empty": "unreadable",
                       "text": "unreadable"}  # fmt: skip
    for name in ("mute", "silent"):  # labelled by their pictures
        row = rows[name]
        assert row["label"] == row["label_video"] >= 0
        assert (row["label_audio"], row["agreement"], row["labelled_by"]) == (None, None, "video")
        assert row["none_of_these"] is None  # there is nothing to agree with
    assert rows["good"]["none_of_these"] is not None
    assert rows["mute"]["label_video"] == rows["good"]["label_video"]
    for name in ("short", "empty", "text"):
        row = rows[name]
        assert (row["label"], row["confidence"], row["name"], row["none_of_these"]) == (-1, None, None, None)
    rows = {Path(row["path"]).stem: row for row in label(run, f"videos={odd}", "sound=required")}
    assert (rows["mute"]["reason"], rows["silent"]["reason"]) == ("no sound", "silent")


def test_a_list_is_read_as_it_comes(run, odd, monkeypatch, capsys):
    paths = [f"{odd}/good.mp4", "", f"{odd}/gone.mp4", str(odd), f"{odd}/good.mp4"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("\n".join(paths).encode())))
    rows = label(run, "videos=-")
    assert [(row["path"], row["reason"], row["detail"]) for row in rows] == [
        (paths[0], "", ""), (paths[2], "no file", "No such file or directory"), (paths[3], "no file", "a folder"),
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert f"{paths[0]}\tcluster_00" in out
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream, os.fdopen(write, "wb", 0) as pipe:
        batches = arriving.listed(stream)
        pipe.write(b"a.mp4\n")
        assert next(batches) == ["a.mp4"]  # before the list has ended
        pipe.write(b"b.mp4\nc.mp4")
        pipe.close()
        assert [path for batch in batches for path in batch] == ["b.mp4", "c.mp4"]


def test_nothing_is_done_twice_and_a_kill_loses_nothing_finished(run, odd, tmp_path, monkeypatch):
    words = [f"videos={odd}", f"out={tmp_path}/x"]
    done: list[str] = []
    real = probed.probe

    def counting(request):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(Path(request.path).name)
        return real(request)

    monkeypatch.setattr(probed, "probe", counting)
    monkeypatch.setattr("avssl.label.label.BATCH", 1)
    assert main(["label", f"run={run}", "workers=0", "device=cpu", *words]) == 130
    assert not (tmp_path / "x.parquet").exists()
    first = [*done]
    monkeypatch.setattr(probed, "probe", lambda request: done.append(Path(request.path).name) or real(request))
    label(run, *words)
    assert sorted(done) == sorted(path.name for path in odd.iterdir())  # each once
    assert done[:3] == first
    label(run, *words)
    assert len(done) == 6
    os.utime(odd / "text.mp4")
    label(run, *words)
    assert done[6:] == ["text.mp4"]


def test_names_are_given_after_labelling(run, odd, tmp_path):
    plain = {row["path"]: row for row in label(run, f"videos={odd}")}
    good = plain[f"{odd}/good.mp4"]
    names = {"avssl_names": 1, "clusters": {str(good["label"]): {"name": "dog", "mark": "reject"}}}
    (tmp_path / "names.json").write_text(json.dumps(names))
    row = {row["path"]: row for row in label(run, f"videos={odd}", f"names={tmp_path}/names.json")}[good["path"]]
    assert (good["name"], good["reason"]) == (f"cluster_{good['label']:03d}", "")
    assert (row["name"], row["reason"], row["score"]) == ("dog", "of a rejected cluster", good["score"])


def test_a_file_that_grows_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(arriving, "POLL", 0.01)
    (tmp_path / "old.mp4").write_text("old")
    os.utime(tmp_path / "old.mp4", (1, 1))
    looks = arriving.watched(str(tmp_path), FilesConfig(root="x"), 3600, 0, lambda: False)
    found: list[str] = []
    for number, files in enumerate(looks):
        found += [file.path for file in files]
        if number < 5:
            (tmp_path / "new.mp4").write_text("x" * number)
        elif number == 5:
            assert found == ["old.mp4"]
            os.utime(tmp_path / "new.mp4", (1, 1))  # written to the end long ago
        if "new.mp4" in found:
            break
    assert found == ["old.mp4", "new.mp4"]


def test_watching_ends_cleanly(run, odd, tmp_path):
    words = ["label", f"run={run}", f"videos={odd}", "watch=true", "workers=0", "threads=1",
             "settle_seconds=0", "device=cpu"]  # fmt: skip
    watching = subprocess.Popen(
        [sys.executable, "-u", "-m", "avssl", *words, f"out={tmp_path}/x"], stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(6)]
    assert {line.split("\t")[0] for line in lines} == {str(path) for path in odd.iterdir()}
    shutil.copy(odd / "good.mp4", odd / "later.mp4")
    assert watching.stdout.readline().startswith(f"{odd}/later.mp4\tcluster_")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(600) == 0
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 7


def test_watching_ends_when_nothing_comes(run, odd):
    began = time.monotonic()
    rows = label(run, f"videos={odd}", "watch=true", "watch_seconds=1", "settle_seconds=0")
    assert time.monotonic() - began > 1
    assert len(rows) == 6


def test_windows_are_labelled_as_the_run_was_trained(tiny_sample, tmp_path, capsys):
    data = [f"data.root={tiny_sample}", f"data.index={tmp_path}/index"]
    words = ["data.window_seconds=1", "data.min_seconds=1"]
    assert main(["index", *data, *words, "workers=1"]) == 0
    train = ["train", *data, *WORDS, "optim.epochs=1", f"out={tmp_path}/run"]
    assert main([*train, "data.window_seconds=2"]) == 2
    assert "data.window_seconds belongs to `avssl index`" in capsys.readouterr().err
    assert main(train) == 0  # with the index's windows
    assert main(["train", data[1], f"data.name={tiny_sample.name}", *train[3:]]) == 0  # the same run, by its index
    assert read_config(tmp_path / "run").data.root == str(tiny_sample.resolve())
    assert main(["clusters", f"run={tmp_path}/run", "previews=0", "workers=0", "split=test"]) == 0
    known = read_assignments(tmp_path / "run" / "clusters")
    rows = label(tmp_path / "run", f"videos={tiny_sample}/test")
    assert len(rows) > 12
    assert [(row["path"].removeprefix(f"{tiny_sample}/"), row["window_start"], row["label"]) for row in rows] == [
        *zip(known.path, known.window_start.tolist(), known.label[:, known.chosen_head].tolist(), strict=True)
    ]


def test_the_model_in_python(run, odd, tiny_sample):
    model = avssl.load(run)
    assert set(model.encoders) == {"video", "audio"}
    assert model.video is model.model.encoders["video"]
    test = sorted((tiny_sample / "test").rglob("*.mp4"))
    rows = model.label(test)
    assert model.label(tiny_sample / "test") == rows  # a folder
    assert [(row.path, row.label, row.none_of_these) for row in rows] == [
        (row["path"], row["label"], row["none_of_these"]) for row in label(run, f"videos={tiny_sample}/test")
    ]
    assert [row.name for row in rows] == [f"cluster_{row.label:03d}" for row in rows]
    (missing,) = model.label("gone.mp4")
    assert (missing.label, missing.reason) == (-1, "no file")
    (odd / "long.mp4").unlink(missing_ok=True)
    frames = np.random.default_rng(0).integers(0, 256, (45, 64, 64, 3), np.uint8)
    tone = np.sin(np.arange(72000) / 5).astype(np.float32)
    write_mp4(odd / "long.mp4", frames, tone, fps=15, audio_rate=24000)
    paths = [odd / "long.mp4", odd / "mute.mp4", odd / "text.mp4", odd / "good.mp4"]
    features = model.features(paths)
    assert features["video"].shape == features["audio"].shape == (4, 128)
    assert np.isfinite(features["video"]).all(1).tolist() == [True, True, False, True]
    assert np.isfinite(features["audio"]).all(1).tolist() == [True, False, False, True]
    np.testing.assert_allclose(features["video"][1], features["video"][3], atol=1e-4)
    seconds = model.features(paths, per_second=True)
    assert [x.shape for x in seconds["video"]][:3] == [(3, 128), (seconds["video"][1].shape[0], 128), (0, 128)]
    assert len(seconds["video"][1]) >= 1
    assert np.isnan(seconds["audio"][1]).all()
    whole = avssl.load(next((run / "checkpoints").glob("step_*")))
    assert whole.source.step is not None


def test_importing_avssl_is_quick():
    code = "import sys, avssl; avssl.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["videos=x"], "no run in runs: train one first"),
        (["run=RUN", "videos=nowhere"], "videos=nowhere does not exist"),
        (["run=RUN", "videos=RUN/config.yaml", "watch=true"], "needs a folder"),
        (["run=RUN", "videos=RUN/checkpoints"], "no videos in"),
        (["run=RUN", "videos=RUN", "reject=1"], "reject=1"),
        (["run=RUN", "videos=RUN", "head=9"], "there are 2"),
        (["run=RUN", "videos=RUN", "names=RUN/config.yaml"], "not valid JSON"),
        (["run=nowhere", "videos=RUN"], "not a run folder"),
        (["run=RUN"], "VIDEOS is needed: avssl label VIDEOS"),
    ],
)
def test_wrong_options_are_one_line(run, words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["label", "workers=0", *(word.replace("RUN", str(run)) for word in words)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    (line,) = (line for line in lines if not line.endswith("at work …"))  # on a busy machine
    assert said in line


def test_without_the_index_a_threshold_is_refused(run, odd, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(run, moved, ignore=shutil.ignore_patterns("label", ".lock"))
    text = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(text.replace("  index: /", "  index: /gone/"))
    assert main(["label", f"run={moved}", f"videos={odd}", "workers=0"]) == 2
    assert "reject=0" in capsys.readouterr().err
    assert len(label(moved, f"videos={odd}", "reject=0")) == 6


def test_contrast_alone_has_no_clusters(tmp_path, indexed, monkeypatch):
    words = ["task=gdt", "experiment=gdt_sample", "optim.epochs=1", "optim.batch=8", "workers=0", "device=cpu"]
    assert main(["train", *indexed, *words, f"out={tmp_path}/gdt"]) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").symlink_to(tmp_path / "gdt")
    model = avssl.load("tiny")  # the newest run of these videos
    with pytest.raises(UserError, match="no clusters"):
        model.label("x.mp4")
    with pytest.raises(UserError, match="does not exist"):
        avssl.load("nowhere")
    with pytest.raises(UserError, match="not a run folder"):
        avssl.load(tmp_path)


def test_tables_of_other_videos_are_not_written_over(run, odd, tmp_path, capsys, monkeypatch):
    command = ["label", f"run={run}", "workers=0", "device=cpu", "reject=0"]
    for camera in ("one", "two"):
        (tmp_path / camera / "clips").mkdir(parents=True)
        shutil.copy(odd / "good.mp4", tmp_path / camera / "clips" / f"{camera}.mp4")
    assert main([*command, f"videos={tmp_path}/one/clips"]) == 0
    first = (run / "label" / "clips.csv").read_bytes()
    capsys.readouterr()
    assert main([*command, f"videos={tmp_path}/two/clips"]) == 2
    assert (
        f"clips.csv contains the labels of {tmp_path}/one/clips: choose another file with out="
        in capsys.readouterr().err
    )
    assert (run / "label" / "clips.csv").read_bytes() == first
    monkeypatch.chdir(tmp_path / "one")
    assert main([*command, "videos=clips"]) == 0  # the same folder by another name
    (tmp_path / "tables").mkdir()
    assert main([*command, "videos=../two/clips", f"out={tmp_path}/tables"]) == 0
    assert (tmp_path / "tables" / "clips.csv").is_file()


def test_an_empty_list_leaves_the_table(run, odd, capsys, monkeypatch):
    command = ["label", f"run={run}", "workers=0", "device=cpu", "reject=0", "videos=-"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(f"{odd}/good.mp4\n".encode())))
    assert main(command) == 0
    first = (run / "label" / "list.csv").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"\n")))
    assert main(command) == 2
    assert "standard input contained no paths" in capsys.readouterr().err
    assert (run / "label" / "list.csv").read_bytes() == first


def test_rejected_clusters_are_told_in_python(run, odd, tmp_path):
    model = avssl.load(run)
    (row,) = model.label(odd / "good.mp4", reject=0)
    names = {"avssl_names": 1, "clusters": {str(row.label): {"name": "noise", "mark": "reject"}}}
    (tmp_path / "names.json").write_text(json.dumps(names))
    (row,) = model.label(odd / "good.mp4", names=tmp_path / "names.json", reject=0)
    assert (row.name, row.reason) == ("noise", "of a rejected cluster")
    for wrong in ({"reject": 2}, {"reject": -1}, {"reject": float("nan")}, {"sound": "bogus"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            model.label(odd / "good.mp4", **wrong)


def test_checkpoints_of_runs_write_into_their_runs(run, indexed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    step = next((run / "checkpoints").glob("step_*"))
    assert main(["evaluate", f"checkpoint={step}", *indexed, "tasks=[knn]", "workers=0"]) == 0
    assert (run / "evaluate" / step.name / "evaluate.json").is_file()
    assert main(["export", f"checkpoint={step}", "modality=audio", "format=safetensors"]) == 0
    assert (run / "export" / f"{step.name}_audio.safetensors").is_file()
    assert [*tmp_path.iterdir()] == []
    capsys.readouterr()
    assert main(["export", f"checkpoint={run}", "modality=audio"]) == 2
    assert f"is a run folder: give run={run}" in capsys.readouterr().err


def test_an_index_that_changed_since_the_training_is_named(run, indexed, tiny_sample, tmp_path, capsys):
    index = Path(indexed[1].removeprefix("data.index="))
    shutil.copytree(index, tmp_path / "index")
    shutil.copytree(run, tmp_path / "run")
    table = pq.read_table(index / "train.parquet")
    pq.write_table(table.slice(1), tmp_path / "index/train.parquet")
    written = (tmp_path / "run/config.yaml").read_text()
    (tmp_path / "run/config.yaml").write_text(written.replace(str(index), str(tmp_path / "index")))
    capsys.readouterr()
    said = "has changed since {} was trained (36 videos then, 35 videos now)"
    for words in (
        ["clusters", "split=test", "previews=0"],
        ["evaluate", "tasks=[knn]"],
        ["label", f"videos={next(tiny_sample.glob('test/*/*.mp4'))}"],
    ):
        assert main([words[0], f"run={tmp_path / 'run'}", *words[1:], "workers=0", "device=cpu"]) == 0
        assert said.format(tmp_path / "run") in capsys.readouterr().err
        assert main([words[0], f"run={run}", *words[1:], "workers=0", "device=cpu"]) == 0
        assert "has changed" not in capsys.readouterr().err


def test_the_name_of_an_index_names_the_folder_of_its_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work" / "index" / "holiday").mkdir(parents=True)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "work" / "index" / "holiday" / "index.json").write_text(json.dumps({"root": str(tmp_path / "holiday")}))
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(UserError, match="index/holiday was made of ../holiday, so give that folder"):
        check_label(LabelConfig(videos="holiday", run="x"))
