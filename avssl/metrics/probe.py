"""Classification from frozen features: a linear classifier, and the vote of nearest neighbours."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .retrieval import weighted_neighbours


def linear_probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """The accuracy of a logistic regression (L2, C = 1) on standardised features.

    It is trained on `train` [n, D] with `labels` [n], and tested on `test` [m, D] with the labels `truth` [m].
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(classifier.fit(train, labels).score(test, truth))


def nearest_neighbours(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int = 5) -> float:
    """The accuracy of the majority vote of the k nearest neighbours by cosine similarity.

    The neighbours are in `train` [n, D] with `labels` [n]; it is tested on `test` [m, D] with the labels `truth` [m].
    """
    return weighted_neighbours(train, labels, test, truth, k, temperature=0)
