"""Trainings as processes of their own, several at a time: what the experiments of many runs share."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from avssl.core.cores import available_cores
from avssl.core.device import choose_device
from avssl.core.errors import UserError
from avssl.core.progress import track

Job = TypeVar("Job")
Result = TypeVar("Result")


def jobs_at_a_time(asked: int, device: str) -> int:
    """`asked`, or for 0 one per core on a CPU and one on a GPU."""
    return asked or (available_cores() if choose_device(device).type == "cpu" else 1)


def run_parallel(do: Callable[[Job], Result], wanted: Iterable[Job], jobs: int) -> dict[Job, Result]:
    """`do` of each of `wanted`, `jobs` at a time, with a progress bar, in the order of `wanted`; the first
    error ends those not begun, an interrupt (Ctrl-C) also the commands of `avssl` at work."""
    wanted = list(wanted)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(do, job): job for job in wanted}
        try:
            found = {waiting[done]: done.result() for done in track(as_completed(waiting), "trainings", len(wanted))}
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                for process in [*_running]:
                    process.terminate()
            elif _running:
                print(f"{error}\nwaiting for what is at work beside it: Ctrl-C stops that", file=sys.stderr)
            raise
    return {job: found[job] for job in wanted}


def device_words(device: str, jobs: int) -> list[str]:
    """What a command is told of the machine: several at a time decode and compute in one thread each."""
    return [f"device={device}"] + ([] if jobs == 1 else ["workers=0", "threads=1"])


def word(key: str, path: str | Path) -> str:
    """key='path', as the command line reads it."""
    escaped = str(path).replace("'", r"\'")
    return f"{key}='{escaped}'"


@dataclass(frozen=True)
class Spent:
    """What a command took (s): by the clock, and of cores."""

    seconds: float
    core_seconds: float


_running: set[Any] = set()
"""Processes of `avssl`."""


def avssl(command: str, words: Sequence[str], folder: Path) -> Spent:
    """Run a command in a process of its own, its output going to `folder`.log; UserError with its last line where it
    fails, or for one that was killed."""
    log, began = folder.with_suffix(".log"), time.monotonic()
    here, there = Pipe(duplex=False)
    process = _processes().Process(target=_command, args=([command, *words], str(log), there))
    process.start()
    _running.add(process)
    there.close()
    try:
        status, core_seconds = here.recv()
    except EOFError:  # it ended without a word
        status, core_seconds = 1, math.nan
    finally:
        here.close()
        process.join()
        _running.discard(process)
    if process.exitcode and process.exitcode < 0:
        why = "out of memory?" if process.exitcode == -signal.SIGKILL else signal.Signals(-process.exitcode).name
        raise UserError(f"{folder.name}: avssl {command} was killed ({why}); repeat the command to resume ({log})")
    if status:
        last = log.read_text().strip().splitlines()[-1:]
        raise UserError(f"{folder.name}: {' '.join(last)} ({log})")
    return Spent(time.monotonic() - began, core_seconds)


def _processes() -> Any:
    """How processes are started: forked off one that has imported what takes a command seconds to import."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["avssl.train.loop", "avssl.evaluate.command"])
    return context


def _command(words: list[str], log: str, told: Connection) -> None:
    from avssl.cli import main

    Thread(target=_end_with_parent, daemon=True).start()
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    before = sum(os.times()[:4])
    status = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(BrokenPipeError):  # whoever started it was killed
        told.send((status, sum(os.times()[:4]) - before))


def _end_with_parent() -> None:
    """Whoever started the commands may be killed: what then still runs would meet the next start in one run folder."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)  # as a scheduler stops them: a training saves
