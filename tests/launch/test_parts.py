"""Long commands in parts: what they write is what one process writes, and a part that failed is repeated alone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.config import IndexConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.core.part import VARIABLE
from avssl.launch import parts as launching
from avssl.launch.parts import PARTS, TARGETS, job_of, parts_to_run
from avssl.runs.jobs import Job, jobs_below, status_of_job


def index(*words: str, part: str = "") -> int:
    """The exit status of `avssl index` of the folder, or of a part of it."""
    with pytest.MonkeyPatch.context() as patch:
        if part:
            patch.setenv(VARIABLE, part)
        return main(["index", "videos", "workers=1", *words])


def written(folder: str = "index/videos") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".jsonl"}


def job() -> Job:
    return job_of("index", compose_config("index", IndexConfig, ["data.root=videos"]))


def test_every_command_has_its_function_and_its_target() -> None:
    assert PARTS.keys() == TARGETS.keys()
    for place in PARTS.values():
        module, _, name = place.partition(":")
        try:
            assert callable(getattr(import_module(module), name))
        except ModuleNotFoundError as error:
            assert error.name == module  # noqa: PT017 - not that one of its imports is missing


def test_parts_and_then_the_command_are_the_command_alone(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert index() == 0
    alone = written()
    shutil.rmtree("index")
    for number in (2, 0, 1):
        assert index(part=f"{number}/3") == 0
    (state,) = jobs_below(Path("runs"))
    assert (state.done, state.parts, state.state) == (3, 3, "waiting")
    capsys.readouterr()
    assert index("json=true") == 0  # the result on standard output, whoever did the work
    assert json.loads(capsys.readouterr().out)["probed_files"] == 0
    assert written() == alone
    assert not [*Path("index/videos").glob("*_of_*")]
    (state,) = jobs_below(Path("runs"))
    assert (state.command, state.state, state.why) == ("index", "finished", [])


def test_processes_do_their_parts(videos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert index() == 0
    alone = written()
    shutil.rmtree("index")
    assert index("launch.processes=2") == 0
    assert "2 of 2 parts done" in capfd.readouterr().out
    assert written() == alone
    assert (jobs_below(Path("runs"))[0].state, jobs_below(Path("runs"))[0].done) == ("finished", 2)


def test_a_part_that_fails_is_repeated_alone(videos: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert index(part="0/2") == 0

    def failing(config: object, part: object) -> None:
        raise UserError("the disk is away: bring it back")

    monkeypatch.setattr(launching, "resolve_name", lambda place: failing)
    assert index(part="1/2") == 2
    assert capsys.readouterr().err == "avssl: the disk is away: bring it back\n"
    status = status_of_job(job().folder)
    assert status is not None
    assert (status.done, status.failed, status.state) == (1, 1, "failed")
    assert status.why == ["part 1: the disk is away: bring it back"]
    monkeypatch.undo()
    monkeypatch.chdir(videos.parent)
    assert parts_to_run(job(), 2) == [1]
    assert parts_to_run(job(), 3) == [0, 1, 2]  # other parts


def test_a_part_that_slurm_ends_says_so(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(launching, "resolve_name", lambda place: lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert index(part="1/2") == 130
    status = status_of_job(job().folder)
    assert status is not None
    assert status.why == ["part 1: ended by SIGTERM, as at the time limit of a job"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_once_it_is_finished_the_command_begins_anew(videos: Path) -> None:
    for number in range(2):
        assert index(part=f"{number}/2") == 0
    assert parts_to_run(job(), 2) == []
    assert index() == 0
    assert parts_to_run(job(), 2) == [0, 1]  # there may be new files


def test_a_part_that_was_killed_is_lost(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert index(part="0/2") == 0
    mark = job().part_mark(1)
    gone = {"host": socket.gethostname(), "pid": 2**22 + 1, "time": time.time(), "digest": job().digest}
    mark.write_text(json.dumps({**gone, "state": "running"}))
    assert main(["runs"]) == 0
    assert "1 of 2 done, 1 lost" in capsys.readouterr().out
    assert parts_to_run(job(), 2) == [1]


def test_no_command_begins_while_parts_run(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert index(part="0/2") == 0
    live = {"host": "elsewhere", "pid": 1, "time": time.time(), "digest": job().digest, "state": "running"}
    job().part_mark(1).write_text(json.dumps(live))
    for words in ([], ["launch.processes=2"]):
        assert index(*words) == 2
        assert "1 of 2 parts of index_videos are running: wait for them" in capsys.readouterr().err
    job().part_mark(1).unlink()
    assert index("data.min_seconds=0.5", part="0/2") == 2
    assert "is the job of a command with other options" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["{", "[]", '{"command": 1}', '{"parts": 1e99}'])
def test_a_damaged_job_is_none(videos: Path, damage: str) -> None:
    assert index(part="0/2") == 0
    (job().folder / "job.json").write_text(damage)
    job().part_mark(0).write_text(damage)
    assert jobs_below(Path("runs")) == []
    assert index() == 0
    assert index(part="1/2") == 0


def test_torchrun_starts_parts_and_the_first_process_does_the_rest(videos: Path) -> None:
    assert index() == 0
    alone = written()
    shutil.rmtree("index")
    words = [sys.executable, "-m", "avssl", "index", "videos", "workers=1"]
    started = [
        subprocess.Popen(words, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}, stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=600)[0].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert "6 usable" in said[0]
    assert said[1] == ""
    assert written() == alone


def test_a_process_that_never_comes_is_an_error(videos: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert index() == 0  # a batch script, which is one process
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert index("launch.timeout=1") == 1
    assert "1 of 2 parts, such as part 1, have shown no sign of life for 1 s" in capsys.readouterr().err


def test_killed_in_the_middle_and_repeated(videos: Path) -> None:
    """The command is killed; its parts end with it, and what they have probed stays."""
    for number in range(6, 70):
        shutil.copy(videos / "0.mp4", videos / f"{number}.mp4")
    assert index() == 0
    alone = written()
    shutil.rmtree("index")
    words = [sys.executable, "-m", "avssl", "index", "videos", "workers=1", "launch.processes=2"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 600
    while not any(path.stat().st_size > 1000 for path in Path("index/videos").glob("probes_*")):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while "running" in [job_state(number) for number in range(2)]:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert index("launch.processes=2") == 0
    assert written() == alone


def job_state(number: int) -> str:
    (path,) = Path("runs/jobs").iterdir()
    try:
        mark = json.loads((path / "parts" / f"{number:05d}.json").read_text())
    except (OSError, ValueError):
        return "running"
    alive = Path(f"/proc/{mark['pid']}").exists()
    return "running" if mark["state"] == "running" and alive else "ended"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["index", "videos", "launch.dry=true"], "add launch=slurm"),
        (["index", "videos", "launch.parts=4"], "launch.parts=4 is for launch=slurm"),
        (["index", "videos", "launch.parts=0"], "launch.parts=0 is below the minimum 1"),
        (["index", "videos", "launch.nodes=2"], "unknown option 'launch.nodes'"),
    ],
)
def test_a_wrong_option_is_one_line(videos: Path, words: list[str], line: str, capsys) -> None:
    assert main(words) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said


def test_a_part_that_is_none_is_one_line(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("5/3", "x/2", "1/x", "3", "x", "1/"):
        assert index(part=part) == 2
        assert f"AVSSL_PART={part} is not a part" in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "world"), [("x", "2"), ("0", "two"), ("5", "2"), ("-1", "2")])
def test_a_process_that_is_none_is_one_line(videos: Path, rank: str, world: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert index() == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "are not the number of a process" in said


def test_training_has_no_parts(videos: Path, monkeypatch, capsys) -> None:
    assert index() == 0
    monkeypatch.setenv("AVSSL_PART", "1/4")
    assert main(["train", "videos"]) == 2
    assert "`avssl train` has no parts" in capsys.readouterr().err
