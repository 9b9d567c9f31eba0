"""`python -m avssl.launch.requeue <run folder> <status>`: decide whether a SLURM job is requeued after its run.

The last line of the job's script calls it. `status` is srun's, and is used if the processes left no ending in
$AVSSL_ENDINGS. The exit status is that of the run. It does not import torch, so that it is quick.

A signal handler in the run is no alternative: it would requeue at an arbitrary moment, from one process, and a killed
process has no handler.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.atomic import read_json, write_json
from ..core.errors import UserError
from ..core.untrusted import is_count
from .ending import FAILED, FINISHED, FOLDER, REFUSED, REQUEUE, STOPPED, Ending, planned, read_endings

NOTE = "requeue.json"
KILLED = 128
"""Shells report a process that a signal ended with this status plus the signal's number."""


@dataclass
class Decision:
    """Whether the job is requeued, the reason, and the number of failures in a row."""

    requeue: bool
    why: str
    failures: int = 0


def newest(run: Path) -> str:
    """The name of the newest checkpoint of a run; empty if there is none."""
    return max((path.name for path in run.glob("checkpoints/step_*")), default="")


def decide(status: int, end: str, state: str, reason: str, failures: int, newer: bool, restarts: int) -> Decision:
    """Decide whether a job is requeued.

    Args:
        status, end: how the run ended, as a number and in words.
        state, reason: state and reason of the job in SLURM while its script runs; COMPLETING: SLURM is ending the job.
        failures: number of failures in a row before this end.
        newer: whether a checkpoint was written since the last failure.
        restarts: most failures in a row after which the job is requeued.
    """
    if status == REQUEUE and (state == "RUNNING" or reason == "TimeLimit"):
        return Decision(True, "stopped and saved, to resume")
    if status in (REFUSED, STOPPED):
        return Decision(False, end if status == REFUSED else "stopped by the user")
    if state != "RUNNING" and reason != "TimeLimit":
        return Decision(False, "SLURM is ending the job: cancelled, or preempted")
    if status == FINISHED and state == "RUNNING":
        return Decision(False, "finished")
    why = "the time limit came before the run was saved" if reason == "TimeLimit" else end
    failures = 1 if newer else failures + 1
    if failures > restarts:
        return Decision(False, f"{why}, failure {failures} in a row without a newer checkpoint", failures)
    return Decision(True, f"{why}, failure {failures} of at most {restarts} in a row", failures)


def status_of(status: int, endings: list[Ending]) -> int:
    """The status of a run, from its processes' endings or else srun's."""
    if status - KILLED in (signal.SIGUSR1, signal.SIGUSR2):  # the signal came before Python had started
        status = REQUEUE
    return planned(endings) or status


def describe(status: int, endings: list[Ending]) -> str:
    """How a run that neither finished nor stopped has ended, in a few words."""
    number = status - KILLED
    # SIGTERM and SIGABRT are how srun and torch end the other processes after a failure
    if number > 0 and number not in (signal.SIGTERM, signal.SIGABRT):
        has_name = number in [*signal.Signals]
        return f"a process was killed by {signal.Signals(number).name if has_name else f'signal {number}'}"
    for ending in endings:
        if ending.status in (FAILED, REFUSED):
            return f"process {ending.rank} failed: {(ending.text.strip().splitlines() or [''])[-1][:200]}"
    return f"failed with status {status}"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m avssl.launch.requeue", description="At the end of a SLURM job.")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("status", type=int, help="exit status of srun")
    parser.add_argument("--restarts", type=int, default=3, help="most failures in a row without a newer checkpoint")
    options = parser.parse_args(words)
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # the number of an array without an index would mean all of its jobs
    job = f"{array}_{element}" if array else os.environ["SLURM_JOB_ID"]
    endings_folder = os.environ.get(FOLDER)
    endings = read_endings(Path(endings_folder)) if endings_folder else []
    status = status_of(options.status, endings)
    state, reason = job_state(job)
    note = options.run / "slurm" / NOTE
    before: dict[str, Any] = {}
    with suppress(UserError):
        before = read_json(note)
    if before.get("job") != job or not is_count(before.get("failures")) or not isinstance(before.get("newest"), str):
        before = {"failures": 0, "newest": ""}
    checkpoint = newest(options.run)
    end = describe(status, endings)
    newer = checkpoint > before["newest"]
    decision = decide(status, end, state, reason, before["failures"], newer, options.restarts)
    with suppress(OSError, UserError):  # a full disk must not prevent a requeue
        write_json(note, {"job": job, "failures": decision.failures, "newest": checkpoint, "why": decision.why})
    _say(f"job {job}: {decision.why}; {'requeued' if decision.requeue else 'not requeued'}")
    if endings_folder:
        shutil.rmtree(endings_folder, ignore_errors=True)
    if decision.requeue:  # last, because this also ends this process
        try:
            _scontrol("requeue", job)
        except (OSError, subprocess.SubprocessError) as error:
            why = str(getattr(error, "stderr", "") or error).strip()
            _say(f"job {job}: could not be requeued ({why}): submit it again to resume from its last checkpoint")
    if status == FINISHED and state != "RUNNING":
        return FAILED  # SLURM ended the script before the run had finished
    return status


def job_state(job: str) -> tuple[str, str]:
    """The state of a job in SLURM, and its reason; RUNNING if SLURM does not answer."""
    for _ in range(3):
        try:
            line = _scontrol("show", "job", "--oneliner", job)
        except (OSError, subprocess.SubprocessError):
            time.sleep(2)
            continue
        fields = dict(re.findall(r"(JobState|Reason)=(\S+)", line))
        return fields.get("JobState", "RUNNING"), fields.get("Reason", "None")
    return "RUNNING", "None"


def _scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], capture_output=True, text=True, check=True, timeout=60).stdout


def _say(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
