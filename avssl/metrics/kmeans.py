"""k-means on features: faiss where it is installed, else scikit-learn."""

import importlib.util

import numpy as np
from sklearn.cluster import KMeans

from .neighbours import centred


def kmeans(x: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, float]:
    """One start of k-means: labels int32 [n] of features [n, D] in at most `clusters` clusters (fewer where n is less),
    and their inertia, the sum of squared distances to the clusters' means: the lowest chooses a start without classes.
    """
    labels = _labels(centred(x), min(clusters, len(x)), seed)
    parts = (x[labels == cluster].astype(np.float64) for cluster in np.unique(labels))
    return labels, float(sum(((part - part.mean(0)) ** 2).sum() for part in parts))


def _labels(x: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    if importlib.util.find_spec("faiss") is None:
        return KMeans(clusters, n_init=1, random_state=seed).fit_predict(x).astype(np.int32)
    import faiss  # type: ignore[import-untyped]

    found = faiss.Kmeans(x.shape[1], clusters, niter=50, seed=seed, min_points_per_centroid=1)
    found.train(x)
    return found.index.search(x, 1)[1][:, 0].astype(np.int32)
