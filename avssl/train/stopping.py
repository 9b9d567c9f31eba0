"""Signals that end a training after it has saved."""

import signal


class StopSignals:
    """SIGTERM and SIGINT are noted rather than raised, until `close`; true once one has come."""

    def __init__(self) -> None:
        self.come = False
        self.before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}

    def __bool__(self) -> bool:
        return self.come

    def _note(self, *_: object) -> None:
        self.come = True

    def close(self) -> None:
        """Signals are again what they were."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
