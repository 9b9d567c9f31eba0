"""Retrieval by nearest neighbours, of videos by videos and of one modality by the other."""

from collections.abc import Sequence

import numpy as np

from .neighbours import nearest, nearest_cosines

KS = (1, 5, 10, 20, 50)
"""Numbers of neighbours in the published protocol."""


def recall_at(
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    ks: Sequence[int] = KS,
    block: int = 1024,
) -> dict[int, float]:
    """Recall at k: the fraction of queries with a video of the same label among their k nearest in the gallery.

    Args:
        gallery: features, float [N, D].
        gallery_labels: [N].
        queries: features, float [M, D].
        query_labels: [M].
        ks: values of k; if the gallery is smaller, all of it counts.
        block: queries compared at a time.

    Returns:
        The fraction by k; NaN without queries.
    """
    near = nearest(queries, gallery, max(ks), block)
    hit = gallery_labels[near] == query_labels[:, None]
    return {k: float(hit[:, :k].any(1).mean()) if len(hit) else float("nan") for k in ks}


def weighted_neighbours(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int = 20, temperature: float = 0.07
) -> float:
    """The accuracy of a weighted vote of the k nearest neighbours by cosine similarity (Wu et al., CVPR 2018).

    Among classes with equal votes, the first by name wins.

    Args:
        train: float [n, D], with labels [n].
        test: float [m, D], with labels [m] `truth`.
        k: neighbours, or all if there are fewer. Published: 20.
        temperature: a vote has the weight exp(cosine / temperature); with 0 all weights are equal. Published: 0.07.

    Returns:
        A fraction.
    """
    names, class_of_row = np.unique(labels, return_inverse=True)
    index, cosine = nearest_cosines(test, train, k)
    weight = np.exp((cosine - cosine[:, :1]) / temperature) if temperature > 0 else np.ones_like(cosine)
    votes = np.zeros((len(test), len(names)))
    np.add.at(votes, (np.arange(len(test))[:, None], class_of_row[index]), weight)
    return float((names[votes.argmax(1)] == truth).mean())


def cross_modal(video: np.ndarray, audio: np.ndarray, classes: np.ndarray, block: int = 4096) -> dict[str, float]:
    """Precision at 1 of retrieval from one modality to the other, by cosine similarity.

    The gallery is the other modality of the same N videos.

    Args:
        video, audio: embeddings, float [N, P].
        classes: classes of the videos, [N].
        block: queries compared at a time, which avoids an N × N matrix.

    Returns:
        Fractions of queries for `video_audio` and `audio_video`, whose nearest neighbour has the query's class. With
        the suffix `_instance`, it is the query's own video. With `_others`, it has the query's class after the query's
        own video is left out. NaN for fewer than two videos.
    """
    precision: dict[str, float] = {}
    own = np.arange(len(video))
    for name, query, gallery in (("video_audio", video, audio), ("audio_video", audio, video)):
        if len(video) < 2:
            precision |= {name + suffix: float("nan") for suffix in ("", "_instance", "_others")}
            continue
        near, _ = nearest_cosines(query, gallery, 2, block)
        other = np.where(near[:, 0] == own, near[:, 1], near[:, 0])
        precision[name] = float((classes[near[:, 0]] == classes).mean())
        precision[name + "_instance"] = float((near[:, 0] == own).mean())
        precision[name + "_others"] = float((classes[other] == classes).mean())
    return precision
