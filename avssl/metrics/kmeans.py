"""k-means on features."""

import numpy as np
from sklearn.cluster import KMeans

from .neighbours import centred


def kmeans(x: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, float]:
    """Cluster features by one start of k-means.

    Args:
        x: float [n, D].
        clusters: K; reduced to n if that is less.
        seed: random seed of the start.

    Returns:
        The labels, int32 [n], and the sum of squared distances to the clusters' means, which chooses the best of
        several starts without classes.
    """
    model = KMeans(min(clusters, len(x)), n_init=1, random_state=seed)
    labels = model.fit_predict(centred(x)).astype(np.int32)
    members = (x[labels == cluster].astype(np.float64) for cluster in np.unique(labels))
    return labels, float(sum(((rows - rows.mean(0)) ** 2).sum() for rows in members))
