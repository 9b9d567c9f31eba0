"""How well k-means of features repeats: a figure of their clusters that needs no classes."""

import numpy as np
from sklearn.cluster import KMeans

from .information import contingency, normalised_and_adjusted_information

SPLITS, STARTS = 3, 2
"""Times that the videos are halved, and starts of k-means on each half."""

VIDEOS_PER_CLUSTER = 10
"""Fewest videos of a half for each of its clusters: fewer clusters are looked for where there are not as many."""


def repeatability(x: np.ndarray, clusters: int, seed: int = 0) -> float:
    """How well k-means of features repeats: near 0 for noise, up to 1 for clusters far apart.

    The videos are halved, k-means is fitted to each half, and both label all videos. The figure is the AMI of these
    labels, averaged over `SPLITS` ways to halve them; it is at least 0. Source: prediction strength, Tibshirani and
    Walther 2005.

    Args:
        x: features, float [n, D]. Each is standardised.
        clusters: K.
        seed: of the halves and of k-means.
    """
    half = len(x) // 2
    clusters = min(clusters, half // VIDEOS_PER_CLUSTER)
    if clusters < 2:
        return 0.0
    x = standardised(x)
    found = []
    for split in range(SPLITS):
        order = np.random.default_rng([seed, split]).permutation(len(x))
        labels = [
            KMeans(clusters, n_init=STARTS, random_state=2 * split + number).fit(x[rows]).predict(x)
            for number, rows in enumerate((order[:half], order[half : 2 * half]))
        ]
        found.append(max(0.0, adjusted_information(*labels)))
    return float(np.mean(found))


def adjusted_information(labels: np.ndarray, others: np.ndarray) -> float:
    """The AMI of two labellings, int [N] each; 0 where one of them has a single cluster."""
    table = contingency(labels, others)
    return 0.0 if 1 in table.shape else normalised_and_adjusted_information(table)[1]


def standardised(x: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Features float32 [n, D'] with mean 0 and deviation 1; those that are the same for all rows are left out.

    Args:
        x: float [n, …].
        like: rows that give means and deviations, float [m, …]; by default x.
    """
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    like = x if like is None else np.asarray(like, np.float64).reshape(len(like), -1)
    deviation = like.std(axis=0)
    varies = deviation > 1e-6 * max(1e-12, float(np.abs(like).max(initial=0)))
    if not varies.any():
        return np.zeros((len(x), 1), np.float32)
    return ((x[:, varies] - like[:, varies].mean(axis=0)) / deviation[varies]).astype(np.float32)
