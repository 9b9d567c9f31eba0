"""How the processes of a run end, and how their launcher finds out.

Each process writes an `Ending` to a folder that an environment variable names. Exit statuses are not enough: when a
process ends with a status other than 0, the launcher ends the others, which may still be saving, and then reports how
those died. Therefore a run that saved and stopped exits with 0, and its ending says that it stopped.

`avssl.launch.requeue` imports this file at the end of a job, in the few seconds that SLURM leaves, so it must not
import torch.
"""

import os
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.atomic import write_json
from ..core.errors import FailedError, UserError
from ..core.untrusted import is_count, is_number, read_json

FINISHED, FAILED, REFUSED, REQUEUE, STOPPED = 0, 1, 2, 75, 130
"""Exit statuses of a run: done; an error; an invalid option, path or file; saved, to be requeued; saved."""

TRAINING = "avssl.train.loop:run"
"""The function to launch, as "module:function"; its argument is a TrainConfig."""

FOLDER = "AVSSL_ENDINGS"
"""The environment variable that names the folder for the endings."""


@dataclass
class Ending:
    """The end of one process: its exit status, the line or traceback of its error, and the time (s); of a process that
    stopped, the time of its signal."""

    rank: int
    status: int
    text: str
    time: float


def read_endings(folder: Path) -> list[Ending]:
    """The endings in `folder`, ordered by time. Processes that finished or were killed have none."""
    endings = []
    for path in folder.glob("*.json"):
        try:
            ending = Ending(**read_json(path))
            if is_count(ending.rank) and is_count(ending.status) and is_number(ending.time):
                endings.append(Ending(ending.rank, ending.status, str(ending.text), ending.time))
        except (OSError, UserError, TypeError):  # an incomplete file, from a machine that failed
            continue
    return sorted(endings, key=lambda ending: ending.time)


def planned(endings: list[Ending]) -> int | None:
    """The status of a run whose processes ended by themselves: REFUSED, REQUEUE or STOPPED; else None.

    srun and torch send SIGTERM to the other processes after one has failed: a stop that began later is not the user's.
    """
    failed = min((ending.time for ending in endings if ending.status == FAILED), default=float("inf"))
    stopped = min((ending.time for ending in endings if ending.status == STOPPED), default=failed)
    statuses = {ending.status for ending in endings} - ({STOPPED} if failed < stopped else set())
    return next((status for status in (REFUSED, REQUEUE, STOPPED) if status in statuses), None)


class _TooEarly(KeyboardInterrupt):
    """A scheduler's signal came before the run handles signals, when there is nothing to save yet."""


def run_and_record_exit(config: Any, training: str = TRAINING) -> int:
    """Run one process of a run and write its ending. Returns the exit status."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _too_early)
    status, text = FINISHED, ""
    since: float | None = None
    try:
        from .features_first import train

        train(config, training)
    except UserError as error:
        status, text = REFUSED, str(error)
    except _TooEarly:
        status, text = REQUEUE, "before the run began"
    except KeyboardInterrupt as error:
        status, since = REQUEUE if getattr(error, "requeue", False) else STOPPED, getattr(error, "since", None)
    except FailedError as error:
        status, text = FAILED, str(error)
    except Exception:
        status, text = FAILED, traceback.format_exc()
    finally:  # signals come too late now, and must not interrupt the writing of the ending
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    if status != FINISHED:
        rank = int(os.environ["RANK"])
        write_json(Path(os.environ[FOLDER]) / f"{rank}.json", asdict(Ending(rank, status, text, since or time.time())))
    # with status 0 the launcher does not end slower processes, which also stop; one that stops too early is an
    # exception
    return FINISHED if status in (REQUEUE, STOPPED) and not text else status


def _too_early(number: int, _: object) -> None:
    raise _TooEarly


def hard_exit(status: int) -> None:
    """End this process at once.

    torch 2.14 sometimes aborts at the end of an interpreter that has used DistributedDataParallel, and a finished run
    would count as failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def print_error() -> None:
    """Print the error in this process's ending, for the log of a SLURM task. `launch.local` prints errors only once."""
    for ending in read_endings(Path(os.environ[FOLDER])):
        if ending.rank == int(os.environ["RANK"]) and ending.status in (FAILED, REFUSED):
            print(f"avssl: {ending.text}" if ending.status == REFUSED else ending.text, file=sys.stderr, flush=True)
