"""Few-shot recognition: a linear classifier on a few labelled videos of each class, over seeded draws."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from .neighbours import unit

SHOTS = (1, 5, 20)
DRAWS = 10


def draw(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows of `shots` videos of every label of `labels` [n], int64, ascending: all of a class that has fewer.

    A function of the labels, `shots` and the seed. Fewer shots with one seed are among its more.
    """
    found = []
    for name in np.unique(labels):
        rows = np.flatnonzero(labels == name)
        # a class's own generator: which classes there are besides does not change its draw
        order = np.random.default_rng([seed, *str(name).encode()]).permutation(len(rows))
        found.append(rows[order[:shots]])
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)


def few_shot(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = range(DRAWS),
) -> dict[int, list[float]]:
    """Accuracy on all of `test` [m, D] after `shots` videos a class of `train` [n, D], one value a seed, by shots.

    A logistic regression (L2, C = 10) on features of unit length: from one video a class there is no spread to
    standardise by.
    """
    train, test = unit(train), unit(test)
    found: dict[int, list[float]] = {}
    for n in shots:
        found[n] = []
        for seed in seeds:
            rows = draw(labels, n, seed)
            classifier = LogisticRegression(C=10, max_iter=2000).fit(train[rows], labels[rows])
            found[n].append(float(classifier.score(test, truth)))
    return found
