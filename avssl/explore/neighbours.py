"""The similarity of clusters, and a map of them."""

import numpy as np

MIN_CLUSTERS_FOR_MAP = 12
"""With fewer clusters the map is a PCA, because t-SNE needs enough neighbours."""


def similarity(means: np.ndarray) -> np.ndarray:
    """The similarity of every pair of clusters: (1 + cosine) / 2 of their mean features.

    The mean over all clusters is subtracted first, because what all clusters share says nothing about similarity.

    Args:
        means: mean features of the clusters, float [K, D], NaN for empty ones.

    Returns:
        Float [K, K] in 0..1, NaN for empty clusters.
    """
    nonempty = ~np.isnan(means).any(1)
    pairs = np.full((len(means), len(means)), np.nan)
    if nonempty.any():
        directions = _directions(means[nonempty])
        pairs[np.ix_(nonempty, nonempty)] = (1 + np.clip(directions @ directions.T, -1, 1)) / 2
    return pairs


def places(means: np.ndarray, seed: int = 0) -> np.ndarray:
    """Positions of the clusters on a map, where similar clusters are close to each other.

    Args:
        means: mean features of the clusters, float [K, D], NaN for empty ones.
        seed: random seed of the map.

    Returns:
        Float [K, 2] in 0..1, NaN for empty clusters.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    on_map = np.full((len(means), 2), np.nan)
    nonempty = np.flatnonzero(~np.isnan(means).any(1))
    if not len(nonempty):
        return on_map
    x = _directions(means[nonempty])
    if len(nonempty) < 3:
        flat = np.stack([np.arange(len(nonempty)), np.zeros(len(nonempty))], 1)
    elif len(nonempty) < MIN_CLUSTERS_FOR_MAP or x.shape[1] < 2:
        flat = PCA(2, random_state=seed).fit_transform(x) if x.shape[1] > 1 else np.c_[x[:, 0], np.zeros(len(x))]
    else:
        perplexity = min(30.0, (len(nonempty) - 1) / 3)
        flat = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
    span = flat.max(0) - flat.min(0)
    on_map[nonempty] = np.where(span > 0, (flat - flat.min(0)) / np.where(span > 0, span, 1), 0.5)
    return on_map


def _directions(means: np.ndarray) -> np.ndarray:
    """Unit vectors from the overall mean to each mean, float64 [K, D]; zeros if the two differ only by rounding."""
    x = np.asarray(means, np.float64)
    x = x / max(np.abs(x).max(initial=0), np.finfo(float).tiny)
    x = x - x.mean(0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(length > 1e-12, x / np.maximum(length, 1e-12), 0)
