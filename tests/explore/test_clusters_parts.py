"""`avssl clusters` in parts: the command finds the labels, writes the same bytes, and leaves no cache."""

from pathlib import Path

import numpy as np
import pytest

from avssl.cli import main
from avssl.clips.dataset import ClipDataset
from avssl.config import ClustersConfig
from avssl.config.compose import compose_config
from avssl.core.part import Part
from avssl.evaluate import feature_shards
from avssl.evaluate.prediction_shards import _check
from avssl.evaluate.predictions import Wanted
from avssl.explore.clusters_parts import run_part

TRAIN = [
    "experiment=selavi_small", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=2", "optim.epochs=1",
    "optim.batch=12", "workers=0", "device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("parts") / "run"
    assert main(["train", *indexed, *TRAIN, f"out={out}"]) == 0
    return out


def written(out: Path) -> dict[str, bytes]:
    """Every file, without the name of its folder; but not the state of the previews, which holds the time."""
    return {
        str(p.relative_to(out)): p.read_bytes().replace(out.name.encode(), b"OUT")
        for p in sorted(out.rglob("*")) if p.is_file() and p.name != "previews.js"
    }  # fmt: skip


def test_parts_label_what_the_command_then_finds(run, tmp_path, monkeypatch):
    """Three jobs, of which one is stopped and repeated; with raw inputs too."""
    monkeypatch.setattr(feature_shards, "SHARD", 10)
    words = [f"run={run}", "workers=0", "previews=0", "device=cpu", "floors=true"]
    whole, parts = tmp_path / "out-whole", tmp_path / "out-parts"
    assert main(["clusters", *words, f"out={whole}"]) == 0
    config = compose_config("clusters", ClustersConfig, [*words, f"out={parts}"])
    real, calls = ClipDataset.__getitem__, []

    def stopped(self, request):
        calls.append(request.video)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return real(self, request)

    monkeypatch.setattr(ClipDataset, "__getitem__", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_part(config, Part(0, 3))
    for number in (1, 2, 0):
        run_part(config, Part(number, 3))
    assert len(calls) == 48 + 5  # the first file of ten was not computed again

    def no_more(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(ClipDataset, "__getitem__", no_more)
    assert main(["clusters", *words, f"out={parts}"]) == 0
    assert written(parts) == written(whole)
    assert "assignments.csv" in written(parts)
    assert not (parts / "predictions").exists()


def test_an_interrupted_command_is_resumed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_shards, "SHARD", 10)
    words = ["clusters", f"run={run}", "workers=0", "previews=0", "device=cpu", f"out={tmp_path}/out"]
    real, calls = ClipDataset.__getitem__, []

    def stopped(self, request):
        calls.append(request.video)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return real(self, request)

    monkeypatch.setattr(ClipDataset, "__getitem__", stopped)
    assert main(words) == 130
    assert main(words) == 0
    assert len(calls) == 48 + 3


def file_of(**changed) -> dict[str, np.ndarray]:
    rows = np.array([4, 5])
    good = {"rows": rows, "score": np.zeros(2, np.float32), "label_joint": np.array([[0, 1], [2, 2]], np.int32)}
    return {**good, "kept": rows[:1], "kept_video": np.zeros((1, 3), np.float32), **changed}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": np.array([3, 5])}, "other videos"),
        ({"rows": np.array([4.0, 5.0])}, "other videos"),
        ({"kept": np.array([5])}, "features of other videos"),
        ({"score": np.zeros(3)}, "differ in length"),
        ({"label_joint": np.array([[0, 1], [2, 3]], np.int32)}, "none of the clusters"),
    ],
)
def test_a_file_with_other_labels_is_damaged(changed, said):
    wanted = Wanted(kept=np.array([1, 4]))
    _check(file_of(), 4, 6, wanted, 3)
    with pytest.raises(ValueError, match=said):
        _check(file_of(**changed), 4, 6, wanted, 3)
