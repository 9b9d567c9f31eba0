"""k-means on features: faiss where it is installed, else scikit-learn."""

import importlib.util

import numpy as np
from sklearn.cluster import KMeans

from .neighbours import centred


def kmeans(x: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, float]:
    """One start of k-means: labels int32 [n] of features [n, D] in at most `clusters` clusters (fewer where n is less),
    and their inertia, the sum of squared distances to the centres: the lowest chooses a start without classes.

    The inertia is of features as `centred` scales them: it compares starts on the same features, and nothing else."""
    clusters, x = min(clusters, len(x)), centred(x)
    if importlib.util.find_spec("faiss") is None:
        fitted = KMeans(clusters, n_init=1, random_state=seed).fit(x)
        return fitted.labels_.astype(np.int32), float(fitted.inertia_)
    import faiss  # type: ignore[import-untyped]

    found = faiss.Kmeans(x.shape[1], clusters, niter=50, seed=seed, min_points_per_centroid=1)
    found.train(x)
    squared, nearest = found.index.search(x, 1)
    return nearest[:, 0].astype(np.int32), float(squared.sum(dtype=np.float64))
