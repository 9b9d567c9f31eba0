"""Trainings as jobs of a real SLURM: every way that they end, and what becomes of the job then."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from avssl.launch.ending import REFUSED
from tests.launch.conftest import ROOT, Slurm, Train, wait_for

SLURM = ["launch=slurm", "launch.gpus=0", "launch.cpus=1", "launch.minutes=30"]
TWO = [*SLURM, "launch.processes=2"]


def submit(train: Train, out: Path, steps: int, *words: str) -> str:
    """The number of the job."""
    done = train.submit(out, steps, *(words or TWO))
    assert done.returncode == 0, done.stderr
    found = re.search(r"submitted job (\d+)", done.stdout)
    assert found, done.stdout
    return found[1]


@pytest.fixture(scope="module")
def undisturbed(slurm: Slurm, train: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """The folders and numbers of jobs that are left alone, submitted before others are tested."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = train.submit(f"'{folder}/run${{seed}}'", 6, *SLURM, "--multirun", "seed=0,13")
    assert done.returncode == 0, done.stderr
    jobs = {"sweep": (folder, re.search(r"submitted job (\d+): 2 jobs", done.stdout)[1])}
    for name, words in (("refused", [*SLURM, "seed=13"]), ("failing", [*TWO, "seed=14", "launch.restarts=1"])):
        jobs[name] = (folder / name, submit(train, folder / name, 10, *words))
    return jobs


@pytest.fixture(autouse=True)
def _first(request: pytest.FixtureRequest) -> None:
    if "slurm" in request.fixturenames:
        request.getfixturevalue("undisturbed")


def training(train: Train, out: Path) -> bool:
    return train.step(out) > 0


def test_told_to_requeue_and_then_killed_two_tasks_go_on_and_finish(slurm: Slurm, train: Train, tmp_path: Path):
    """With an end at its time limit: test_slurm_training.py."""
    out = tmp_path / "run"
    job = submit(train, out, 60)
    wait_for(lambda: training(train, out), "the first checkpoint")
    first = train.process(out, 1)
    slurm.ask("scancel", "--signal=USR2", job)
    wait_for(lambda: train.process(out, 1) != first, "the requeued job")
    os.kill(train.process(out, 1), signal.SIGKILL)
    wait_for(lambda: slurm.ended(job), "the end of the job")
    log = slurm.log(out, job)
    stopped = re.findall(r"rank 0 stopped at step (\d+)", log)
    assert len(stopped) == 1
    assert f"job {job}: stopped and saved, to resume; requeued" in log
    assert f"job {job}: a process was killed by SIGKILL, failure 1 of at most 3 in a row; requeued" in log
    assert f"job {job}: finished; not requeued" in log
    begun = [int(step) for step in re.findall(r"rank 0 of 2 begins at step (\d+)", log)]
    assert len(begun) == 3
    assert begun[:2] == [0, int(stopped[0])]
    assert begun[2] >= 5  # from a checkpoint, not from nothing
    for rank in (0, 1):
        assert f"rank {rank} of 2 begins at step 0," in slurm.log(out, job, task=rank)
        assert f"rank {rank} finished at step 60" in slurm.log(out, job, task=rank)
    assert slurm.state(job) == "COMPLETED"
    assert train.step(out) == 60


def test_a_cancelled_job_stays_cancelled(slurm: Slurm, train: Train, tmp_path: Path):
    out = tmp_path / "run"
    job = submit(train, out, 3000)
    wait_for(lambda: training(train, out), "the first checkpoint")
    slurm.ask("scancel", job)
    wait_for(lambda: slurm.ended(job), "the end of the job")
    assert slurm.state(job) == "CANCELLED"
    log = slurm.log(out, job)
    assert "rank 0 stopped at step" in log  # saved before
    assert "; not requeued" in log  # cancelled, or, where that was quicker, stopped
    assert log.count("begins at step") == 1


def test_the_template_trains(slurm: Slurm, train: Train, tmp_path: Path):
    """As it is, but for the numbers marked `set` and what is trained."""
    text = (ROOT / "slurm" / "train.sbatch").read_text()
    for before, after in (
        ("--nodes=2 ", "--nodes=1 "), ("--ntasks-per-node=8 ", "--ntasks-per-node=2 "), ("#SBATCH --gpus", "##"),
        ("--cpus-per-task=8 ", "--cpus-per-task=1 "), ("avssl_%j.log", f"{tmp_path}/%j.log"),
        ("python -m avssl.launch", f"{sys.executable} -m avssl.launch"),
        ("python -u -m avssl train", f"{sys.executable} -u -m tests.launch.counting"),
    ):  # fmt: skip
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "train.sbatch").write_text(text)
    out = tmp_path / "run"
    words = [*train.words, f"out={out}", "optim.epochs=40"]
    job = subprocess.run(
        ["sbatch", "--parsable", tmp_path / "train.sbatch", *words],
        capture_output=True, text=True, cwd=ROOT, check=True,
    ).stdout.strip()  # fmt: skip
    wait_for(lambda: training(train, out), "the first checkpoint")
    slurm.ask("scancel", "--signal=USR2", job)
    wait_for(lambda: slurm.ended(job), "the end of the job")
    log = (tmp_path / f"{job}.log").read_text()
    assert f"job {job}: stopped and saved, to resume; requeued" in log
    assert f"job {job}: finished; not requeued" in log
    assert train.step(out) == 40


def test_failures_without_progress_are_not_requeued_for_ever(slurm: Slurm, undisturbed: dict[str, tuple[Path, str]]):
    out, job = undisturbed["failing"]
    wait_for(lambda: slurm.ended(job), "the end of the job")
    log = slurm.log(out, job)
    assert "failed: ValueError: a bug, failure 1 of at most 1 in a row; requeued" in log
    assert "failed: ValueError: a bug, failure 2 in a row without a newer checkpoint; not requeued" in log
    assert slurm.state(job) == "FAILED"


def test_a_refused_training_is_not_requeued(slurm: Slurm, undisturbed: dict[str, tuple[Path, str]]):
    out, job = undisturbed["refused"]
    wait_for(lambda: slurm.ended(job), "the end of the job")
    assert "avssl: seed=13 is unlucky: choose another" in slurm.log(out, job)
    assert "not requeued" in slurm.log(out, job)
    assert "ExitCode=2:0" in slurm.ask("scontrol", "show", "job", job)


def test_a_sweep_is_an_array_of_jobs(slurm: Slurm, train: Train, undisturbed: dict[str, tuple[Path, str]]):
    out, job = undisturbed["sweep"]
    wait_for(lambda: slurm.ended(f"{job}_0") and slurm.ended(f"{job}_1"), "the end of both jobs")
    assert slurm.state(f"{job}_0") == "COMPLETED"
    assert train.step(out / "run0") == 6
    assert slurm.state(f"{job}_1") == "FAILED"
    assert f"job {job}_1: process 0 failed: seed=13 is unlucky" in slurm.log(out, f"{job}_1")


def test_what_sbatch_refuses_is_one_line(slurm: Slurm, train: Train, tmp_path: Path):
    done = train.submit(tmp_path / "run", 10, *TWO, "launch.partition=nowhere")
    assert done.returncode == REFUSED
    assert done.stderr.startswith("avssl: sbatch rejected the job: invalid partition specified: nowhere")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["launch.nodes=two"], "launch.nodes"),
        (["launch.nodse=2"], "did you mean launch.nodes?"),
        (["launch.sbatch=['time=3']"], "time has its own option: set launch.minutes"),
        (["launch.sbatch=['']"], "launch.sbatch= is empty"),
        (["launch.sbatch=['=x']"], "is not an option of sbatch"),
        (["launch.minutes=2"], "launch.warn_seconds=120 is not shorter than launch.minutes=2"),
    ],
)
def test_a_wrong_option_is_one_line(train: Train, tmp_path: Path, words: list[str], line: str):
    done = train.submit(tmp_path / "run", 10, *TWO, "launch.dry=true", *words)
    assert done.returncode == REFUSED
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_dry_shows_the_script_and_submits_nothing(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")  # nor is SLURM needed
    done = train.submit(
        tmp_path / "run", 10, "launch=slurm", "launch.dry=true", "launch.nodes=2", "launch.gpus=4", "launch.cpus=6",
        "launch.partition=long", "launch.account=us", "launch.minutes=90", "launch.warn_seconds=300",
        "launch.setup=[module load cuda]",
        "launch.sbatch=[exclusive,'mail-type=END','mem=102400M','qos=high','constraint=a100']",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in (
        "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=6", "mem=102400M", "partition=long",
        "account=us", "qos=high", "constraint=a100", "time=90", "signal=USR2@300", "exclusive", "mail-type=END",
        "requeue", "job-name=run", f"output={tmp_path}/run/slurm/%j_0_log.out",
    ):  # fmt: skip
        assert f"#SBATCH --{line}\n" in done.stdout
    lines = done.stdout.splitlines()
    assert lines.index("trap at_the_end EXIT") < lines.index("module load cuda")
    assert any(line.startswith("srun ") and "--kill-on-bad-exit=1" in line for line in lines)
    assert not (tmp_path / "run").exists()


def test_without_slurm_it_says_so(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert shutil.which("sbatch") is None
    done = train.submit(tmp_path / "run", 10, *TWO)
    assert done.returncode == REFUSED
    assert "launch=slurm needs sbatch" in done.stderr
