"""A test, without classes, of whether two sets of features of the same videos are related."""

import numpy as np

from .repeatability import standardised

FOLDS, MOST_COMPONENTS, VIDEOS_PER_COMPONENT = 5, 20, 10
RIDGE = 1.0
"""Weight of the ridge penalty, as a fraction of the mean variance of the components."""


def relatedness(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """How well linear predictions distinguish a video's own features from those of other videos, in standard errors.

    Principal components of y are predicted from those of x by ridge regression, and the reverse, on videos that were
    not fitted. Let s be the mean fraction of other videos whose features are less similar to the prediction than the
    video's own. The result is (s − ½) divided by its standard error: near 0 for unrelated features.

    Args:
        x, y: features of the same videos, float [n, D] each.
        seed: random seed of the folds.
    """
    count = min(MOST_COMPONENTS, len(x) // VIDEOS_PER_COMPONENT)
    if count < 1:
        return 0.0
    first, second = (_components(standardised(features), count) for features in (x, y))
    folds = np.array_split(np.random.default_rng(seed).permutation(len(x)), FOLDS)
    shares = [_shares(a, b, rows) for a, b in ((first, second), (second, first)) for rows in folds]
    return float((np.concatenate(shares).mean() - 0.5) * np.sqrt(12 * len(x)))


def _components(x: np.ndarray, count: int) -> np.ndarray:
    """The largest principal components of x, scaled to equal variance, float [n, count]."""
    left, _, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return left[:, :count] * np.sqrt(len(x))


def _shares(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each of `rows`, the fraction of other rows whose y is less similar to the prediction from x than its own."""
    fitted = np.delete(np.arange(len(x)), rows)
    a, b = x[fitted], y[fitted]
    weights = np.linalg.solve(a.T @ a + RIDGE * len(a) * np.eye(a.shape[1]), a.T @ b)
    guess, true = x[rows] @ weights, y[rows]
    guess, true = (z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in (guess, true))
    alike = guess @ true.T
    own = np.diag(alike)[:, None]
    less, same = (alike < own).sum(1), (alike == own).sum(1) - 1  # ties count half
    return (less + same / 2) / max(1, len(rows) - 1)
