"""Jobs side by side."""

import time

import pytest

from avssl.jobs import side_by_side


def test_results_come_in_the_order_asked_for():
    def late(job):
        time.sleep(0.02 * (3 - job))
        return 10 * job

    assert list(side_by_side(late, [0, 1, 2], 3).items()) == [(0, 0), (1, 10), (2, 20)]


def test_an_error_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda job: 1 // job, [1, 0], 2)
