"""Plans that are measured briefly: these tests ask what a plan says, not how steady its times are."""

import pytest

from avssl.plan import measure, timing


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(timing.seconds, "__defaults__", (1,))  # times that each thing is run
    monkeypatch.setattr(measure, "MAX_ROWS", 2048)
