"""How the processes of a training end, and how what launched them gets to know.

Each leaves an `Ending` in a folder that the environment names. Exit statuses alone do not do: a launcher that sees one
process end with another status than 0 ends the others, which may still be saving, and then reports how those died.
So a training that saved and stopped exits with 0, and its ending says that it stopped.

This is read by `avssl.launch.requeue` at the end of a job, within the seconds that SLURM leaves: no torch here.
"""

import os
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from ..core.atomic import write_json
from ..core.errors import FailedError, UserError
from ..core.untrusted import is_count, is_number, read_json

FINISHED, FAILED, REFUSED, REQUEUE, STOPPED = 0, 1, 2, 75, 130
"""Exit statuses of a training: done; an error; a wrong option, path or file; saved, to go on by itself; saved."""

TRAINING = "avssl.train.loop:run"
"""What is launched, as "module:function"; it takes a TrainConfig."""

FOLDER = "AVSSL_ENDINGS"
"""The variable of the environment that names the folder for the endings."""


@dataclass
class Ending:
    """How one process ended: one of the statuses above, the line or traceback of its error, and when (s)."""

    rank: int
    status: int
    text: str
    time: float


def read_endings(folder: Path) -> list[Ending]:
    """The endings left in `folder`, the first to end first. Processes that finished, or were killed, left none."""
    found = []
    for path in folder.glob("*.json"):
        try:
            ending = Ending(**read_json(path))
            if is_count(ending.rank) and is_count(ending.status) and is_number(ending.time):
                found.append(Ending(ending.rank, ending.status, str(ending.text), ending.time))
        except (OSError, UserError, TypeError):  # half of a file, from a machine that went down
            continue
    return sorted(found, key=lambda ending: ending.time)


def planned(endings: list[Ending]) -> int | None:
    """The status of a training that ended of itself: REFUSED, REQUEUE or STOPPED; None where none of them did."""
    statuses = {ending.status for ending in endings}
    return next((status for status in (REFUSED, REQUEUE, STOPPED) if status in statuses), None)


class _TooEarly(KeyboardInterrupt):
    """A scheduler's signal before the training answers signals itself: nothing has been learned that could be saved."""


def run_and_record_exit(config: Any, training: str = TRAINING) -> int:
    """Run one process of a training and leave its ending. Returns the status to exit with."""
    for sort in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(sort, _too_early)
    status, text = FINISHED, ""
    try:
        resolve_name(training)(config)
    except UserError as error:
        status, text = REFUSED, str(error)
    except _TooEarly:
        status, text = REQUEUE, "before the training began"
    except KeyboardInterrupt as error:
        status = REQUEUE if getattr(error, "requeue", False) else STOPPED
    except FailedError as error:
        status, text = FAILED, str(error)
    except Exception:
        status, text = FAILED, traceback.format_exc()
    finally:  # what comes now comes too late to be answered, and must not spoil the ending
        for sort in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(sort, signal.SIG_IGN)
    if status != FINISHED:
        rank = int(os.environ["RANK"])
        write_json(Path(os.environ[FOLDER]) / f"{rank}.json", asdict(Ending(rank, status, text, time.time())))
    # all processes stop together, and none is to be ended for being slower at it; one that stops too early is alone
    return FINISHED if status in (REQUEUE, STOPPED) and not text else status


def _too_early(number: int, _: object) -> None:
    raise _TooEarly


def hard_exit(status: int) -> None:
    """End this process at once: torch 2.14 aborts now and then as an interpreter ends that has held a
    DistributedDataParallel, and a training that has finished would count as one that has failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def tell_error() -> None:
    """Print the error that this process left as its ending, for a log of its own; on one machine that is done once."""
    for ending in read_endings(Path(os.environ[FOLDER])):
        if ending.rank == int(os.environ["RANK"]) and ending.status in (FAILED, REFUSED):
            print(f"avssl: {ending.text}" if ending.status == REFUSED else ending.text, file=sys.stderr, flush=True)
