"""What frozen features tell of a label: a linear classifier, and the nearest neighbours' vote."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .retrieval import weighted_neighbours


def linear_probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Accuracy on `test` [m, D] of a logistic regression (L2, C = 1) on the standardised features `train` [n, D]."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(classifier.fit(train, labels).score(test, truth))


def nearest_neighbours(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int = 5) -> float:
    """Accuracy on `test` [m, D] of the majority of the k nearest of `train` [n, D] by cosine similarity."""
    return weighted_neighbours(train, labels, test, truth, k, temperature=0)
