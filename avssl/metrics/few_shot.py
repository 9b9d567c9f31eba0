"""Few-shot recognition: a linear classifier on a few labelled videos per class, over random draws."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from .neighbours import unit

SHOTS = (1, 5, 20)
DRAWS = 10
"""Number of random draws of the labelled videos."""


def draw(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Draw `shots` videos of every class in `labels` [n], or all videos of a class that has fewer.

    The draw depends on the labels, `shots` and the seed. For the same seed, the draw of fewer shots is a subset.

    Returns:
        The rows, int64, ascending.
    """
    drawn = []
    for name in np.unique(labels):
        rows = np.flatnonzero(labels == name)
        # each class has its own generator, so that its draw does not depend on other classes
        order = np.random.default_rng([seed, *str(name).encode()]).permutation(len(rows))
        drawn.append(rows[order[:shots]])
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)


def few_shot(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = range(DRAWS),
) -> dict[int, list[float]]:
    """Accuracy of a logistic regression (L2, C = 10) that is trained on a few videos per class.

    Features are scaled to unit length, not unit variance, which cannot be estimated from one video per class.

    Args:
        train: features, float [n, D].
        labels: classes of `train`, [n].
        test: features, float [m, D].
        truth: classes of `test`, [m].
        shots: numbers of training videos per class.
        seeds: random seeds of the draws.

    Returns:
        The accuracy on `test` for each seed, by the number of shots.
    """
    train, test = unit(train), unit(test)
    accuracies: dict[int, list[float]] = {}
    for n in shots:
        accuracies[n] = []
        for seed in seeds:
            rows = draw(labels, n, seed)
            classifier = LogisticRegression(C=10, max_iter=2000).fit(train[rows], labels[rows])
            accuracies[n].append(float(classifier.score(test, truth)))
    return accuracies
