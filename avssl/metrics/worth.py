"""How good a labelling is, measured without classes, and k-means on the same features as the baseline to beat."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from .clustering import clustering_metrics
from .repeatability import adjusted_information, standardised

STARTS = 10
"""Number of starts of k-means."""

FOLDS = 5
"""Folds of the videos; each is predicted by a probe that was fitted to the others."""

RIDGE = 1.0
"""Penalty on the probe's squared weights, per video that it is fitted to; features have deviation 1."""

MARGIN = 0.05
"""Smallest difference of `Worth.predicted` from which a baseline counts as better."""

BOTH = "both"


@dataclass
class Worth:
    """The measures of one labelling of the reported videos."""

    by_modality: dict[str, float]
    """AMI of the labels with the predictions of a linear probe on each modality, for videos it was not fitted to."""
    metrics: dict[str, float | None] | None = None
    """NMI, AMI and accuracy, if classes are known."""
    repeats: float | None = None
    """`repeatability` of k-means on these features; None for the labels of heads."""

    @property
    def predicted(self) -> float:
        """How well the modalities predict the labels, 0 to 1: the mean of `by_modality`."""
        return float(np.mean([*self.by_modality.values()]))


def kmeans_floors(
    fitted: Mapping[str, np.ndarray], features: Mapping[str, np.ndarray], clusters: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Labels of videos by k-means on each modality's features, and on both concatenated with equal variance.

    Args:
        fitted: features that k-means is fitted to, float [m, D] per modality.
        features: features of the videos to label, float [n, D] per modality.
        clusters: K; reduced to m if that is less.
        seed: random seed of k-means.

    Returns:
        Labels int32 [n] per modality, and as `both` if there are several modalities.
    """
    fit = {name: balanced(x) for name, x in fitted.items()}
    label = {name: balanced(features[name], x) for name, x in fitted.items()}
    if len(fit) > 1:
        fit[BOTH], label[BOTH] = (np.concatenate([*x.values()], axis=1) for x in (fit, label))
    labels = {}
    for name, x in fit.items():
        distinct = len(np.unique(x, axis=0))
        means = KMeans(min(clusters, distinct), n_init=STARTS, random_state=seed).fit(x)
        labels[name] = means.predict(label[name]).astype(np.int32)
    return labels


def balanced(x: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """`standardised` features, divided by the root of their number, so that a modality's total variance is 1."""
    scaled = standardised(x, like)
    return scaled / np.float32(np.sqrt(scaled.shape[1]))


def worth(
    labels: np.ndarray, features: Mapping[str, np.ndarray], classes: np.ndarray | None = None, seed: int = 0
) -> Worth:
    """The measures of a labelling.

    Args:
        labels: int [n], at least 0.
        features: float [n, D] per modality.
        classes: int [n], -1 if unknown; None for data without classes.
        seed: random seed of the folds.
    """
    by_modality = {name: predictability(x, labels, seed) for name, x in features.items()}
    if classes is None or not (classes >= 0).any():
        return Worth(by_modality)
    found = clustering_metrics(labels, classes).to_dict()
    return Worth(by_modality, {name: found[name] for name in ("nmi", "ami", "accuracy")})


def predictability(x: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """The AMI of labels with those that a ridge classifier predicts from features, cross-fitted; at least 0.

    Args:
        x: features, float [n, D].
        labels: int [n].
        seed: of the folds.
    """
    names, target = np.unique(labels, return_inverse=True)
    if len(names) < 2 or len(labels) < 2 * FOLDS:
        return 0.0
    x, order = standardised(x), np.random.default_rng(seed).permutation(len(labels))
    one_hot = np.eye(len(names), dtype=np.float32)[target]
    predicted = np.empty(len(labels), np.int64)
    for fold in range(FOLDS):
        rows, others = order[fold::FOLDS], np.delete(order, np.s_[fold::FOLDS])
        mean, middle = one_hot[others].mean(0), x[others].mean(0)
        seen, penalty = x[others] - middle, RIDGE * len(others)
        if seen.shape[1] <= len(others):
            gram = seen.T @ seen + penalty * np.eye(seen.shape[1], dtype=np.float32)
            weights = np.linalg.solve(gram, seen.T @ (one_hot[others] - mean))
        else:  # the same weights from the smaller system
            gram = seen @ seen.T + penalty * np.eye(len(others), dtype=np.float32)
            weights = seen.T @ np.linalg.solve(gram, one_hot[others] - mean)
        predicted[rows] = ((x[rows] - middle) @ weights + mean).argmax(1)
    return max(0.0, adjusted_information(target, predicted))
