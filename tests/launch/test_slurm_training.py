"""Real trainings of two tasks on a real SLURM: disturbed in each way, they end as the undisturbed one did."""

import io
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from threading import Thread

import pytest
import torch

from avssl.cli import main
from avssl.runs.checkpoints import load_run_state
from tests.launch.conftest import Slurm, wait_for
from tests.processes import start_together

WORDS = [
    "experiment=selavi_sample", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=9", "optim.batch=4",
    "optim.epochs=12", "workers=1", "threads=1", "device=cpu", "log_steps=1", "save_seconds=1",
]  # fmt: skip
TASKS = ["launch=slurm", "launch.gpus=0", "launch.cpus=1", "launch.processes=2", "launch.minutes=30"]


def submit(data: list[str], out: Path, *words: str) -> str:
    """The number of the job."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert main(["train", *data, *WORDS, *TASKS, *words, f"out={out}"]) == 0
    found = re.search(r"submitted job (\d+)", said.getvalue())
    assert found, said.getvalue()
    return found[1]


def lines_of(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def step_of(run: Path) -> int:
    return max((line["step"] for line in lines_of(run)), default=-1)


def process_of(run: Path) -> int:
    return json.loads((run / "status.json").read_text())["pid"]


def same(run: Path, other: Path) -> None:
    ours, theirs = ([(x["step"], x["kind"], x.get("loss"), x.get("costs")) for x in lines_of(r)] for r in (run, other))
    assert ours == theirs
    one, two = load_run_state(run), load_run_state(other)
    assert torch.equal(one["labeller"]["labels"], two["labeller"]["labels"])
    assert all(torch.equal(one["model"][name], x) for name, x in two["model"].items())


@pytest.fixture(scope="module")
def limited(indexed, slurm: Slurm, tmp_path_factory) -> Iterator[tuple[Path, str, Thread]]:
    """A job of the shortest time limit that SLURM has, a minute, one of its processes held until SLURM has warned it,
    however fast the machine is; submitted first, so that the minute goes by while the other job is tested."""
    run = tmp_path_factory.mktemp("limited") / "run"
    job = submit(indexed, run, "launch.minutes=1", "launch.warn_seconds=10")
    wait_for(lambda: step_of(run) >= 10, "ten steps")
    process = process_of(run)
    os.kill(process, signal.SIGSTOP)
    wait_for(lambda: held(process), "a process that is stopped")

    def lift() -> None:
        """What is left after the warning gets half an hour, however slow the machine is."""
        wait_for(lambda: not held(process), "SLURM's warning, which lets it go on")
        slurm.ask("scontrol", "update", f"jobid={job}", "timelimit=30")

    lifting = Thread(target=lift)
    lifting.start()
    yield run, job, lifting
    lifting.join()


@pytest.fixture(scope="module")
def undisturbed(indexed, limited, tmp_path_factory) -> Path:
    """The same training in two processes without SLURM."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    for process in start_together([*indexed, *WORDS, f"out={out}"], out.parent):
        assert process.end() == 0, process.text()
    return out


@pytest.mark.slow
def test_a_job_signalled_and_then_killed_is_the_undisturbed_training(undisturbed, indexed, slurm: Slurm, tmp_path):
    run = tmp_path / "run"
    job = submit(indexed, run)
    wait_for(lambda: step_of(run) >= 10, "ten steps")
    first = process_of(run)
    slurm.ask("scancel", "--signal=USR2", job)
    wait_for(lambda: process_of(run) != first and step_of(run) >= 25, "more steps, of the job that was requeued")
    os.kill(process_of(run), signal.SIGKILL)
    wait_for(lambda: slurm.ended(job), "the end of the job")
    log = slurm.log(run, job)
    assert slurm.state(job) == "COMPLETED", log
    assert len(re.findall(r"resuming from step \d+", log)) == 2
    same(run, undisturbed)


@pytest.mark.slow
def test_a_time_limit_is_survived(limited, undisturbed, slurm: Slurm):
    run, job, lifting = limited
    lifting.join()
    wait_for(lambda: slurm.ended(job), "the end of the job")
    log = slurm.log(run, job)
    assert slurm.state(job) == "COMPLETED", log
    assert len(re.findall(r"resuming from step \d+", log)) >= 1
    assert "stopped and saved, to resume; requeued" in log
    same(run, undisturbed)


def held(process: int) -> bool:
    """Whether the process is stopped; SLURM sends SIGCONT with its warning."""
    try:
        return "State:\tT" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
