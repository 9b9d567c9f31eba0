"""Training on stored features: resumed bit for bit, labels as from the encoders, contrast, a table, bad input."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from avssl.cli import main
from avssl.clips.dataset import Pass
from avssl.clips.feature_store import StoredSplit, open_store
from avssl.clips.requests import pass_requests, train_requests
from avssl.clips.stored_clips import StoredClips
from avssl.config.run_folder import read_config
from avssl.core.errors import UserError
from avssl.explore.assignments import read_assignments
from avssl.runs.checkpoints import load_run_state
from tests.processes import Started

WORDS = [
    "labelling.clusters=3", "labelling.heads=2", "labelling.groups=2", "labelling.passes=5", "optim.batch=6",
    "optim.epochs=8", "optim.lr=0.05", "threads=1", "device=cpu", "log_steps=1", "save_seconds=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("store") / "tiny"
    options = ["model=tiny", "clip=tiny", "views=3", "augmented=1", "workers=0", "threads=1", "device=cpu"]
    assert main(["features", *indexed, *options, f"out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path:
    """A run on the store, which names the index by itself."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", f"data.features={store}", *WORDS, f"out={out}"]) == 0
    return out


def figures(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if k in ("step", "kind", "loss", "costs", "gradient_norm")} for x in lines]


def test_the_run_is_a_whole_model(run, store):
    config = read_config(run)
    assert (config.model.video, config.model.audio) == ("tiny", "tiny")
    assert config.model.freeze == ["video", "audio"]
    assert config.clip.frames == 4
    trained = load_run_state(run)["model"]
    weights = torch.load(store / "encoders.ckpt", weights_only=True)["model"]
    assert all(torch.equal(trained[f"encoders.{name}"], x) for name, x in weights.items())


def test_heads_learn_the_labels(store, tmp_path):
    words = [f"data.features={store}", *WORDS, "labelling.passes=1", "optim.epochs=30"]
    words += ["optim.optimizer=adamw", "optim.lr=0.003", "optim.warmup_epochs=0", "model.adapter=64"]
    assert main(["train", *words, "labelling.groups=1", f"out={tmp_path / 'run'}"]) == 0
    losses = [x["loss"] for x in figures(tmp_path / "run") if x["kind"] == "train"]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


def test_killed_and_repeated_it_is_the_same_run(run, store, tmp_path):
    words = [f"data.features={store}", *WORDS, f"out={tmp_path / 'run'}"]
    for step in (7, 30):
        process = Started(words)
        while process.running and not (
            (tmp_path / "run" / "metrics.jsonl").exists()
            and (tmp_path / "run" / "metrics.jsonl").read_text().count('"train"') > step
        ):
            time.sleep(0.005)
        assert process.running
        process.send(signal.SIGKILL)
        process.process.join()
    assert Started(words).end() == 0
    assert figures(tmp_path / "run") == figures(run)
    one, two = load_run_state(tmp_path / "run"), load_run_state(run)
    assert all(torch.equal(one["model"][key], x) for key, x in two["model"].items())
    assert torch.equal(one["labeller"]["labels"], two["labeller"]["labels"])


def test_labels_are_those_that_the_encoders_give(run, store, tmp_path, capsys):
    words = [f"run={run}", "workers=0", "threads=1", "device=cpu", "previews=0"]
    assert main(["clusters", *words, f"out={tmp_path / 'stored'}"]) == 0
    shutil.move(store, tmp_path / "elsewhere")
    try:
        assert main(["clusters", *words, f"out={tmp_path / 'encoded'}"]) == 0
        capsys.readouterr()
        assert main(["label", f"run={run}", f"videos={read_config(run).data.root}/test", "workers=0", "reject=0",
                     f"out={tmp_path / 'labels'}", "threads=1", "device=cpu"]) == 0  # fmt: skip
        words = [f"run={run}", "modality=audio", "format=safetensors", f"out={tmp_path / 'a.safetensors'}"]
        assert main(["export", *words]) == 0
    finally:
        shutil.move(tmp_path / "elsewhere", store)
    ours, theirs = read_assignments(tmp_path / "stored"), read_assignments(tmp_path / "encoded")
    for name in ("label", "label_video", "label_audio"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    assert np.allclose(ours.confidence_joint, theirs.confidence_joint, atol=5e-3)  # norms enlarge rounding
    new = pq.read_table(tmp_path / "labels.parquet")
    known = dict(zip(ours.path, ours.label[:, ours.chosen_head], strict=True))
    root = Path(read_config(run).data.root)
    paths = [str(Path(path).relative_to(root)) for path in new["path"].to_pylist()]
    assert new["label"].to_pylist() == [known[path] for path in paths]


def test_evaluate_reads_the_store(run, store, tmp_path, monkeypatch):
    words = [f"run={run}", "workers=0", "threads=1", "device=cpu", "tasks=[knn,clustering]", "seeds=2", "k=3"]
    monkeypatch.setattr("avssl.evaluate.features.extract_shards", None)  # nothing is extracted
    assert main(["evaluate", *words, f"out={tmp_path / 'stored'}"]) == 0
    monkeypatch.undo()
    shutil.move(store, tmp_path / "elsewhere")
    try:
        assert main(["evaluate", *words, f"out={tmp_path / 'encoded'}"]) == 0
    finally:
        shutil.move(tmp_path / "elsewhere", store)
    ours, theirs = (json.loads((tmp_path / x / "evaluate.json").read_text()) for x in ("stored", "encoded"))
    assert ours["knn"] == theirs["knn"]


@pytest.mark.parametrize("task", ["gdt", "both"])
def test_contrast_takes_two_times(task, store, tmp_path):
    words = [f"data.features={store}", f"task={task}", "contrast=preset_5", "optim.epochs=2"]
    words += ["labelling.clusters=3"] if task == "both" else []
    assert main(["train", *words, "optim.batch=6", "threads=1", "device=cpu", f"out={tmp_path / 'run'}"]) == 0
    assert load_run_state(tmp_path / "run")["step"] == 12


def stored_split(clips: list[int], augmented: int = 0) -> StoredSplit:
    """Row i has the features 100 i, 100 i + 1, …, of clips a second apart."""
    entries = [c + augmented * (c > 0) for c in clips]
    values = np.concatenate([100 * i + np.arange(n) for i, n in enumerate(entries)])[:, None].astype(np.float32)
    rows = pa.table({"path": [f"{i}.mp4" for i in range(len(clips))]})
    times = np.concatenate([np.arange(c) for c in clips]).astype(float)
    return StoredSplit(rows, np.array(clips), augmented, {"video": values}, {1: "broken"}, times)


def test_a_batch_is_of_the_requested_clips():
    clips = StoredClips(stored_split([3, 0, 5, 1], augmented=2), ["video"], seed=3)
    seen: dict[int, set[int]] = {}
    for step in range(200):
        batch = clips.batch(train_requests(4, 3, 0, step))
        assert 1 not in batch.index
        for row, value in zip(batch.index.tolist(), batch.features["video"][:, 0].tolist(), strict=True):
            assert value // 100 == row
            seen.setdefault(row, set()).add(int(value) % 100)
    assert seen == {0: set(range(5)), 2: set(range(7)), 3: set(range(3))}  # every clip, augmented ones too
    passes = [clips.batch(next(pass_requests(4, 8, Pass.LABEL, number))) for number in range(3)]
    assert [f.reason for f in passes[0].failures] == ["broken"]
    assert passes[0].index.tolist() == [0, 2, 3]
    values = torch.stack([batch.features["video"][:, 0] for batch in passes], 1)
    assert all(len(set(row.tolist())) == 3 for row in values)  # passes in a row take different clips
    (middle,) = (clips.batch(r) for r in pass_requests(4, 8, Pass.EVALUATE, 0))
    assert middle.features["video"][:, 0].tolist() == [1, 202, 300]
    again = StoredClips(stored_split([3, 0, 5, 1], augmented=2), ["video"], seed=3).batch(train_requests(4, 3, 0, 7))
    assert torch.equal(again.features["video"], clips.batch(train_requests(4, 3, 0, 7)).features["video"])


@pytest.mark.parametrize(("apart", "least"), [(None, 0), (1.0, 1), (2.0, 2), (1.5, 2)])
def test_time_shifts_are_as_far_apart_as_asked(apart, least):
    clips = StoredClips(stored_split([6, 0, 9]), ["video"], shifts=2, apart=apart)
    gaps = set()
    for step in range(100):
        pairs = clips.batch(train_requests(3, 4, 0, step)).features["video"].reshape(-1, 2)
        assert (pairs[:, 0] // 100 == pairs[:, 1] // 100).all()
        gaps |= set((pairs[:, 1] - pairs[:, 0]).tolist())
    assert min(gaps) == least
    assert max(gaps) >= 5


def test_too_few_views_for_time_shifts():
    with pytest.raises(UserError, match="1 video of the stored features have too few clips for 2 time shifts"):
        StoredClips(stored_split([6, 0, 1]), ["video"], shifts=2, apart=1.0)
    with pytest.raises(UserError, match="too few clips for 2 time shifts, 9 s apart"):
        StoredClips(stored_split([6, 0, 9]), ["video"], shifts=2, apart=9.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.video=r2plus1d_18"], "model.video=r2plus1d_18 contradicts"),
        (["model=published"], "model.video=r2plus1d_18 contradicts"),
        (["clip.frames=8"], "clip.frames=8 contradicts"),
        (["model.video_stride=8"], "model.video_stride=8 contradicts"),
        (["model.init=pretrained"], "model.init="),
        (["task=gdt", "contrast=preset_3"], "contrast.axes.reversal=invariant changes clips before they are encoded"),
        (["task=gdt", "contrast.axes.speed=invariant"], "contrast.axes.speed=invariant changes clips"),
        (["task=gdt", "contrast.axes.rotation=invariant"], "contrast.axes.rotation=invariant changes clips"),
        (["objective=jepa"], "contrast.axes.augmentation=invariant changes clips"),
        (["objective=swav"], "contrast.axes.augmentation=invariant changes clips"),
        (["objective=dino"], "contrast.axes.augmentation=invariant changes clips"),
        (["task=gdt", "contrast=preset_4"], "too few clips for 2 time shifts, 1 s apart"),
        (["data.index=nowhere"], "no index in nowhere"),
        (["optim.encoder_lr=0.1"], "model.freeze freezes every encoder"),
    ],
)
def test_wrong_options_are_refused_in_one_line(words, message, store, tmp_path, capfd):
    out = tmp_path / "run"
    labels = [] if words[0].startswith(("task=", "objective=")) else WORDS[:4]
    assert main(["train", f"data.features={store}", *labels, *words, "device=cpu", f"out={out}"]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_other_stores_and_changed_indexes_are_refused(run, store, indexed, tmp_path, capfd):
    def refused(words: list[str]) -> str:
        assert main(["train", *WORDS, *words]) == 2
        return capfd.readouterr().err

    resumed = f"out={run}"
    other = tmp_path / "other"
    options = ["model=tiny", "clip=tiny", "views=3", "augmented=1", "workers=0", "threads=1", "device=cpu", "seed=5"]
    assert main(["features", *indexed, *options, f"out={other}"]) == 0
    assert "began on other features than" in refused([f"data.features={other}", resumed])
    swapped = tmp_path / "swapped"
    shutil.copytree(store, swapped)
    shutil.copy(other / "encoders.ckpt", swapped / "encoders.ckpt")
    assert "contains other weights of the video encoder" in refused(
        [f"data.features={swapped}", f"out={tmp_path / 'a'}"]
    )
    note = json.loads((store / "store.json").read_text())
    index = tmp_path / "index"
    shutil.copytree(note["data"]["index"], index)
    pq.write_table(pq.read_table(index / "train.parquet").slice(1), index / "train.parquet")
    words = [f"data.features={store}", f"data.index={index}", f"out={tmp_path / 'b'}"]
    assert "extracted from another state of the index" in refused(words)
    assert "no features in" in refused([f"data.features={tmp_path / 'gone.npz'}", f"out={tmp_path / 'c'}"])
    assert "contains no features" in refused([f"data.features={tmp_path}", f"out={tmp_path / 'd'}"])
    assert main(["plan", f"data.features={store}"]) == 2
    assert "encodes nothing" in capfd.readouterr().err
    assert open_store(store).split("test").clips.tolist() == [3] * 12
