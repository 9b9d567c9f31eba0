"""Clustering without learning: baselines that a learned clustering has to beat."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score


def raw_kmeans_floors(frames: np.ndarray, log_mel: np.ndarray, classes: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The NMI with the classes of k-means on raw inputs (k = number of classes, 10 starts).

    Args:
        frames: pixels of every video, [N, ...], such as 8 grey frames of 32 x 32.
        log_mel: the log-mel spectrogram of every video, [N, ...], such as that of 1 s.
        classes: labels of any type, [N].
        seed: random seed of k-means.

    Returns:
        `pixels`, `log_mel`, and `both` on the concatenated inputs, where each feature is standardised and each modality
        has the same total variance.

    Raises:
        ValueError: the arrays differ in length, or there are fewer videos than classes.
    """
    names, truth = np.unique(np.asarray(classes), return_inverse=True)
    if not len(frames) == len(log_mel) == len(truth):
        raise ValueError(
            f"frames of {len(frames)} videos, {len(log_mel)} spectrograms, {len(truth)} classes: the numbers must be "
            "equal"
        )
    labels = raw_kmeans_labels(frames, log_mel, len(names), seed)
    return {name: float(normalized_mutual_info_score(truth, x)) if x.any() else 0.0 for name, x in labels.items()}


def raw_kmeans_labels(frames: np.ndarray, log_mel: np.ndarray, clusters: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Labels by k-means (10 starts) on raw inputs. It is fitted to the videos that it labels, which favours it.

    Args:
        frames, log_mel: inputs of N videos, as for `raw_kmeans_floors`.
        clusters: K.
        seed: random seed of k-means.

    Returns:
        Labels int [N] as `pixels`, `log_mel` and `both`; all 0 if all videos are equal.
    """
    pixels, bands = (np.asarray(x, np.float32).reshape(len(x), -1) for x in (frames, log_mel))

    def balanced(x: np.ndarray) -> np.ndarray:
        deviation = x.std(axis=0)
        varies = deviation > 0
        if not varies.any():
            return np.zeros((len(x), 1), np.float32)
        return (x[:, varies] - x[:, varies].mean(axis=0)) / deviation[varies] / np.sqrt(max(1, varies.sum()))

    def labels(x: np.ndarray) -> np.ndarray:
        if (x == x[0]).all():
            return np.zeros(len(x), np.int32)
        return KMeans(min(clusters, len(x)), n_init=10, random_state=seed).fit_predict(x)

    both = np.concatenate([balanced(pixels), balanced(bands)], axis=1)
    return {"pixels": labels(pixels), "log_mel": labels(bands), "both": labels(both)}
