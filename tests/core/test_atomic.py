import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from avssl.core.atomic import STALE_SECONDS, atomic_path, write_json, write_text
from avssl.core.checkpoint_file import save_checkpoint
from avssl.core.errors import UserError
from avssl.core.journal import Journal
from avssl.core.tables import table_writer


def stop_halfway(target, error):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error


def test_replaces_only_when_the_block_succeeds(tmp_path):
    target = tmp_path / "deep" / "er" / "a.npz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".")
        np.savez(temporary, x=np.arange(3))
        assert not target.exists()
    assert np.load(target)["x"].tolist() == [0, 1, 2]

    with pytest.raises(RuntimeError):
        stop_halfway(target, RuntimeError)
    assert np.load(target)["x"].tolist() == [0, 1, 2]
    assert [p.name for p in target.parent.iterdir()] == ["a.npz"]


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stop_halfway(tmp_path / "a.pt", KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_swept_after_a_day(tmp_path):
    old, young, other, ours = (
        tmp_path / f".{name}"
        for name in ("a[1].0123456789ab.onnx.data", "a[1].0123456789ac.onnx", "b.0123456789ab.onnx", "a[1].notes.onnx")
    )
    for path in (old, young, other, ours):
        path.write_text("half")
    for path in (old, other, ours):
        os.utime(path, (time.time() - STALE_SECONDS - 60,) * 2)
    with atomic_path(tmp_path / "a[1].onnx") as temporary:
        temporary.write_text("whole")
    assert old.exists()  # not asked to
    with atomic_path(tmp_path / "a[1].onnx", sweep=True) as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {young.name, other.name, ours.name, "a[1].onnx"}


def test_two_writers_do_not_share_a_name(tmp_path):
    with atomic_path(tmp_path / "a") as one, atomic_path(tmp_path / "a") as two:
        assert one != two
        one.write_text("1")
        two.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


def test_mode_is_the_one_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "written", "")
    assert stat.S_IMODE((tmp_path / "written").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_json_is_valid_whatever_it_holds(tmp_path):
    @dataclass
    class Point:
        x: float
        at: Path

    write_json(
        tmp_path / "a.json", {"p": Point(float("nan"), Path("b")), "a": np.eye(2), "n": np.float32("inf"), 3: "é"}
    )
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"p": {"x": None, "at": "b"}, "a": [[1, 0], [0, 1]], "n": None, "3": "é"}
    assert "é" in text


def test_wrong_places_are_named(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        write_text(tmp_path, "")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        write_text(tmp_path / "file" / "below", "")


@pytest.fixture
def small_files():
    """No file may have more than 2000 bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_names_the_file(tmp_path, small_files):
    schema, many = pa.schema([("a", pa.string())]), [f"{i * 7919 % 10007:08d}" for i in range(3000)]

    def table(csv):
        with table_writer(tmp_path / "t.parquet", schema, csv) as add:
            for text in many:
                add({"a": text})

    def journal():
        with Journal(tmp_path / "j.jsonl", 1) as found:
            found.add("a", {"many": many})

    for name, write in {
        "x.json": lambda: write_json(tmp_path / "x.json", many),
        "t.parquet": lambda: table(tmp_path / "t.csv"),
        "c.ckpt": lambda: save_checkpoint(tmp_path / "c.ckpt", {"a": torch.zeros(10000)}),
        "j.jsonl": journal,
    }.items():
        with pytest.raises(OSError, match="File too large") as caught:
            write()
        assert caught.value.filename == str(tmp_path / name)
        assert caught.value.strerror == "File too large"
