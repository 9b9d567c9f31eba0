"""Signals that end a run after it has saved."""

import os
import signal
import time

from ..core.printable import is_first_process
from ..core.verbosity import is_quiet

REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that schedulers send before a time limit, so that the run resumes in a new job."""


STDERR = 2


class Stopped(KeyboardInterrupt):
    """A signal ended the run, after it was saved.

    Args:
        requeue: whether the run resumes automatically, in a new job.
        said: whether the message about resuming was printed.
        since: when this process received the signal, s since 1970; None if only another process did.
    """

    def __init__(self, requeue: bool = False, said: bool = False, since: float | None = None):
        super().__init__()
        self.requeue, self.said, self.since = requeue, said, since


class StopSignals:
    """Holds back SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 until `close`. It is true once one of them has arrived;
    `since` is when (s since 1970)."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.requeue = False
        self.handlers = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT, *REQUEUE)}

    def __bool__(self) -> bool:
        return self.since is not None

    def _note(self, number: int, _: object) -> None:
        asked_here = number == signal.SIGINT and os.isatty(STDERR)
        if asked_here and self.since is None and is_first_process() and not is_quiet():
            # not print: its buffer may be in use at this moment
            os.write(STDERR, b"\nstopping: what is at work ends first, and is saved\n")
        self.since = self.since or time.time()
        self.requeue |= number in REQUEUE

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
