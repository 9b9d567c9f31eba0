"""Signals that end a training after it has saved."""

import signal

REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)
"""What schedulers send ahead of a time limit: the training is to go on in a job of its own."""


class Stopped(KeyboardInterrupt):
    """A training that a signal ended, after it has saved. `requeue`: it is to go on by itself; `said`: it has said how
    to go on."""

    def __init__(self, requeue: bool = False, said: bool = False):
        super().__init__()
        self.requeue, self.said = requeue, said


class StopSignals:
    """SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 are noted rather than acted upon, until `close`; true once one has come."""

    def __init__(self) -> None:
        self.come, self.requeue = False, False
        self.before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT, *REQUEUE)}

    def __bool__(self) -> bool:
        return self.come

    def _note(self, number: int, _: object) -> None:
        self.come = True
        self.requeue |= number in REQUEUE

    def close(self) -> None:
        """Signals are again what they were."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
