"""An index of many rows, whose tables are mapped into memory."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from avssl.clips.dataset import ClipDataset, Pass, Request
from avssl.config import ClipConfig, DataConfig, IndexConfig
from avssl.videos import index
from avssl.videos.index import index_videos, read_index
from avssl.videos.index_options import fingerprint


@pytest.fixture
def folder(tmp_path: Path, indexed: list[str]) -> Path:
    """A copy of an index whose tables have "many" rows."""
    return Path(shutil.copytree(indexed[1].removeprefix("data.index="), tmp_path / "index"))


def test_a_large_split_is_read_from_a_copy_that_has_the_same_rows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    plain = {split: read_index(folder, split) for split in ("train", "test")}
    assert not [*folder.glob("*.arrow")]
    monkeypatch.setattr(index, "MAPPED_ROWS", 20)
    for split, rows in plain.items():
        assert read_index(folder, split).equals(rows)
        assert fingerprint(read_index(folder, split)) == fingerprint(rows)
    assert [path.name for path in folder.glob("*.arrow")] == ["train.arrow"]  # the other split has 12 rows


def test_the_fingerprint_is_that_of_all_paths_and_times_at_once(folder: Path):
    rows = read_index(folder, "train")
    paths = rows["path"].to_pylist()
    assert fingerprint(rows) == {
        "number": 36,
        "digest": hashlib.sha256("\0".join(paths).encode()).hexdigest(),
        "files": 36,
        "windows": hashlib.sha256(
            rows["window_start"].to_numpy().tobytes() + rows["window_seconds"].to_numpy().tobytes()
        ).hexdigest(),
    }


def test_clips_of_mapped_rows_are_those_of_rows_in_memory(
    folder: Path, tiny_sample: Path, monkeypatch: pytest.MonkeyPatch
):
    config = ClipConfig(frames=4, crop=32, short_side_min=32, short_side_max=40)
    plain = ClipDataset(read_index(folder, "train"), tiny_sample, config)
    monkeypatch.setattr(index, "MAPPED_ROWS", 20)
    mapped = ClipDataset(read_index(folder, "train"), tiny_sample, config)
    assert list(mapped.paths) == list(plain.paths)
    sent = pickle.dumps(mapped)
    for dataset in (mapped, pickle.loads(sent)):
        for request in (Request(3, Pass.TRAIN, 1), Request(30, Pass.EVALUATE, 0)):
            items = [x[request].clips for x in (dataset, plain)]
            assert all(np.array_equal(items[0][name], items[1][name]) for name in items[1])  # type: ignore[index]
    paths = "".join(plain.paths).encode()
    assert paths[:40] not in sent  # a new process receives the name of the file, not its rows


def test_avssl_index_writes_the_copy_and_removes_what_no_split_needs(
    tmp_path: Path, tiny_sample: Path, monkeypatch: pytest.MonkeyPatch
):
    config = IndexConfig(data=DataConfig(root=str(tiny_sample), index=str(tmp_path / "index")), workers=1)
    monkeypatch.setattr(index, "MAPPED_ROWS", 20)
    index_videos(config)
    assert [path.name for path in (tmp_path / "index").glob("*.arrow")] == ["train.arrow"]
    monkeypatch.setattr(index, "MAPPED_ROWS", 100)
    index_videos(config)
    assert not [*(tmp_path / "index").glob("*.arrow")]
