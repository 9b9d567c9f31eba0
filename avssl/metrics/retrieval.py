"""Retrieval by nearest neighbours, of videos by videos and of one modality by the other."""

from collections.abc import Sequence

import numpy as np

from .neighbours import nearest, nearest_cosines, unit

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


def leave_one_out_neighbours(
    features: np.ndarray,
    labels: np.ndarray,
    videos: np.ndarray,
    ks: Sequence[int] = (5, 20),
    temperature: float = 0.07,
) -> dict[int, float]:
    """The accuracy of `weighted_neighbours` for every row, from all rows that are not of the same video.

    Args:
        features: float [N, D].
        labels: [N].
        videos: the video of each row, [N]; windows of one video do not vote for each other.
        ks: numbers of neighbours.
        temperature: see `weighted_neighbours`.

    Returns:
        A fraction by k; NaN if there is only one video.
    """
    names, class_of_row = np.unique(labels, return_inverse=True)
    x = unit(np.asarray(features, np.float64))
    cosine = x @ x.T
    cosine[np.asarray(videos)[:, None] == np.asarray(videos)] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")
    cosine = np.take_along_axis(cosine, order, 1)
    if not len(x) or not np.isfinite(cosine[:, 0]).all():
        return dict.fromkeys(ks, float("nan"))
    weight = np.exp((cosine - cosine[:, :1]) / temperature)  # 0 for rows of the same video
    accuracy = {}
    for k in ks:
        votes = np.zeros((len(x), len(names)))
        np.add.at(votes, (np.arange(len(x))[:, None], class_of_row[order[:, :k]]), weight[:, :k])
        accuracy[k] = float((votes.argmax(1) == class_of_row).mean())
    return accuracy


def partner_recall(queries: np.ndarray, gallery: np.ndarray, ks: Sequence[int] = (1, 5)) -> dict[int, float]:
    """Recall at k of a row's own partner: the fraction of queries whose row of the gallery is among the k nearest.

    A row that is as near as the partner counts as nearer, so that equal embeddings have recall 0.

    Args:
        queries: embeddings of one modality, float [N, P].
        gallery: embeddings of the other modality of the same videos, float [N, P].
        ks: numbers of neighbours.

    Returns:
        A fraction by k, by cosine similarity; NaN without rows.
    """
    q, g = (unit(np.asarray(x, np.float64)) for x in (queries, gallery))
    cosine = q @ g.T
    nearer = (cosine >= np.diag(cosine)[:, None] - 1e-12).sum(1) - 1
    return {k: float((nearer < k).mean()) if len(q) else float("nan") for k in ks}


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
