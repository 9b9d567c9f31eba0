"""k-means and what chooses among its starts."""

import numpy as np
import pytest

from avssl.metrics.kmeans import kmeans


def test_inertia_is_the_squared_distance_to_the_centres():
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    labels, inertia = kmeans(x, 4, seed=1)
    assert (labels.dtype, labels.shape, len(set(labels))) == (np.int32, (60,), 4)
    by_hand = sum(((x[labels == c] - x[labels == c].mean(0)) ** 2).sum() for c in range(4))
    assert inertia == pytest.approx(by_hand, rel=1e-3)


def test_the_start_of_the_lowest_inertia_is_the_better_one():
    centres = 10 * np.eye(6, dtype=np.float32)
    truth = np.repeat(np.arange(6), 10)
    x = centres[truth] + np.random.default_rng(0).normal(0, 0.1, (60, 6)).astype(np.float32)
    starts = [kmeans(x, 6, seed) for seed in range(12)]
    inertia = [squared for _, squared in starts]
    best = starts[inertia.index(min(inertia))][0]
    assert len(set(zip(best, truth, strict=True))) == 6  # each class a cluster
    assert min(inertia) < 60 * 6 * 0.1**2 * 1.5
    assert kmeans(x[:3], 6, 0)[1] == pytest.approx(0, abs=1e-3)  # fewer videos than clusters
