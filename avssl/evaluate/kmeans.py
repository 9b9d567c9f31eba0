"""k-means on features: faiss where it is installed, else scikit-learn."""

import importlib.util

import numpy as np
from sklearn.cluster import KMeans

from .neighbours import centred


def kmeans(x: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Labels int32 [n] of features [n, D] in at most `clusters` clusters (fewer where n is less)."""
    clusters, x = min(clusters, len(x)), centred(x)
    if importlib.util.find_spec("faiss") is None:
        return KMeans(clusters, n_init=1, random_state=seed).fit_predict(x).astype(np.int32)
    import faiss  # type: ignore[import-untyped]

    found = faiss.Kmeans(x.shape[1], clusters, niter=50, seed=seed, min_points_per_centroid=1)
    found.train(x)
    return found.index.search(x, 1)[1][:, 0].astype(np.int32)
