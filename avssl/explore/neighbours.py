"""How alike clusters are, and a map of them."""

import numpy as np

MIN_CLUSTERS_FOR_MAP = 12
"""Clusters below which a map is their two main directions; t-SNE needs neighbours to choose among."""


def similarity(means: np.ndarray) -> np.ndarray:
    """Float [K, D] of the clusters' mean features, NaN for empty ones → float [K, K] in 0..1: (1 + cosine) / 2 of the
    means, from which the mean of all is taken away, since what all clusters share tells nothing."""
    there = ~np.isnan(means).any(1)
    found = np.full((len(means), len(means)), np.nan)
    if there.any():
        towards = _directions(means[there])
        found[np.ix_(there, there)] = (1 + np.clip(towards @ towards.T, -1, 1)) / 2
    return found


def places(means: np.ndarray, seed: int = 0) -> np.ndarray:
    """Float [K, D], NaN for empty clusters → float [K, 2] in 0..1, NaN for those: near each other where alike."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    found = np.full((len(means), 2), np.nan)
    there = np.flatnonzero(~np.isnan(means).any(1))
    if not len(there):
        return found
    x = _directions(means[there])
    if len(there) < 3:
        flat = np.stack([np.arange(len(there)), np.zeros(len(there))], 1)
    elif len(there) < MIN_CLUSTERS_FOR_MAP or x.shape[1] < 2:
        flat = PCA(2, random_state=seed).fit_transform(x) if x.shape[1] > 1 else np.c_[x[:, 0], np.zeros(len(x))]
    else:
        perplexity = min(30.0, (len(there) - 1) / 3)
        flat = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
    span = flat.max(0) - flat.min(0)
    found[there] = np.where(span > 0, (flat - flat.min(0)) / np.where(span > 0, span, 1), 0.5)
    return found


def _directions(means: np.ndarray) -> np.ndarray:
    """Float [K, D] → float64 [K, D]: from the mean of all towards each, of unit length; zeros where rounding alone
    tells a row from the mean."""
    x = np.asarray(means, np.float64)
    x = x / max(np.abs(x).max(initial=0), np.finfo(float).tiny)
    x = x - x.mean(0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(length > 1e-12, x / np.maximum(length, 1e-12), 0)
