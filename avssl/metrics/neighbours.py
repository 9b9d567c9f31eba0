"""Nearest neighbours by Euclidean distance, exact for any offset and scale of the features.

2 q·g − |g|² in float32 is one fast matrix product, but it loses digits if the features' mean is large compared with
their spread, and it overflows or underflows at extreme scales. Therefore mean and scale are removed first, and the
product only proposes candidates, with a bound on its error. Queries that the bound leaves undecided are computed in
float64, and candidates are ordered by their distances in float64.
"""

import numpy as np
import torch
from scipy.spatial.distance import cdist

SPARE = 16
"""Candidates beyond the k nearest, because rounding seldom moves a neighbour farther down than this."""


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, block: int = 1024) -> np.ndarray:
    """The k nearest rows of the gallery to each query, nearest first; ties are in the gallery's order.

    Args:
        queries: float [M, D].
        gallery: float [N, D].
        k: number of neighbours of each query.
        block: queries compared at a time: memory holds `block` × N distances, never M × N.

    Returns:
        int64 [M, min(k, N)], rows of the gallery.
    """
    return nearest_distances(queries, gallery, k, block)[0]


def nearest_distances(
    queries: np.ndarray, gallery: np.ndarray, k: int, block: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The result of `nearest`, and the distances, float64 [M, min(k, N)].

    Raises:
        ValueError: a value is NaN or infinite.
    """
    queries, gallery = np.asarray(queries), np.asarray(gallery)
    k = min(k, len(gallery))
    index = np.empty((len(queries), k), np.int64)
    distance = np.empty((len(queries), k))
    if not index.size:
        return index, distance
    largest = float(np.maximum(_largest(queries), _largest(gallery)))  # NaN stays
    if not np.isfinite(largest):
        raise ValueError("the features contain NaN or infinite values")
    scale = _exponent(largest)
    small = {queries.dtype, gallery.dtype} <= {np.dtype(np.float16), np.dtype(np.float32)}
    if not small:  # squares of smaller types fit into float64 without scaling
        queries, gallery = _scaled(queries, scale), _scaled(gallery, scale)
    undecided = np.arange(len(queries))
    for dtype in (torch.float32, torch.float64):
        undecided = _by_product(queries, gallery, undecided, scale if small else 0, dtype, block, index, distance)
        if not len(undecided):
            break
    if len(undecided):  # more ties than candidates, such as copies
        rows, copies = np.unique(gallery, axis=0, return_inverse=True)
        for row in undecided:
            to_all = cdist(queries[row, None], rows, "sqeuclidean")[0][copies.ravel()]
            index[row] = np.argsort(to_all, kind="stable")[:k]
            distance[row] = to_all[index[row]]
    return index, np.sqrt(distance) if small else np.ldexp(np.sqrt(distance), scale)


def nearest_cosines(
    queries: np.ndarray, gallery: np.ndarray, k: int, block: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The result of `nearest` by cosine similarity, and the cosines, float64 [M, min(k, N)].

    A row of zeros has cosine 0 with every row.
    """
    # in float64, because nearly equal features of unit length differ in digits that float32 does not have
    q, g = (unit(np.asarray(x, np.float64)) for x in (queries, gallery))
    zero = np.asarray(~g.any(1))
    if zero.any():  # an extra coordinate makes rows of zeros orthogonal to every query
        g, q = np.concatenate([g, zero[:, None]], 1), np.concatenate([q, np.zeros((len(q), 1))], 1)
    index, distance = nearest_distances(q, g, k, block)
    cosine = 1 - distance**2 / 2
    zero_queries = ~q.any(1)
    index[zero_queries], cosine[zero_queries] = np.arange(index.shape[1]), 0
    return index, cosine


def centred(x: np.ndarray) -> np.ndarray:
    """Features [n, D] minus their mean, scaled so that the largest value is between ½ and 1, float32.

    This does not change clusters, and k-means in float32 stays precise at any offset and scale.
    """
    if not x.size:
        return np.asarray(x, np.float32)
    scale = _exponent(_largest(x))
    shifted = _scaled(x, scale) - _mean(x, scale)
    return _scaled(shifted, _exponent(_largest(shifted))).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows [n, D] scaled to unit length, in their own precision; rows of zeros stay zero."""
    x = np.asarray(x)
    if not x.size:
        return x
    floats = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
    rows = floats.astype(np.float64)
    rows = np.ldexp(
        rows, -np.frexp(np.abs(rows).max(1, keepdims=True))[1]
    )  # so that squares neither overflow nor underflow
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(floats.dtype)


def _by_product(
    queries: np.ndarray,
    gallery: np.ndarray,
    undecided: np.ndarray,
    scale: int,
    dtype: torch.dtype,
    block: int,
    index: np.ndarray,
    distance: np.ndarray,
) -> np.ndarray:
    """Find neighbours by a matrix product in `dtype`, of features without their mean and scale.

    It fills `index` and `distance` (squared) for the queries whose candidates are certain, out of the rows `undecided`,
    and returns the other rows.
    """
    k, (n, width) = index.shape[1], gallery.shape
    candidates = min(n, k + SPARE)
    centre = _mean(gallery, scale)
    g = torch.empty(n, width, dtype=dtype)
    for start in range(0, n, block):
        g[start : start + block] = torch.from_numpy(_scaled(gallery[start : start + block], scale) - centre)
    length = (g * g).sum(1)
    longest = float(length.max()) ** 0.5
    near_raw, near_rows = np.empty((candidates, width), gallery.dtype), np.empty((candidates, width))
    left = []
    for start in range(0, len(undecided), block):
        rows = undecided[start : start + block]
        q = torch.from_numpy(_scaled(queries[rows], scale) - centre).to(dtype)
        values, proposed = torch.addmm(length, q, g.T, beta=-1, alpha=2).topk(candidates, 1)
        # a bound on the rounding and underflow of a value (Higham 2002, §3.1). It grows with the longest chain of
        # additions: D, or far fewer in BLAS, which adds up blocks of some hundreds
        chain = min(width, 16 * width**0.5) + 8
        info = torch.finfo(dtype)
        rounding = chain * (info.eps / 2 * longest * (2 * q.norm(dim=1) + longest) + info.tiny)
        certain = (values[:, k - 1] - values[:, -1] > 2 * rounding).numpy() | (candidates == n)
        for row, near in zip(rows[certain], proposed.sort(1).values.numpy()[certain], strict=True):
            # into the same memory each time, because new pages cost more than the sums
            np.take(gallery, near, 0, out=near_raw, mode="clip")
            near_rows[...] = near_raw
            to_near = cdist(queries[row, None], near_rows, "sqeuclidean")[0]
            order = np.argsort(to_near, kind="stable")[:k]
            index[row], distance[row] = near[order], to_near[order]
        left.append(rows[~certain])
    return np.concatenate(left)


def _scaled(x: np.ndarray, scale: int) -> np.ndarray:
    """x / 2^scale, float64."""
    return np.asarray(x, np.float64) * 2.0**-scale


def _exponent(largest: float) -> int:
    """The exponent of the power of two that scales the largest value to between ½ and 1, without rounding."""
    return int(np.clip(np.frexp(largest)[1], -1000, 1000))  # 2^1024 is not a float


def _largest(x: np.ndarray) -> float:
    return float(np.maximum(x.max(initial=0), -x.min(initial=0)))


def _mean(x: np.ndarray, scale: int, rows: int = 1024) -> np.ndarray:
    """The mean of the rows of x / 2^scale, float64 [D]."""
    sums = (_scaled(x[start : start + rows], scale).sum(0) for start in range(0, len(x), rows))
    return sum(sums, np.zeros(x.shape[1])) / len(x)
