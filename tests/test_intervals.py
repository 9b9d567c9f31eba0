"""Intervals and verdicts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from avssl.intervals import Mean, difference, mean_of, verdict

VALUES = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=9)


@given(VALUES)
def test_the_interval_is_students(values):
    found = mean_of(values)
    if max(values) - min(values) > 1e-3:
        low, high = stats.t.interval(0.95, len(values) - 1, stats.tmean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


@given(VALUES)
def test_a_shift_of_all_is_a_sure_difference(values):
    found = difference([v + 0.25 for v in values], values)
    assert (found.value, found.half) == pytest.approx((0.25, 0), abs=1e-6)
    assert verdict(found) == "holds"
    assert verdict(found, 0.5) == "does not hold"
    back = difference(values, [v + 0.25 for v in values])
    assert verdict(back) == "does not hold"
    assert verdict(back, -0.5) == "holds"


def test_an_interval_around_the_margin_decides_nothing():
    assert verdict(Mean(0.1, 0.2)) == "undecided"
    assert verdict(mean_of([0.3])) == "undecided"
    assert mean_of([0.3]).half == math.inf


def test_values_that_do_not_pair():
    with pytest.raises(ValueError):
        difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no values"):
        mean_of([])
