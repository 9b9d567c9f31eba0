"""A real training of two tasks on a real SLURM: disturbed in each way, it ends as the undisturbed one did."""

import io
import json
import os
import re
import signal
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


@pytest.mark.slow
def test_disturbed_in_each_way_it_is_the_undisturbed_training(indexed, slurm: Slurm, tmp_path: Path):
    """The job comes close to its time limit, which is set once it trains, so that SLURM warns it. Then it is killed. A
    warning that a user sends is the same signal: see test_slurm.py."""
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    job = submit(indexed, run, "launch.warn_seconds=200")
    wait_for(lambda: step_of(run) >= 10, "ten steps")
    first = process_of(run)
    os.kill(first, signal.SIGSTOP)  # held until SLURM has warned it, however fast the machine is
    wait_for(lambda: held(first), "a process that is stopped")
    # the end is two minutes away, at least one, and so the warning is due; SLURM looks for both every 30 s
    slurm.ask("scontrol", "update", f"jobid={job}", f"timelimit={slurm.seconds(job) // 60 + 2}")
    lifting = Thread(target=lift, args=(slurm, job, first))
    lifting.start()
    # the time goes by while the same training runs in two processes without SLURM
    alone = start_together([*indexed, *WORDS, f"out={undisturbed}"], tmp_path)
    lifting.join()
    wait_for(lambda: process_of(run) != first and step_of(run) >= 15, "more steps, of the job that was requeued")
    os.kill(process_of(run), signal.SIGKILL)
    wait_for(lambda: slurm.ended(job), "the end of the job")
    log = slurm.log(run, job)
    assert slurm.state(job) == "COMPLETED", log
    assert len(re.findall(r"resuming from step \d+", log)) == 2
    assert log.count("stopped and saved, to resume; requeued") == 1
    assert "a process was killed by SIGKILL" in log
    for process in alone:
        assert process.end() == 0, process.text()
    same(run, undisturbed)


def lift(slurm: Slurm, job: str, process: int) -> None:
    """What is left after the warning gets half an hour, however slow the machine is."""
    wait_for(lambda: not held(process), "SLURM's warning, which lets it go on")
    slurm.ask("scontrol", "update", f"jobid={job}", "timelimit=30")


def held(process: int) -> bool:
    """Whether the process is stopped; SLURM sends SIGCONT with its warning."""
    try:
        return "State:\tT" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
