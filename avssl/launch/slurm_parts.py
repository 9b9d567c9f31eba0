"""Submit the parts of a command as an array of SLURM jobs, and the command itself as a job that depends on them."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import PartsConfig
from ..core.atomic import write_text
from ..core.errors import UserError
from ..core.part import VARIABLE
from ..core.screen import Console
from ..runs.jobs import Job
from .parts import parts_to_run
from .sbatch import check_sbatch, check_values, environment, further_options, ranges, rejected

ENCODING = ("features", "clusters", "label", "evaluate")
"""The commands that use encoders, and so by default a GPU."""

RENAMED = {
    "time": "launch.minutes", "gpus-per-node": "launch.gpus", "cpus-per-task": "launch.cpus",
    "partition": "launch.partition", "account": "launch.account", "array": "launch.parts",
    **dict.fromkeys(("output", "error", "job-name", "dependency", "kill-on-invalid-dep", "chdir"), ""),
}  # fmt: skip
"""Options of sbatch that have an option of avssl, or are empty here and set by the scripts."""

FOLDER = "slurm"
"""The folder of the scripts and logs, in that of the job."""


def submit(job: Job, config: Any, words: Sequence[str]) -> None:
    """Submit the parts that are not done, and the command itself.

    Args:
        job: the job.
        config: the options of the command.
        words: the command with its options, without `launch.*`.

    Raises:
        UserError: SLURM or avssl rejects an option, or the job is in the queue.
    """
    launch: PartsConfig = config.launch
    options = _options(launch, job, config)
    console = Console(highlight=False, soft_wrap=True, stderr=bool(getattr(config, "json", False)))
    if launch.dry:
        whole = _script(options | _of_command(job, "<number of the array>"), launch, words)
        array = _script(options | _of_array(job, range(launch.parts)), launch, words, launch.parts)
        console.print(f"{array}\n{whole}", markup=False, end="")
        return
    check_sbatch(shutil.which("sbatch"))
    numbers = _submitted(job)
    queued = [name for name in ("array", "command") if _in_queue(numbers.get(name))]
    # what the marks say is older than what SLURM says
    missing = parts_to_run(job, launch.parts, dead=bool(numbers) and not queued, dry=True)
    if "array" in queued or ("command" in queued and not missing):
        number = numbers["array" if "array" in queued else "command"]
        raise UserError(f"job {number} is in the queue with {job.folder.name}: wait for it, or scancel {number}")
    if "command" in queued:  # it depends on a part that failed
        subprocess.run(["scancel", str(numbers["command"])], capture_output=True, check=False)
    before = {path: path.read_bytes() for path in job.folder.rglob("*.json")}
    missing = parts_to_run(job, launch.parts, dead=bool(numbers))
    now: dict[str, int] = {}
    try:
        if missing:
            array = _script(options | _of_array(job, missing), launch, words, launch.parts)
            now["array"] = _sbatch(job, "array", array)
        depends = _of_command(job, now.get("array"))
        now["command"] = _sbatch(job, "command", _script(options | depends, launch, words))
    except UserError:
        if "array" in now:
            subprocess.run(["scancel", str(now["array"])], capture_output=True, check=False)
        for path in {*job.folder.rglob("*.json")} - before.keys():
            path.unlink(missing_ok=True)
        for path, text in before.items():  # what was done before stays done
            path.write_bytes(text)
        raise
    job.begin(launch.parts, slurm=now)
    ids = " ".join(map(str, now.values()))
    if missing:
        count = f"{len(missing)} of {launch.parts} parts" if len(missing) < launch.parts else f"{launch.parts} parts"
        console.print(f"submitted job {now['array']}: {count}, up to {launch.minutes} min each")
    console.print(f"submitted job {now['command']}: the command itself{', once they are done' if missing else ''}")
    console.print(f"  logs    {job.folder / FOLDER}", markup=False)
    console.print("  state   avssl runs")
    console.print(f"  cancel  scancel {ids}")


def _options(launch: PartsConfig, job: Job, config: Any) -> dict[str, Any]:
    """The options of sbatch for each of the jobs."""
    gpus = launch.gpus
    if gpus < 0:
        gpus = int(job.command in ENCODING and getattr(config, "device", "auto") != "cpu")
    standard = {
        "job-name": job.folder.name, "chdir": os.getcwd(), "nodes": 1, "ntasks": 1, "cpus-per-task": launch.cpus,
        "gpus-per-node": gpus, "time": launch.minutes, "partition": launch.partition, "account": launch.account,
    }  # fmt: skip
    return {key: value for key, value in standard.items() if value} | further_options(launch.sbatch, RENAMED)


def _of_array(job: Job, parts: Sequence[int]) -> dict[str, Any]:
    return {"array": ranges(parts), "output": job.folder / FOLDER / "%A_%a.out"}


def _of_command(job: Job, array: object | None) -> dict[str, Any]:
    output = {"output": job.folder / FOLDER / "%j.out"}
    # without the second, a job whose dependency failed would wait for ever
    return output | ({} if array is None else {"dependency": f"afterok:{array}", "kill-on-invalid-dep": "yes"})


def _script(options: dict[str, Any], launch: PartsConfig, words: Sequence[str], parts: int = 0) -> str:
    """A batch script: of an array of `parts`, or of the command itself for 0."""
    check_values(options)
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{k}" + ("" if v is True else f"={shlex.quote(str(v))}") for k, v in options.items()]
    lines += launch.setup
    if parts:
        lines.append(f'export {VARIABLE}="$SLURM_ARRAY_TASK_ID/{parts}"')
    # exec: SLURM's signals reach the command itself
    lines.append(f"exec {shlex.quote(sys.executable)} -u -m avssl {' '.join(map(shlex.quote, words))}")
    return "\n".join(lines) + "\n"


def _sbatch(job: Job, name: str, script: str) -> int:
    """Submit a script, and return the number of the job."""
    path: Path = job.folder / FOLDER / f"{name}.sbatch"
    write_text(path, script)
    done = subprocess.run(
        ["sbatch", "--parsable", str(path)], capture_output=True, text=True, check=False, env=environment()
    )
    number = done.stdout.strip().partition(";")[0]
    if done.returncode or not number.isdigit():
        raise rejected(done.stderr or done.stdout or f"exit status {done.returncode}")
    sys.stderr.write(done.stderr)  # the cluster's messages to its users
    return int(number)


def _submitted(job: Job) -> dict[str, int]:
    """The numbers of the jobs that an earlier command submitted."""
    numbers = job.note().get("slurm")
    if not isinstance(numbers, dict):
        return {}
    return {name: x for name, x in numbers.items() if isinstance(x, int) and not isinstance(x, bool) and 0 < x < 2**32}


def _in_queue(number: int | None) -> bool:
    """Whether a job waits or runs. One that SLURM no longer knows does not."""
    if number is None:
        return False
    words = ["squeue", "--noheader", "--format=%i", f"--jobs={number}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode == 0 and bool(done.stdout.strip())
