"""Draws that are reproducible and nested; separable features, and noise."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from avssl.evaluate.report import show
from avssl.metrics.few_shot import draw, few_shot
from avssl.metrics.fold_means import mean_over_folds
from avssl.metrics.intervals import mean_of


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 5))
def test_draws(labels, shots, seed):
    labels = np.array(labels)
    rows = draw(labels, shots, seed)
    assert np.array_equal(rows, draw(labels, shots, seed))
    assert len(set(rows.tolist())) == len(rows)
    for name in set(labels.tolist()):
        assert (labels[rows] == name).sum() == min(shots, (labels == name).sum())
    assert set(draw(labels, 1, seed).tolist()) <= set(rows.tolist())
    # a class draws the same whatever other classes there are
    first = labels[0]
    alone = labels == first
    assert np.array_equal(np.flatnonzero(alone)[draw(labels[alone], shots, seed)], rows[labels[rows] == first])


def test_seeds_draw_differently():
    labels = np.repeat(np.array(["a", "b"]), 100)
    assert len({tuple(draw(labels, 3, seed)) for seed in range(10)}) == 10


def test_draws_that_are_all_the_same_have_no_interval():
    cells = {
        "1": {"mean": 0.5, "half": 0.1, "values": [0.4, 0.6]},
        "20": {"mean": 0.7, "half": None, "values": [0.7] * 2},
    }
    figures = {"columns": ["class"], "folds": [1], "few_shot": {"video": {"class": cells}}}
    console = Console(width=120, record=True, file=io.StringIO())
    show(figures, console)
    text = console.export_text()
    assert "50.0 ± 10.0" in text
    assert "70.0 ±" not in text
    assert "no ± for 20-shot: every draw is the same, because no class has more videos" in text
    assert mean_over_folds([figures["few_shot"]] * 2)["video"]["class"]["20"]["half"] is None


def test_separable_features_give_all_and_noise_gives_chance():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array(list("abcd")), 30)
    corners = np.eye(4, 16)[np.repeat(np.arange(4), 30)]
    clean = [corners + 0.01 * rng.standard_normal(corners.shape) for _ in range(2)]
    found = few_shot(clean[0], labels, clean[1], labels, seeds=range(3))
    assert found == {1: [1.0] * 3, 5: [1.0] * 3, 20: [1.0] * 3}
    noise = rng.standard_normal((2, 120, 16))
    for values in few_shot(noise[0], labels, noise[1], labels, shots=(1, 5)).values():
        assert len(values) == 10
        interval = mean_of(values)
        assert interval.half < 0.1
        assert interval.value == pytest.approx(0.25, abs=3 * interval.half)
