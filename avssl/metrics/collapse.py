"""Measures of collapse, from features alone: how many directions they use, and how much of each is about the video."""

import numpy as np

PUBLISHED_EPSILON = 1e-7
"""RankMe's ε in the paper; the code of stable-pretraining has 1e-5."""


def rankme(features: np.ndarray, epsilon: float = PUBLISHED_EPSILON) -> float:
    """RankMe, the effective rank of features: exp of the entropy of their normalised singular values.

    Features are not centred: a constant has rank 1, and a large mean lowers the rank.

    Args:
        features: float [N, D].
        epsilon: added to each normalised singular value.

    Returns:
        About 1 to min(N, D); 1 for zeros, NaN for NaN or infinite features.

    Source: Garrido et al., ICML 2023, equation 1.
    """
    x = np.asarray(features, np.float64)
    if not np.isfinite(x).all():
        return float("nan")
    largest = np.abs(x).max(initial=0.0)
    if not largest:
        return 1.0
    values = np.linalg.svd(x / largest, compute_uv=False)
    p = values / values.sum() + epsilon
    return float(np.exp(-(p * np.log(p)).sum()))


def lidar(features: np.ndarray, delta: float = 1e-4, epsilon: float = 1e-8) -> float:
    """LiDAR, the effective rank of what distinguishes videos beyond what distinguishes clips of one video.

    Args:
        features: q clips of each of n videos, float [n, q, D], with n and q at least 2.
        delta: added to the diagonal of the covariance within videos.
        epsilon: added to each eigenvalue.

    Returns:
        1 to min(n − 1, D); NaN for NaN or infinite features.

    Source: Thilak et al., ICLR 2024, equations 1 to 3.
    """
    x = np.asarray(features, np.float64)
    if not np.isfinite(x).all():
        return float("nan")
    n, q, width = x.shape
    means = x.mean(1)
    within = (x - means[:, None]).reshape(-1, width)
    between = means - means.mean(0)
    covariance = within.T @ within / (n * (q - 1)) + delta * np.eye(width)
    values, vectors = np.linalg.eigh(covariance)
    whitened = between @ (vectors / np.sqrt(values)) / np.sqrt(n - 1)
    eigenvalues = np.linalg.svd(whitened, compute_uv=False) ** 2  # those that are left out are 0
    eigenvalues = np.pad(eigenvalues, (0, width - len(eigenvalues))) + epsilon
    p = eigenvalues / eigenvalues.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def normalised_deviation(features: np.ndarray) -> float:
    """The standard deviation of features of unit length, averaged over the dimensions, × √D (SimSiam's measure).

    Args:
        features: float [N, D].

    Returns:
        0 if all features have the same direction, 1 if their directions are uniform; NaN for NaN or infinite features.

    Source: Chen and He, CVPR 2021, section 4.1.
    """
    x = np.asarray(features, np.float64)
    if not np.isfinite(x).all():
        return float("nan")
    x = x / max(np.abs(x).max(initial=0.0), 1e-300)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return float((x / np.where(length > 0, length, 1)).std(0).mean() * np.sqrt(x.shape[1]))
