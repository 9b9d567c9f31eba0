"""k-means on features."""

import numpy as np
from sklearn.cluster import KMeans

from .neighbours import centred


def kmeans(x: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, float]:
    """One start of k-means: labels int32 [n] of features [n, D] in at most `clusters` clusters (fewer where n is less),
    and their inertia, the sum of squared distances to the clusters' means: the lowest chooses a start without classes.
    """
    found = KMeans(min(clusters, len(x)), n_init=1, random_state=seed)
    labels = found.fit_predict(centred(x)).astype(np.int32)
    parts = (x[labels == cluster].astype(np.float64) for cluster in np.unique(labels))
    return labels, float(sum(((part - part.mean(0)) ** 2).sum() for part in parts))
