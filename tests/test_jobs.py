"""Jobs side by side."""

import time

import pytest

from avssl.errors import UserError
from avssl.jobs import avssl, side_by_side


def test_results_come_in_the_order_asked_for():
    def late(job):
        time.sleep(0.02 * (3 - job))
        return 10 * job

    assert list(side_by_side(late, [0, 1, 2], 3).items()) == [(0, 0), (1, 10), (2, 20)]


def test_an_error_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda job: 1 // job, [1, 0], 2)


def test_a_command_in_a_process_of_its_own(tmp_path, capfd):
    spent = avssl("sample", [f"out='{tmp_path / 'videos'}'", "classes=2", "train=1", "test=1"], tmp_path / "it")
    assert spent.seconds > 0
    assert spent.core_seconds > 0
    assert "4 videos written" in (tmp_path / "it.log").read_text()
    with pytest.raises(UserError, match=r"it: avssl: no command 'smaple'; did you mean sample\?.*it\.log"):
        avssl("smaple", [], tmp_path / "it")
    assert capfd.readouterr() == ("", "")
