"""The parts of `avssl index`, `prepare` and `shard`, and then the command: what one process writes, byte for byte."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avssl.config import DataConfig, FilesConfig, FoldersConfig, IndexConfig, PrepareConfig, ShardConfig
from avssl.core.errors import UserError
from avssl.core.out_folder import folder_lock
from avssl.core.part import Part
from avssl.videos import index, prepare, shards
from avssl.videos.workers import Lost
from tests.media.make_media import talking

Command = tuple[Callable[[Any], Any], Callable[[Any, Part], None], Callable[[Path], Any]]

OUT = "out"


def commands(root: Path) -> dict[str, Command]:
    """The function of each command, that of its parts, and its options for an output folder."""
    data = DataConfig(root=str(root), name="x", min_seconds=0.5)
    return {
        "index": (
            index.index_videos, index.run_part, lambda out: IndexConfig(replace(data, index=str(out)), workers=1),
        ),
        "prepare": (
            prepare.prepare, prepare.run_part,
            lambda out: PrepareConfig(FilesConfig(str(root), "x"), out=str(out), workers=1),
        ),
        "shard": (
            shards.shard, shards.run_part, lambda out: ShardConfig(FoldersConfig(str(root), "x"), str(out), 0.02),
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking(tmp_path_factory.mktemp("video") / "talking.mp4")


@pytest.fixture
def root(tmp_path: Path, video: Path) -> Path:
    """5 videos, of which two want the same name, and a file that is none."""
    for name in ("a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4", "b/4.mkv"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, tmp_path / "root" / name)
    (tmp_path / "root" / "b" / "broken.mp4").write_bytes(b"no video")
    return tmp_path / "root"


def written(folder: Path) -> dict[str, bytes]:
    """The files that the command wrote, but for its journal, which has them in the order of their arrival."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.suffix != ".jsonl" and name != ".lock"}


def with_the_name_of(out: Path, now: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data.replace(os.fsencode(now), os.fsencode(out)) for name, data in files.items()}


@pytest.mark.parametrize("name", ["index", "prepare", "shard"])
def test_parts_and_then_the_command_write_the_same(root: Path, video: Path, tmp_path: Path, name: str) -> None:
    run, run_part, options = commands(root)[name]
    run(options(tmp_path / OUT / "alone"))
    alone = written(tmp_path / OUT / "alone")
    out = tmp_path / OUT / "parts"
    for number in (2, 0, 1):
        run_part(options(out), Part(number, 3))
    assert len([*out.glob("*_of_003.jsonl")]) == 3
    report = run(options(out))
    assert with_the_name_of(tmp_path / OUT / "alone", out, written(out)) == alone
    assert not [*out.glob("*_of_*")]
    if name == "index":
        assert report.probed == 0
    # a file that comes later is of one part, and of no other
    shutil.copy(video, root / "a" / "5.mp4")
    run(options(tmp_path / OUT / "alone"))
    for number in range(4):
        run_part(options(out), Part(number, 4))
    lines = [path.read_bytes().count(b"\n") for path in sorted(out.glob("*_of_004.jsonl"))]
    assert sum(lines) == 1 or name == "shard"
    run(options(out))
    assert with_the_name_of(tmp_path / OUT / "alone", out, written(out)) == written(tmp_path / OUT / "alone")


def test_a_part_that_is_killed_goes_on(root: Path, video: Path, tmp_path: Path) -> None:
    for number in range(12):
        shutil.copy(video, root / f"{number}.mp4")
    run, run_part, options = commands(root)["prepare"]
    run(options(tmp_path / OUT / "alone"))
    out = tmp_path / OUT / "parts"
    script = (
        "from pathlib import Path\n"
        "from avssl.core.part import Part\n"
        "from tests.videos.test_video_parts import commands\n"
        "if __name__ == '__main__':\n"
        f"    _, run_part, options = commands(Path({str(root)!r}))['prepare']\n"
        f"    run_part(options(Path({str(out)!r})), Part(0, 2))\n"
    )
    (tmp_path / "run.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], env=environment)
    journal, end = out / "prepare_000_of_002.jsonl", time.monotonic() + 600
    while not journal.exists() or not journal.stat().st_size:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (out / f".0123.1_of_2{prepare.PART}").write_bytes(b"of another part, at work")
    first = journal.read_bytes()
    run_part(options(out), Part(0, 2))
    assert journal.read_bytes().startswith(first)  # what was done was not done again
    assert [*out.rglob(f".*{prepare.PART}")] == [out / f".0123.1_of_2{prepare.PART}"]
    run_part(options(out), Part(1, 2))
    run(options(out))
    assert with_the_name_of(tmp_path / OUT / "alone", out, written(out)) == written(tmp_path / OUT / "alone")


def test_the_command_and_its_parts_exclude_each_other(root: Path, tmp_path: Path) -> None:
    run, run_part, options = commands(root)["index"]
    out = tmp_path / "index"
    out.mkdir()
    with folder_lock(out), pytest.raises(UserError, match="another command is writing"):
        run_part(options(out), Part(0, 2))
    with folder_lock(out, shared=True):
        run_part(options(out), Part(0, 2))
        with pytest.raises(UserError, match="another command is writing"):
            run(options(out))
    with folder_lock(out, name="probes_000_of_002.jsonl"):
        run_part(options(out), Part(1, 2))
        with pytest.raises(UserError, match="another command is writing"):
            run_part(options(out), Part(0, 2))


def test_what_took_too_long_in_a_part_is_not_tried_again_by_the_command(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, run_part, options = commands(root)["index"]
    config = options(tmp_path / "index")
    with monkeypatch.context() as patch:  # a short limit is a race, because a process may have finished just before it
        patch.setattr(index, "run_isolated", lambda probe, requests, *_: ((x, Lost("timeout")) for x in requests))
        run_part(config, Part(0, 1))
        with pytest.raises(index.NothingUsableError, match="6 timeout"):
            run(config)
    assert run(config).probed == 6  # but by the next


def test_other_partitions_and_the_command_are_taken_over(root: Path, tmp_path: Path) -> None:
    run, run_part, options = commands(root)["index"]
    out = tmp_path / "index"
    for number in range(2):
        run_part(options(out), Part(number, 2))
    for number in range(3):
        run_part(options(out), Part(number, 3))
    assert all(path.stat().st_size == 0 for path in out.glob("*_of_003.jsonl"))
    assert run(options(out)).probed == 0
    run_part(options(out), Part(0, 1))
    assert (out / "probes_000_of_001.jsonl").stat().st_size == 0
