"""Intervals and verdicts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from avssl.intervals import Mean, mean_of, verdict

VALUES = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=9)


@given(VALUES)
def test_the_interval_is_students(values):
    found = mean_of(values)
    if max(values) - min(values) > 1e-3:
        low, high = stats.t.interval(0.95, len(values) - 1, stats.tmean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


@given(st.floats(-1, 1), st.floats(0.001, 1), st.floats(0.001, 1))
def test_the_side_of_the_margin_decides(margin, half, apart):
    assert verdict(Mean(margin + half + apart, half), margin) == "holds"
    assert verdict(Mean(margin - half - apart, half), margin) == "does not hold"


def test_an_interval_around_the_margin_decides_nothing():
    assert verdict(Mean(0.1, 0.2)) == "undecided"
    assert verdict(mean_of([0.3])) == "undecided"
    assert mean_of([0.3]).half == math.inf


def test_no_values():
    with pytest.raises(ValueError, match="no values"):
        mean_of([])
