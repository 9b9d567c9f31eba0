"""How well k-means of features repeats: a measure of clusters that needs no classes."""

import numpy as np
from sklearn.cluster import KMeans

from .information import contingency, normalised_and_adjusted_information

SPLITS, STARTS = 3, 2
"""Number of random halvings of the videos, and starts of k-means on each half."""

VIDEOS_PER_CLUSTER = 10
"""Fewest videos of a half per cluster; with fewer videos, the number of clusters is reduced."""


def repeatability(x: np.ndarray, clusters: int, seed: int = 0) -> float:
    """How well k-means of features repeats: near 0 for noise, up to 1 for clusters far apart.

    The videos are split into halves, k-means is fitted to each half, and both fits label all videos. Their agreement A
    is the AMI of these labels, averaged over `SPLITS` random halvings. Normal noise with the same covariance has an
    agreement A₀ too, because k-means cuts the widest directions of any cloud. The result is (A − A₀) / (1 − A₀), at
    least 0. Source: prediction strength, Tibshirani and Walther 2005.

    Args:
        x: features, float [n, D]. Each is standardised.
        clusters: K.
        seed: random seed of the halves, of k-means and of the noise.
    """
    half = len(x) // 2
    clusters = min(clusters, half // VIDEOS_PER_CLUSTER)
    if clusters < 2:
        return 0.0
    x = standardised(x)
    if not x.any():
        return 0.0
    mixed = np.random.default_rng([seed, SPLITS]).standard_normal((len(x), len(x)), np.float32)
    noise = mixed @ x / np.float32(np.sqrt(len(x)))  # rows with the covariance of x
    found, chance = (agreement_of_halves(rows, clusters, seed) for rows in (x, noise))
    return max(0.0, (found - chance) / max(1e-6, 1 - chance))


def agreement_of_halves(x: np.ndarray, clusters: int, seed: int) -> float:
    """The AMI of k-means fitted to one half of the rows x, float [n, D], with that fitted to the other, at least 0."""
    half, found = len(x) // 2, []
    for split in range(SPLITS):
        order = np.random.default_rng([seed, split]).permutation(len(x))
        labels = [
            KMeans(clusters, n_init=STARTS, random_state=2 * split + number).fit(x[rows]).predict(x)
            for number, rows in enumerate((order[:half], order[half : 2 * half]))
        ]
        found.append(max(0.0, adjusted_information(*labels)))
    return float(np.mean(found))


def adjusted_information(labels: np.ndarray, others: np.ndarray) -> float:
    """The AMI of two labellings, int [N] each; 0 if one of them has a single cluster."""
    table = contingency(labels, others)
    return 0.0 if 1 in table.shape else normalised_and_adjusted_information(table)[1]


def standardised(x: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Features float32 [n, D'] with mean 0 and deviation 1; features that are constant over the rows are dropped.

    Args:
        x: float [n, …].
        like: rows to compute means and deviations from, float [m, …]; by default x.
    """
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    like = x if like is None else np.asarray(like, np.float64).reshape(len(like), -1)
    deviation = like.std(axis=0)
    varies = deviation > 1e-6 * max(1e-12, float(np.abs(like).max(initial=0)))
    if not varies.any():
        return np.zeros((len(x), 1), np.float32)
    return ((x[:, varies] - like[:, varies].mean(axis=0)) / deviation[varies]).astype(np.float32)
