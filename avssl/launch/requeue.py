"""`python -m avssl.launch.requeue <run folder> <status>`: what becomes of a SLURM job whose training has ended.

The last line of the job's script, in the job. `status` is srun's, and counts where the processes left no ending in
$AVSSL_ENDINGS. The exit status is that of the training. Quick: no torch is imported.

Why not a handler of signals in the training: that requeues at an arbitrary instant, from one process, and a process
that is killed has no handler.
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
"""Shells report a process that a signal ended as this and the signal's number."""


@dataclass
class Decision:
    """Is the job requeued, why, and how many failures in a row that makes."""

    requeue: bool
    why: str
    failures: int = 0


def newest(run: Path) -> str:
    """The name of the newest checkpoint of a run; empty where there is none."""
    return max((path.name for path in run.glob("checkpoints/step_*")), default="")


def decide(status: int, end: str, state: str, reason: str, failures: int, newer: bool, restarts: int) -> Decision:
    """What becomes of a job.

    Args:
        status, end: of the training, as a number and in words.
        state, reason: SLURM's, of the job, while its script still runs: COMPLETING is a job that SLURM is ending.
        failures: that came in a row before this end.
        newer: has a checkpoint been written since the last of them?
        restarts: the most failures in a row to requeue after.
    """
    if status == REQUEUE and (state == "RUNNING" or reason == "TimeLimit"):
        return Decision(True, "stopped and saved, to go on")
    if status in (REFUSED, STOPPED):
        return Decision(False, end if status == REFUSED else "stopped by its user")
    if state != "RUNNING" and reason != "TimeLimit":
        return Decision(False, "SLURM is ending the job: cancelled, or preempted")
    if status == FINISHED and state == "RUNNING":
        return Decision(False, "finished")
    why = "the time limit came before it had saved" if reason == "TimeLimit" else end
    failures = 1 if newer else failures + 1
    if failures > restarts:
        return Decision(False, f"{why}, failure {failures} in a row without a newer checkpoint", failures)
    return Decision(True, f"{why}, failure {failures} of at most {restarts} in a row", failures)


def status_of(status: int, endings: list[Ending]) -> int:
    """The status of a training: as its processes say, else srun's."""
    if status - KILLED in (signal.SIGUSR1, signal.SIGUSR2):  # told to stop before Python was there to answer
        status = REQUEUE
    return planned(endings) or status


def describe(status: int, endings: list[Ending]) -> str:
    """In a few words, how a training ended that neither finished nor stopped."""
    number = status - KILLED
    if number > 0 and number not in (signal.SIGTERM, signal.SIGABRT):  # by those, others end what is left
        known = number in [*signal.Signals]
        return f"a process was killed by {signal.Signals(number).name if known else f'signal {number}'}"
    for ending in endings:
        if ending.status in (FAILED, REFUSED):
            return f"process {ending.rank} failed: {(ending.text.strip().splitlines() or [''])[-1][:200]}"
    return f"failed with status {status}"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m avssl.launch.requeue", description="At the end of a SLURM job.")
    parser.add_argument("run", type=Path, help="run folder of the training")
    parser.add_argument("status", type=int, help="exit status of srun")
    parser.add_argument("--restarts", type=int, default=3, help="most failures in a row without a newer checkpoint")
    given = parser.parse_args(words)
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # the number of an array is that of one of its jobs too: alone it would mean all of them
    job = f"{array}_{element}" if array else os.environ["SLURM_JOB_ID"]
    left = os.environ.get(FOLDER)
    endings = read_endings(Path(left)) if left else []
    status = status_of(given.status, endings)
    state, reason = job_state(job)
    note = given.run / "slurm" / NOTE
    before: dict[str, Any] = {}
    with suppress(UserError):
        before = read_json(note)
    if before.get("job") != job or not is_count(before.get("failures")) or not isinstance(before.get("newest"), str):
        before = {"failures": 0, "newest": ""}
    now = newest(given.run)
    end = describe(status, endings)
    decision = decide(status, end, state, reason, before["failures"], now > before["newest"], given.restarts)
    with suppress(OSError, UserError):  # a full disk is no reason to leave the job lying
        write_json(note, {"job": job, "failures": decision.failures, "newest": now, "why": decision.why})
    _say(f"job {job}: {decision.why}; {'requeued' if decision.requeue else 'not requeued'}")
    if left:
        shutil.rmtree(left, ignore_errors=True)
    if decision.requeue:  # it ends this process too
        try:
            _scontrol("requeue", job)
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip()
            _say(f"job {job}: could not be requeued ({said}): submit it again, it goes on from its last checkpoint")
    if status == FINISHED and state != "RUNNING":
        return FAILED  # the script was ended before its training was
    return status


def job_state(job: str) -> tuple[str, str]:
    """SLURM's state of a job, and the reason of it. RUNNING where SLURM does not answer."""
    for _ in range(3):
        try:
            shown = _scontrol("show", "job", "--oneliner", job)
        except (OSError, subprocess.SubprocessError):
            time.sleep(2)
            continue
        found = dict(re.findall(r"(JobState|Reason)=(\S+)", shown))
        return found.get("JobState", "RUNNING"), found.get("Reason", "None")
    return "RUNNING", "None"


def _scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], capture_output=True, text=True, check=True, timeout=60).stdout


def _say(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
