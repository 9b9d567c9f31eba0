"""Signals that end a run after it has saved."""

import signal

REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that schedulers send before a time limit, so that the run resumes in a new job."""


class Stopped(KeyboardInterrupt):
    """A signal ended the run, after it was saved.

    Args:
        requeue: whether the run resumes automatically, in a new job.
        said: whether the message about resuming was printed.
    """

    def __init__(self, requeue: bool = False, said: bool = False):
        super().__init__()
        self.requeue, self.said = requeue, said


class StopSignals:
    """Holds back SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 until `close`. It is true once one of them has arrived."""

    def __init__(self) -> None:
        self.received, self.requeue = False, False
        self.handlers = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT, *REQUEUE)}

    def __bool__(self) -> bool:
        return self.received

    def _note(self, number: int, _: object) -> None:
        self.received = True
        self.requeue |= number in REQUEUE

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
