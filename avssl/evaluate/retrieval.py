"""Retrieval by nearest neighbours: from videos to videos, and from one modality to the other."""

from collections.abc import Sequence

import numpy as np
import torch

KS = (1, 5, 10, 20, 50)
"""Neighbours looked at, in the published protocol."""


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, block: int = 1024) -> np.ndarray:
    """Of each query [M, D] the k nearest (Euclidean) of the gallery [N, D], nearest first: int64 [M, min(k, N)].

    Equally near ones come in the gallery's order. One matrix product a block of queries: no M × N matrix.
    """
    return _nearest(queries, gallery, k, block)[0]


def _nearest(queries: np.ndarray, gallery: np.ndarray, k: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, and 2 q·g − |g|² of each, which falls with the distance."""
    k = min(k, len(gallery))
    if k == 0 or len(queries) == 0:
        return np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    g = torch.from_numpy(np.ascontiguousarray(gallery, np.float32))
    length = (g * g).sum(1)
    found, scores = [], []
    for start in range(0, len(queries), block):
        q = torch.from_numpy(np.ascontiguousarray(queries[start : start + block], np.float32))
        near = torch.addmm(length, q, g.T, beta=-1, alpha=2)
        values, index = near.topk(k, 1)
        # topk takes any of those that tie with the last: where one was left out, all are sorted
        torn = (near >= values[:, -1:]).sum(1) > k
        if bool(torn.any()):
            index[torn] = near[torn].sort(dim=1, descending=True, stable=True).indices[:, :k]
        index = index.sort(1).values
        values, order = near.gather(1, index).sort(dim=1, descending=True, stable=True)
        found.append(index.gather(1, order).numpy())
        scores.append(values.numpy())
    return np.concatenate(found), np.concatenate(scores)


def recall_at(
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    ks: Sequence[int] = KS,
    block: int = 1024,
) -> dict[int, float]:
    """Share of queries [M, D] with one of their own label among their k nearest of the gallery [N, D], by k."""
    near = nearest(queries, gallery, max(ks), block)
    hit = gallery_labels[near] == query_labels[:, None]
    return {k: float(hit[:, :k].any(1).mean()) if len(hit) else float("nan") for k in ks}


def weighted_neighbours(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int = 20, temperature: float = 0.07
) -> float:
    """Accuracy on `test` [m, D] of the vote of the k nearest of `train` [n, D], each by exp(cosine / temperature).

    Instance discrimination's protocol (Wu et al., CVPR 2018), with the published k and temperature.
    """
    train, test = unit(train), unit(test)
    names, known = np.unique(labels, return_inverse=True)
    index, near = _nearest(test, train, k, 1024)
    cosine = (near + 1) / 2  # 2 q·g − |g|², and |g| = 1
    votes = np.zeros((len(test), len(names)))
    rows = np.arange(len(test))[:, None]
    np.add.at(votes, (rows, known[index]), np.exp((cosine - cosine[:, :1]) / temperature))
    return float((names[votes.argmax(1)] == truth).mean())


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of unit length; zeros stay."""
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)


def cross_modal(video: np.ndarray, audio: np.ndarray, classes: np.ndarray, block: int = 4096) -> dict[str, float]:
    """Precision at 1 of embeddings [N, P] of N videos' picture and sound: `video_audio` and `audio_video`.

    A hit is a nearest neighbour (cosine) of the query's class, `classes` [N]. The gallery is the other modality of the
    same N videos. `…_instance`: the nearest neighbour is the query's own other half. `…_others`: as the first, with
    that half taken out of the gallery. Blocks of queries: no N×N matrix. NaN for fewer than two videos.
    """
    video, audio = unit(video), unit(audio)
    found: dict[str, float] = {}
    for name, query, gallery in (("video_audio", video, audio), ("audio_video", audio, video)):
        hits = np.zeros(3)
        for start in range(0, len(query), block):
            similarity = query[start : start + block] @ gallery.T
            own = np.arange(start, start + len(similarity))
            nearest = similarity.argmax(1)
            similarity[own - start, own] = -np.inf
            hits += (
                (classes[nearest] == classes[own]).sum(),
                (nearest == own).sum(),
                (classes[similarity.argmax(1)] == classes[own]).sum(),
            )
        for suffix, count in zip(("", "_instance", "_others"), hits, strict=True):
            found[name + suffix] = float(count / len(query)) if len(query) > 1 else float("nan")
    return found
