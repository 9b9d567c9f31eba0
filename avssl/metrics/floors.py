"""What clustering without learning reaches: the floors that a learnt clustering has to beat."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score


def raw_kmeans_floors(frames: np.ndarray, log_mel: np.ndarray, classes: np.ndarray, seed: int = 0) -> dict[str, float]:
    """NMI to the classes of k-means (k = number of classes, 10 starts) on inputs that no network has seen.

    frames: [N, ...] pixels of every video, e.g. 8 gray frames of 32 x 32; log_mel: [N, ...] log-mel spectrogram of
    every video, e.g. of 1 s; classes: [N] labels of any type.

    Returns `pixels`, `log_mel`, and `both`: the two side by side, each feature standardised and each modality given
    the same total variance. Raises ValueError when the three are not of one length, or there are fewer videos than
    classes.
    """
    names, truth = np.unique(np.asarray(classes), return_inverse=True)
    if not len(frames) == len(log_mel) == len(truth):
        raise ValueError(
            f"{len(frames)} videos' frames, {len(log_mel)} spectrograms, {len(truth)} classes: not as many"
        )
    pixels, bands = (np.asarray(x, np.float32).reshape(len(truth), -1) for x in (frames, log_mel))

    def balanced(x: np.ndarray) -> np.ndarray:
        deviation = x.std(axis=0)
        varies = deviation > 0
        if not varies.any():
            return np.zeros((len(x), 1), np.float32)
        return (x[:, varies] - x[:, varies].mean(axis=0)) / deviation[varies] / np.sqrt(max(1, varies.sum()))

    def nmi(x: np.ndarray) -> float:
        if (x == x[0]).all():
            return 0.0  # nothing to cluster by
        found = KMeans(len(names), n_init=10, random_state=seed).fit_predict(x)
        return float(normalized_mutual_info_score(truth, found))

    both = np.concatenate([balanced(pixels), balanced(bands)], axis=1)
    return {"pixels": nmi(pixels), "log_mel": nmi(bands), "both": nmi(both)}
