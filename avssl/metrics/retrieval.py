"""Retrieval by nearest neighbours: from videos to videos, and from one modality to the other."""

from collections.abc import Sequence

import numpy as np

from .neighbours import nearest, nearest_cosines

KS = (1, 5, 10, 20, 50)
"""Neighbours looked at, in the published protocol."""


def recall_at(
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    ks: Sequence[int] = KS,
    block: int = 1024,
) -> dict[int, float]:
    """Fraction of queries [M, D] with one of their own label among their k nearest (Euclidean) of the gallery [N, D],
    by k; among all where the gallery has fewer."""
    near = nearest(queries, gallery, max(ks), block)
    hit = gallery_labels[near] == query_labels[:, None]
    return {k: float(hit[:, :k].any(1).mean()) if len(hit) else float("nan") for k in ks}


def weighted_neighbours(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int = 20, temperature: float = 0.07
) -> float:
    """Accuracy of the vote of the k nearest (cosine): instance discrimination's protocol (Wu et al., CVPR 2018).

    Classes with as many votes come in the order of their names.

    Args:
        train: float [n, D], with labels [n].
        test: float [m, D], with labels [m] `truth`.
        k: neighbours, or all where there are fewer; the published 20.
        temperature: a vote weighs exp(cosine / temperature), published 0.07; at 0 all weigh the same.

    Returns:
        A fraction.
    """
    names, known = np.unique(labels, return_inverse=True)
    index, cosine = nearest_cosines(test, train, k)
    weight = np.exp((cosine - cosine[:, :1]) / temperature) if temperature > 0 else np.ones_like(cosine)
    votes = np.zeros((len(test), len(names)))
    np.add.at(votes, (np.arange(len(test))[:, None], known[index]), weight)
    return float((names[votes.argmax(1)] == truth).mean())


def cross_modal(video: np.ndarray, audio: np.ndarray, classes: np.ndarray, block: int = 4096) -> dict[str, float]:
    """Precision at 1 from one modality to the other: `video_audio` and `audio_video`, as fractions.

    A hit is a nearest neighbour (cosine) of the query's class. The gallery is the other modality of the same N videos.
    `…_instance`: the nearest neighbour is the query's own other half. `…_others`: as the first, with that half taken
    out of the gallery. NaN for fewer than two videos.

    Args:
        video, audio: embeddings, float [N, P].
        classes: of the videos, [N].
        block: queries compared at once: no N × N matrix.
    """
    found: dict[str, float] = {}
    own = np.arange(len(video))
    for name, query, gallery in (("video_audio", video, audio), ("audio_video", audio, video)):
        if len(video) < 2:
            found |= {name + suffix: float("nan") for suffix in ("", "_instance", "_others")}
            continue
        near, _ = nearest_cosines(query, gallery, 2, block)
        other = np.where(near[:, 0] == own, near[:, 1], near[:, 0])
        found[name] = float((classes[near[:, 0]] == classes).mean())
        found[name + "_instance"] = float((near[:, 0] == own).mean())
        found[name + "_others"] = float((classes[other] == classes).mean())
    return found
