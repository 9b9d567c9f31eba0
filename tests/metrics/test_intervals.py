"""Intervals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from avssl.metrics.intervals import mean_of

VALUES = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=9)


@given(VALUES)
def test_the_interval_is_students(values):
    found = mean_of(values)
    if max(values) - min(values) > 1e-3:
        low, high = stats.t.interval(0.95, len(values) - 1, stats.tmean(values), stats.sem(values))
        assert (found.value - found.half, found.value + found.half) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


def test_one_value_has_no_interval():
    assert mean_of([0.3]).half == math.inf


def test_no_values():
    with pytest.raises(ValueError, match="no values"):
        mean_of([])
