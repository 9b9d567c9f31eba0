"""What a run says and remembers of the signals that end it."""

import signal

import pytest

from avssl.train import signals


@pytest.mark.parametrize(
    ("terminal", "sent", "said"), [(True, "SIGINT", 1), (True, "SIGTERM", 0), (False, "SIGINT", 0)]
)
def test_ctrl_c_is_answered_at_once_and_once_on_a_terminal(monkeypatch, terminal, sent, said):
    written: list[bytes] = []
    monkeypatch.setattr(signals.os, "isatty", lambda _: terminal)
    monkeypatch.setattr(signals.os, "write", lambda _, text: written.append(text))
    held = signals.StopSignals()
    try:
        assert not held
        for _ in range(2):
            signal.raise_signal(signal.Signals[sent])
        assert held
        assert not held.requeue
    finally:
        held.close()
    assert written == [b"\nstopping: what is at work ends first, and is saved\n"] * said
