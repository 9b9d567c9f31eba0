"""Retrieval from one modality to the other, in the embedding space."""

import numpy as np


def cross_modal(video: np.ndarray, audio: np.ndarray, classes: np.ndarray, block: int = 4096) -> dict[str, float]:
    """Precision at 1 of embeddings [N, P] of N videos' picture and sound: `video_audio` and `audio_video`.

    A hit is a nearest neighbour (cosine) of the query's class, `classes` [N]. The gallery is the other modality of the
    same N videos. `…_instance`: the nearest neighbour is the query's own other half. `…_others`: as the first, with
    that half taken out of the gallery. Blocks of queries: no N×N matrix. NaN for fewer than two videos.
    """
    video, audio = (x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) for x in (video, audio))
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
