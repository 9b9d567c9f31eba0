"""What differences show."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from avssl.metrics.intervals import mean_of
from experiments.significance import (
    alike,
    cautious,
    decision,
    equivalence_p,
    holm,
    holm_levels,
    interval,
    paired_p,
    power,
    seeds_needed,
    verdict,
)  # fmt: skip

VALUES = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=9)


@given(VALUES, st.floats(-0.1, 0.1))
def test_p_is_of_the_paired_t_test(values, margin):
    if max(values) - min(values) > 1e-3:
        there = stats.ttest_rel(values, [margin] * len(values))
        assert paired_p(values, margin) == pytest.approx(there.pvalue, rel=1e-9, abs=1e-300)


@given(VALUES, st.floats(-0.1, 0.1))
def test_p_is_below_the_level_where_the_interval_leaves_the_margin_out(values, margin):
    found = mean_of(values)
    if max(values) - min(values) > 1e-3 and abs(abs(found.value - margin) - found.half) > 1e-9:
        assert (paired_p(values, margin) < 0.05) == (not found.value - found.half < margin < found.value + found.half)


def test_p_by_hand():
    # mean 0.2, standard deviation 0.1, three values: t = 0.2 / (0.1 / √3) = 2 √3; with two degrees of freedom the
    # two-sided p is 1 - t / √(2 + t²)
    assert paired_p([0.1, 0.2, 0.3]) == pytest.approx(1 - math.sqrt(12 / 14))
    assert paired_p([0.1, 0.2, 0.3], 0.2) == pytest.approx(1)


def test_values_without_spread_test_nothing():
    for values in ([], [0.3], [0.2, 0.2, 0.2], [0.9 - 0.7, 0.8 - 0.6, 0.7 - 0.5]):  # the last, but for rounding
        assert alike(values)
        assert paired_p(values) == paired_p(values, -0.05) == 1
    assert not alike([0.2, 0.2, 0.201])


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and none below one before it
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    # never above 1, and equal values alike
    assert holm([0.5, 0.001, 0.5]) == pytest.approx([1, 0.003, 1])
    assert holm([0.0]) == [0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_adjusts_between_nothing_and_bonferroni(ps):
    adjusted = holm(ps)
    assert all(p <= a <= min(1, len(ps) * p) + 1e-12 for p, a in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    rejected = [i for i in order if adjusted[i] < 0.05]  # Holm's own words: stop at the first that is too large
    stepped = []
    for rank, i in enumerate(order):
        if not ps[i] * (len(ps) - rank) < 0.05:
            break
        stepped.append(i)
    assert rejected == stepped


@pytest.mark.parametrize(
    ("value", "p", "margin", "said"),
    [
        (0.1, 0.049, 0.0, "holds"),
        (-0.1, 0.049, 0.0, "does not hold"),
        (-0.01, 0.049, -0.05, "holds"),
        (-0.06, 0.049, -0.05, "does not hold"),
        (0.1, 0.05, 0.0, "undecided"),
        (-0.1, 1.0, 0.0, "undecided"),
        (0.1, math.nan, 0.0, "undecided"),
    ],
)
def test_the_side_that_is_shown_decides(value, p, margin, said):
    assert verdict(value, p, margin) == said


@given(VALUES, st.floats(0.01, 0.5), st.floats(0.001, 0.2))
def test_the_equivalence_test_agrees_with_its_interval(values, margin, level):
    if max(values) - min(values) > 1e-3:
        low, high = interval(values, 2 * level)
        p = equivalence_p(values, margin)
        both = max(
            stats.ttest_1samp(values, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(values, margin, alternative="less").pvalue,
        )
        assert p == pytest.approx(both, rel=1e-6, abs=1e-12)
        if min(abs(low + margin), abs(high - margin)) > 1e-6:
            assert (p < level) == (-margin < low and high < margin)


@given(st.lists(VALUES, min_size=1, max_size=6), st.floats(-0.2, 0.2))
def test_intervals_at_holms_levels_agree_with_its_decisions(many, margin):
    if all(max(values) - min(values) > 1e-3 for values in many):
        ps = [decision(values, "greater", margin)[1] for values in many]
        for values, p, adjusted, level in zip(many, ps, holm(ps), holm_levels(ps, 0.05), strict=True):
            low, high = interval(values, level)
            if abs(p - level) > 1e-9:
                assert (adjusted < 0.05) == (margin < low or high < margin)


def test_decisions_in_three_words():
    near, far = [0.01, 0.0, -0.01, 0.005], [0.2, 0.21, 0.19, 0.2]
    assert decision(near, "equivalent", 0.05)[0] == "holds"
    assert decision(far, "equivalent", 0.05)[0] == "does not hold"
    assert decision([-x for x in far], "equivalent", 0.05)[0] == "does not hold"
    assert decision(far, "greater", 0.1)[0] == "holds"
    assert decision(far, "greater", 0.3)[0] == "does not hold"
    assert decision(far, "greater", 0.1)[1] == paired_p(far, 0.1)
    assert decision([0.1] * 3, "equivalent", 0.2) == ("undecided", 1.0)


def test_seeds_that_tables_of_the_t_test_give():
    # for an effect of one and of half a standard deviation, 80 % and two sides of 5 %
    assert seeds_needed(1.0, "greater", 0.0, 1.0, 0.05, 0.8) == 10
    assert seeds_needed(1.0, "greater", 0.0, 0.5, 0.05, 0.8) == 34
    assert seeds_needed(1.0, "greater", 0.5, 1.0, 0.05, 0.8) == 34
    assert seeds_needed(1.0, "greater", 0.5, 0.5, 0.05, 0.8) is None
    assert seeds_needed(1.0, "equivalent", 0.5, 0.6, 0.05, 0.8) is None
    assert seeds_needed(1.0, "greater", 0.0, 0.001, 0.05, 0.8) is None  # more than a thousand
    assert seeds_needed(1e-6, "greater", 0.0, 1.0, 0.05, 0.8) == 3
    few, many = power(9, 1.0, "greater", 0.0, 1.0, 0.05), power(10, 1.0, "greater", 0.0, 1.0, 0.05)
    assert few < 0.8 <= many


def test_the_power_of_an_equivalence_test_is_how_often_it_succeeds():
    rng, n, margin = np.random.default_rng(0), 12, 1.0
    found = [equivalence_p([*values], margin) < 0.05 for values in rng.standard_normal((2000, n))]
    assert np.mean(found) == pytest.approx(power(n, 1.0, "equivalent", margin, 0.0, 0.05), abs=0.03)


def test_a_pilot_is_not_believed():
    assert cautious([0.4, 0.5, 0.6], "greater", 0.05, 0.0) < 0.5
    assert cautious([0.001, 0.002, 0.003], "greater", 0.05, 0.0) == 0.05
    assert cautious([-0.1, -0.2], "greater", 0.05, 0.0) == 0.0
    assert cautious([0.4, 0.5], "equivalent", 0.05, 0.1) == 0.0
