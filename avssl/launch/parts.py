"""How a long command, other than `avssl train`, runs: in this process, or in parts that several processes do.

Part k of N is the same command with AVSSL_PART=k/N. It does only its part of the expensive work, in a way that the
command, run afterwards, finds done. So the result is that of one process, byte for byte, and a part that failed is
repeated alone.
"""

import ctypes
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pkgutil import resolve_name
from typing import Any

from ..core.cores import available_cores
from ..core.errors import FailedError, UserError
from ..core.part import VARIABLE, Part, this_part
from ..core.printable import printable
from ..core.verbosity import is_quiet
from ..runs.jobs import COMMAND, JOBS, Job
from ..runs.sign_of_life import time_of
from .worker import PR_SET_PDEATHSIG

PARTS = {
    "index": "avssl.videos.index:run_part",
    "prepare": "avssl.videos.prepare:run_part",
    "shard": "avssl.videos.shards:run_part",
    "features": "avssl.evaluate.features_parts:run_part",
    "clusters": "avssl.explore.clusters_parts:run_part",
    "label": "avssl.label.label_parts:run_part",
    "evaluate": "avssl.evaluate.evaluate_parts:run_part",
}
"""For each command, the function that does a part of its work, `run_part(config, part)`, as "module:function"."""

TARGETS = {
    "index": ("data.index",), "prepare": ("out",), "shard": ("out",), "features": ("out", "run", "data.index"),
    "clusters": ("run",), "label": ("out", "videos"), "evaluate": ("out", "run", "checkpoint", "features"),
}  # fmt: skip
"""The options of which the first that is given names the job of a command."""

HOW = ("launch", "json", "workers", "threads", "device")
"""Options that do not decide what a command writes."""

PARENT = "AVSSL_PARENT"
"""The environment variable that says that a process ends with the one that started it."""

RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
"""What torchrun and srun call the number of a process, and the number of processes. SLURM_NTASKS says less: a batch
script, which is one process, has it too."""

WAIT = 0.2
"""Time between two looks at the marks of other parts (s)."""


class _Terminated(KeyboardInterrupt):
    """The system ended this part, as at the time limit of its job."""


def run_command(name: str, config: Any, words: Sequence[str], command: Callable[[], object]) -> None:
    """Run a command as its options `launch.*` and the environment say.

    Args:
        name: the command.
        config: its options.
        words: its options as `key=value`, to repeat it.
        command: runs it in this process.

    Raises:
        UserError: options, paths or data are invalid; also those of another part.
        FailedError: a part failed.
    """
    launch, part, ranks = config.launch, _part(), _ranks()
    if launch.dry and launch.where != "slurm":
        raise UserError("launch.dry=true prints the batch scripts of a job: add launch=slurm")
    if any(word.startswith("launch.parts=") for word in words) and launch.where != "slurm":
        raise UserError(f"launch.parts={launch.parts} is for launch=slurm: add it, or give launch.processes=N")
    if part is None and ranks is None and launch.where == "local" and launch.processes < 2:
        job = job_of(name, config)
        _check_idle(job)
        _run_whole(job, command)
        return
    _check_parts(name, config)
    job = job_of(name, config)
    if part is not None:
        _run_part(name, config, job, part)
    elif ranks is not None:
        _run_rank(name, config, job, Part(*ranks), command)
    elif launch.where == "slurm":
        from .slurm_parts import submit

        submit(job, config, [name, *plain_words(words)])
    else:
        _run_processes(job, launch.processes, [name, *plain_words(words)], bool(getattr(config, "json", False)))
        _run_whole(job, command)


def job_of(name: str, config: Any) -> Job:
    """The job of a command with these options."""
    options = {key: value for key, value in asdict(config).items() if key not in HOW}
    digest = hashlib.sha256(json.dumps([name, options], sort_keys=True, default=str).encode()).hexdigest()[:16]
    target = next(filter(None, (_value(config, option) for option in TARGETS[name])), "")
    folder = re.sub(r"[^\w.+-]+", "_", os.path.basename(os.path.abspath(target)))[:100]
    return Job(JOBS / f"{name}_{folder}", name, os.path.abspath(target), digest)


def plain_words(words: Sequence[str]) -> list[str]:
    """The words of a command without those that say where it runs."""
    return [word for word in words if word.partition("=")[0].partition(".")[0] != "launch"]


def parts_to_run(job: Job, parts: int, dead: bool = False, dry: bool = False, **more: Any) -> list[int]:
    """Begin a job, or resume it: the parts that are not done yet. Marks of other parts than these are removed.

    Args:
        job: the job.
        parts: the number of parts.
        dead: no process of the job is alive, whatever its marks say.
        dry: change nothing.
        more: further values for `job.json`.

    Raises:
        UserError: parts of the job are running.
    """
    if not dead:
        _check_idle(job, any_target=True)  # a target of the same name may be elsewhere, and its marks are here
    before = job.note()
    same = before and (before["digest"], before["target"], before["parts"]) == (job.digest, job.target, parts)
    again = same and not job.is_finished
    missing = [number for number in range(parts) if not again or job.state(number)[0] != "finished"]
    if dry:
        return missing
    stale = [*job.part_mark(0).parent.glob("*.json")] if not again else [job.part_mark(number) for number in missing]
    for mark in [*stale, job.folder / COMMAND]:
        mark.unlink(missing_ok=True)
    job.begin(parts, **more)
    return missing


def _part() -> Part | None:
    try:
        return this_part()
    except ValueError:
        why = "" if "SLURM_ARRAY_TASK_ID" in os.environ else " (SLURM sets it in the jobs of an array)"
        raise UserError(f"{VARIABLE}={os.environ[VARIABLE][:60]} is not a part, such as 3/64{why}: unset it") from None


def _ranks() -> tuple[int, int] | None:
    """The number of this process and the number of processes, if torchrun or srun started several."""
    for rank, world in RANKS:
        if rank in os.environ and world in os.environ:
            try:
                part = Part(int(os.environ[rank]), int(os.environ[world]))
            except ValueError:
                raise UserError(
                    f"{rank}={os.environ[rank][:20]} and {world}={os.environ[world][:20]} are not the number of a "
                    "process and the number of processes: unset them"
                ) from None
            return (part.number, part.of) if part.of > 1 else None
    return None


def _value(config: Any, option: str) -> str:
    for name in option.split("."):
        config = getattr(config, name)
    return str(config or "")


def _check_parts(name: str, config: Any) -> None:
    """Raise UserError for work that has no parts."""
    if name == "label" and (config.watch or config.videos == "-"):
        raise UserError(
            "watch=true and a list on standard input have no parts: run them in one process, or label a folder"
        )


def _check_idle(job: Job, any_target: bool = False) -> None:
    """Raise UserError if another process is at work on the same target; or, with `any_target`, in the same folder."""
    note = job.note()
    other = Job(job.folder, job.command, job.target, note.get("digest", ""))
    if not note or (note["target"] != job.target and not any_target) or other.is_finished:
        return
    states = [other.state(number)[0] for number in range(note["parts"])]
    if "running" in states:
        raise UserError(
            f"{states.count('running')} of {len(states)} parts of {job.folder.name} are running: "
            "wait for them, or end them (`avssl runs` shows them)"
        )


def _run_whole(job: Job, command: Callable[[], object]) -> None:
    """Run the command itself; if it takes over the parts of a job, with a mark."""
    if job.note().get("digest") != job.digest or job.is_finished:
        command()
        return
    with job.marked(None):
        command()


def _run_part(name: str, config: Any, job: Job, part: Part, **more: Any) -> None:
    """Do a part of the work."""
    _claim(job, part.of)
    if PARENT in os.environ:
        _end_with_parent()
        _keep_to_cores(part)
    with _raising_at_sigterm(), job.marked(part.number, **more):
        resolve_name(PARTS[name])(config, part)


def _claim(job: Job, parts: int) -> None:
    """Write `job.json` if it does not describe this job yet. Raises UserError for another unfinished job."""
    note = job.note()
    if note.get("digest") == job.digest and note["parts"] == parts:
        return
    if note:
        other = Job(job.folder, note["command"], note["target"], note["digest"])
        states = [other.state(number)[0] for number in range(note["parts"])]
        if not other.is_finished and {"running", "waiting"} & {*states}:
            raise UserError(
                f"{job.folder} is the job of a command with other options or another number of parts, which is not "
                "finished: wait for it, or remove the folder"
            )
    job.begin(parts)


def _run_rank(name: str, config: Any, job: Job, part: Part, command: Callable[[], object]) -> None:
    """Do the part of a process of torchrun or srun. The first one then waits for the others, and runs the command."""
    launch, started = _launch_id(), time.time()
    _run_part(name, config, job, part, launch=launch)
    if part.number:
        return
    timeout = config.launch.timeout

    def of_this_launch(mark: dict[str, Any]) -> bool:
        # a launch without a name does not use marks older than `launch.timeout`: an earlier launch wrote them
        return mark.get("launch") == launch and (bool(launch) or time_of(mark) > started - timeout)

    waiting, seen = {*range(1, part.of)}, time.time()
    while waiting:
        for number in sorted(waiting):
            state, mark = job.state(number)
            if not of_this_launch(mark):
                continue
            seen = max(seen, time_of(mark))
            if state == "finished":
                waiting.discard(number)
            elif state in ("failed", "lost") and (launch or time_of(mark) > started):  # else of an earlier launch
                raise _failure(number, part.of, mark)
        if time.time() - seen > timeout:
            raise FailedError(
                f"{len(waiting)} of {part.of} parts, such as part {min(waiting)}, have shown no sign of life for "
                f"{timeout:g} s: repeat the command to resume, or raise launch.timeout"
            )
        time.sleep(WAIT)
    for variables in RANKS:  # the command would do a share of the work again
        for variable in (*variables, "SLURM_NTASKS"):
            os.environ.pop(variable, None)
    _run_whole(job, command)


def _launch_id() -> str:
    """What the processes that torchrun or srun started together have in common; empty if they have no name for it."""
    if "RANK" not in os.environ:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        return ".".join(os.environ.get(name, "0") for name in names)
    launch = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return "" if launch == "none" else launch


def _failure(number: int, of: int, mark: dict[str, Any], status: int = 1) -> UserError | FailedError:
    why = f"part {number} of {of} failed: {mark.get('why') or 'its process died'}"
    return UserError(why) if status == 2 else FailedError(f"{why}; repeat the command to resume")


def _run_processes(job: Job, count: int, words: list[str], to_errors: bool) -> None:
    """Do all parts in processes of this machine. Raises UserError or FailedError for the first part that failed."""
    missing = parts_to_run(job, count)
    logs = job.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    processes: dict[int, subprocess.Popen[bytes]] = {}
    status: dict[int, int] = {}
    try:
        for number in missing:
            environment = {**os.environ, VARIABLE: f"{number}/{count}", PARENT: str(os.getpid())}
            environment["LOCAL_RANK"] = str(number)  # so each takes its own GPU
            with (logs / f"{number:05d}.log").open("wb") as log:
                command = [sys.executable, "-m", "avssl", *words]
                processes[number] = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while len(status) < len(processes):
            time.sleep(WAIT / 4)
            for number in processes.keys() - status.keys():
                if (ended := processes[number].poll()) is not None:
                    status[number] = ended
                    done = count - len(missing) + sum(value == 0 for value in status.values())
                    _say(f"{done} of {count} parts done", to_errors)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()
    failed = sorted((number for number, ended in status.items() if ended), key=lambda number: status[number] != 2)
    if failed:
        first = failed[0]
        mark = job.state(first)[1]
        if not mark:  # it ended before its work began
            with suppress(OSError):
                lines = (logs / f"{first:05d}.log").read_text(errors="replace").strip().splitlines()
                mark = {"why": lines[-1].removeprefix("avssl: ") if lines else ""}
        raise _failure(first, count, mark, status[first])


def _say(text: str, to_errors: bool) -> None:
    if not is_quiet():
        print(printable(text), file=sys.stderr if to_errors else sys.stdout, flush=True)


def _end_with_parent() -> None:
    """Let the system end this process with the one that started it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if str(os.getppid()) != os.environ[PARENT]:  # it has ended already
            raise _Terminated


def _keep_to_cores(part: Part) -> None:
    """Leave the other parts on this machine their cores; what counts cores then counts those of this part."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if part.of <= len(cores) == available_cores():
        os.sched_setaffinity(0, [cores[i] for i in part.rows(len(cores))])


@contextmanager
def _raising_at_sigterm() -> Iterator[None]:
    """SIGTERM, which SLURM sends at the time limit, is an exception, so that the mark of the part says so."""

    def end(number: int, _: object) -> None:
        raise _Terminated("ended by SIGTERM, as at the time limit of a job")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
