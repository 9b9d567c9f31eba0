"""A training in two processes of this machine: every way that it ends."""

import os
import re
import signal
from pathlib import Path

import pytest

from avssl.launch.ending import FAILED, REFUSED, REQUEUE, STOPPED
from tests.launch import counting
from tests.launch.conftest import Train, wait_for
from tests.processes import Started

TWO = ["launch.processes=2"]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end(started: Started) -> tuple[int, str, str]:
    return started.end(), started.text(), started.error_text()


def test_two_processes_finish_and_go_on(train: Train, tmp_path: Path):
    for steps in (5, 10):
        done = train.run(tmp_path / "run", steps, *TWO)
        assert done.returncode == 0, done.stderr
        assert train.step(tmp_path / "run") == steps
    assert "rank 1 of 2 begins at step 5" in done.stdout


@pytest.mark.parametrize(
    ("sent", "status"), [("SIGTERM", STOPPED), ("SIGINT", STOPPED), ("SIGHUP", STOPPED), ("SIGUSR2", REQUEUE)]
)
def test_a_signal_reaches_the_processes_which_save(train: Train, tmp_path: Path, sent: str, status: int):
    out = tmp_path / "run"
    started = train.start(out, 3000, *TWO)
    wait_for(lambda: train.step(out), "the first checkpoint")
    started.send(signal.Signals[sent])
    returned, said, errors = end(started)
    assert returned == status, errors
    stopped = dict(re.findall(r"rank (\d) stopped at step (\d+)", said))
    assert stopped == {"0": str(train.step(out)), "1": str(train.step(out))}
    assert errors == "avssl: interrupted; repeat the command to resume\n"


def test_a_signal_before_it_begins_ends_it(train: Train, tmp_path: Path):
    started = train.start(tmp_path / "run", 3000, *TWO)
    found: list[int] = []

    def begun() -> bool:
        children = Path(f"/proc/{started.process.pid}/task").glob("*/children")
        found[:] = [int(pid) for path in children for pid in path.read_text().split()]
        return len(found) == 2

    wait_for(begun, "the processes")
    started.send(signal.SIGTERM)
    returned, _, errors = end(started)
    assert returned == STOPPED, errors
    assert not any(alive(process) for process in found)


def test_a_process_that_dies_ends_all_with_one_line(train: Train, tmp_path: Path):
    out = tmp_path / "run"
    started = train.start(out, 3000, *TWO)
    wait_for(lambda: train.step(out), "the first checkpoint")
    other = train.process(out, 0)
    os.kill(train.process(out, 1), signal.SIGKILL)
    returned, _, errors = end(started)
    assert returned == FAILED
    assert not alive(other)
    lines = [line for line in errors.splitlines() if line != "terminate called without an active exception"]
    assert lines == ["avssl: process 1 died of SIGKILL: repeat the command to resume from the last checkpoint"]


def test_an_error_is_shown_once(train: Train, tmp_path: Path):
    done = train.run(tmp_path / "run", 10, *TWO, "seed=14")
    assert done.returncode == FAILED
    assert done.stderr.count("Traceback") == 1
    assert "avssl: process 1 failed (ValueError: a bug): repeat the command to resume" in done.stderr


def test_what_is_refused_is_one_line(train: Train, tmp_path: Path):
    done = train.run(tmp_path / "run", 10, *TWO, "seed=13")
    assert (done.returncode, done.stderr) == (REFUSED, "avssl: seed=13 is unlucky: choose another\n")


def test_whoever_kills_the_command_stops_the_training(train: Train, tmp_path: Path):
    out = tmp_path / "run"
    started = train.start(out, 3000, *TWO)
    wait_for(lambda: train.step(out), "the first checkpoint")
    started.process.kill()
    processes = [train.process(out, rank) for rank in (0, 1)]
    wait_for(lambda: not any(alive(process) for process in processes), "the end of the processes")
    started.end()


def test_a_sweep_is_trained_one_after_another(train: Train, tmp_path: Path):
    words = [*train.words, "--multirun", "seed=0,1", "optim.epochs=5", f"out='{tmp_path}/${{seed}}'"]
    started = Started(words, tmp_path / "said", errors=tmp_path / "errors", command=counting.main)
    returned, said, errors = end(started)
    assert returned == 0, errors
    assert train.step(tmp_path / "0") == train.step(tmp_path / "1") == 5
    assert said.index("run 1 of 2") < said.index("run 2 of 2")


def test_dry_is_for_slurm(train: Train, tmp_path: Path):
    done = train.submit(tmp_path / "run", 10, "launch.dry=true")
    assert done.returncode == REFUSED
    assert "add launch=slurm" in done.stderr
