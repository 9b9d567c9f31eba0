"""Where the sound is: heat maps against true maps, as the published evaluations measure it.

Maps are compared at 224 × 224 pixels. Each published code enlarges maps in its own way (`PROTOCOLS`). All figures are
fractions; the papers print per cent. With pictures in which nothing sounds, SLAVC (Mo and Morgado, NeurIPS 2022) asks
whether a confidence tells them apart, and vssl_eval (Juanola et al., arXiv 2410.01020) how many pixels exceed one
threshold for all samples.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .heat_maps import (
    SIZE,
    Maps,
    adaptive,
    centre_box,
    enlarged,
    normalised,
    random_maps,
    top_half,
    truth_map,
    upsample,
)

__all__ = [
    "PROTOCOLS",
    "LocalisationScores",
    "UniversalScores",
    "adaptive",
    "average_precision",
    "centre_box",
    "confidence",
    "consensus_iou",
    "interactive_scores",
    "localisation_scores",
    "max_f1",
    "normalised",
    "random_maps",
    "size_subsets",
    "success_auc",
    "success_rate",
    "top_half",
    "truth_map",
    "universal",
    "universal_threshold",
    "upsample",
]

IOU_STEPS = np.arange(21) * 0.05
"""The thresholds of all published curves: 0, 0.05, …, 1."""

SIZES = ("small", 32**2), ("medium", 96**2), ("large", 144**2), ("huge", math.inf)
"""Subsets by the area of the true map at 224 × 224: pixels below (SLAVC)."""

Truth = Sequence[np.ndarray] | np.ndarray | Callable[[int], np.ndarray]
"""True maps [size, size] in [0, 1], one per sample, or a function that makes that of sample i."""


class PublishedForm(NamedTuple):
    """What published evaluations differ in."""

    kind: str  # of enlarging
    strict: bool  # whether a pixel must exceed the threshold, not only reach it
    strict_iou: bool  # the same for the IoU of a success


PROTOCOLS = {"lvs": PublishedForm("bilinear", True, False), "slavc": PublishedForm("bicubic", False, True)}
"""lvs: Localizing Visual Sounds the Hard Way, SSL-Alignment, vssl_eval; slavc: SLAVC, EZ-VSL."""


def consensus_iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """The consensus IoU of a predicted and a true map: Σ P·G / (Σ G + Σ P[G = 0]).

    Args:
        prediction: bool [h, w].
        truth: float or bool [h, w] in [0, 1].

    Returns:
        The IoU, in [0, 1]; 0 if both maps are empty. Source: cIoU of Senocak et al., CVPR 2018 (arXiv 1803.03849).
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth)
    union = truth.sum(dtype=np.float64) + np.count_nonzero(prediction & (truth == 0))
    return float(truth[prediction].sum(dtype=np.float64) / union) if union else 0.0


def success_auc(ious: np.ndarray) -> float:
    """The area under the success curve, the share of samples with IoU ≥ t, over t = 0, 0.05, …, 1; NaN without samples.

    Source: AUC of Senocak et al., CVPR 2018; trapezoids, as in all published codes.
    """
    ious = np.asarray(ious, np.float64)
    return _area((ious >= IOU_STEPS[:, None]).mean(1)) if ious.size else math.nan


def _area(curve: np.ndarray) -> float:
    return float(((curve[1:] + curve[:-1]) / 2 * np.diff(IOU_STEPS)).sum())


@dataclass(frozen=True)
class LocalisationScores:
    """How well heat maps find the sounding objects. Fractions; NaN without samples."""

    ciou: float  # share of samples whose IoU is at least 0.5, with half of the pixels predicted
    auc: float  # area under the success curve
    ciou_adaptive: float  # the same with as many pixels predicted as are true
    auc_adaptive: float
    per_sample: np.ndarray  # IoU, float64 [N]
    per_sample_adaptive: np.ndarray  # float64 [N]


def localisation_scores(
    maps: Maps, truth: Truth, protocol: str = "lvs", size: int = SIZE, block: int = 64
) -> LocalisationScores:
    """cIoU and AUC of heat maps, and their adaptive forms.

    Memory is that of `block` maps at a time. A sample without true pixels counts as a failure, as in published code.

    Args:
        maps: unnormalised heat maps, float [N, h, w] of any size, or N maps of several sizes.
        truth: the true maps of the N samples (`truth_map`), or a function that makes that of sample i.
        protocol: a published evaluation, lvs or slavc (`PROTOCOLS`).
        size: side of the true maps, pixels.
        block: maps enlarged at a time.

    Raises:
        ValueError: the numbers of maps and of true maps differ.
    """
    form = PROTOCOLS[protocol]
    halves, adapted = np.empty(len(maps)), np.empty(len(maps))
    for i, heat, true in paired(maps, truth, form.kind, size, block):
        halves[i] = consensus_iou(top_half(heat, form.strict), true)
        adapted[i] = consensus_iou(adaptive(heat, true, form.strict), true)
    ciou, ciou_adaptive = (success_rate(ious, strict=form.strict_iou) for ious in (halves, adapted))
    return LocalisationScores(ciou, success_auc(halves), ciou_adaptive, success_auc(adapted), halves, adapted)


def success_rate(ious: np.ndarray, iou: float = 0.5, strict: bool = False) -> float:
    """The share of IoUs that reach `iou` (or exceed it, if `strict`); NaN without samples."""
    ious = np.asarray(ious)
    return float((ious > iou if strict else ious >= iou).mean()) if ious.size else math.nan


def paired(
    maps: Maps, truth: Truth, kind: str = "bilinear", size: int = SIZE, block: int = 64
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the number, the enlarged map and the true map of each sample, both [size, size].

    Raises:
        ValueError: the numbers of maps and of true maps differ.
    """
    if not callable(truth) and len(truth) != len(maps):
        raise ValueError(f"{len(maps)} heat maps, but {len(truth)} true maps")
    for i, heat in enumerate(enlarged(maps, kind, size, block)):
        yield i, heat, truth(i) if callable(truth) else truth[i]


def interactive_scores(ious: np.ndarray, groups: Sequence[str]) -> tuple[float, float]:
    """IIoU and IAUC: a picture of several sounding objects succeeds if all of them are found.

    Args:
        ious: IoU of each object with the map of its own audio, float [N].
        groups: the picture of each object, N names.

    Returns:
        IIoU, the share of pictures whose smallest IoU is at least 0.5, and the area under its success curve. Source:
        Senocak et al., Aligning Sight and Sound (arXiv 2407.13676).
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    least = np.full(len(names), np.inf)
    np.minimum.at(least, group.ravel(), np.asarray(ious, np.float64))
    return success_rate(least), success_auc(least)


def size_subsets(areas: np.ndarray) -> dict[str, np.ndarray]:
    """Samples by the area of their true map at 224 × 224, in pixels: bool [N] by the names of `SIZES` (SLAVC).

    Samples without a true pixel are in none.
    """
    areas, subsets, low = np.asarray(areas), {}, 0.0
    for name, high in SIZES:
        subsets[name] = (areas > 0) & (areas >= low) & (areas < high)
        low = high
    return subsets


def confidence(maps: Maps, size: int = SIZE) -> np.ndarray:
    """How sure a heat map of cosines is that something sounds: the mean of the highest quarter of (cosine + 1) / 2.

    Args:
        maps: unnormalised cosines, N maps [h, w].

    Returns:
        float64 [N], in [0, 1]. Source: SLAVC's code, which divides by its temperature and scales back.
    """
    rank = size * size - size * size // 4
    tops = (
        np.partition(heat, rank, axis=None)[rank:].mean(dtype=np.float64) for heat in enlarged(maps, "bicubic", size)
    )
    return (np.fromiter(tops, np.float64, len(maps)) + 1) / 2


@dataclass(frozen=True)
class _Counts:
    """Samples at or above each threshold, int [T]."""

    hits: np.ndarray  # sounding objects that are found
    reported: np.ndarray  # all samples
    missed: np.ndarray  # sounding objects below the threshold

    @property
    def precision(self) -> np.ndarray:
        return self.hits / np.maximum(self.reported, 1)

    @property
    def recall(self) -> np.ndarray:
        return self.hits / np.maximum(self.hits + self.missed, 1)


def _counts(scores: np.ndarray, ious: np.ndarray, positive: np.ndarray, iou: float, thresholds: np.ndarray) -> _Counts:
    order = np.argsort(scores, kind="stable")
    below = np.searchsorted(scores[order], thresholds, "left")
    positives, hits = (np.concatenate([[0], np.cumsum(x[order])]) for x in (positive, positive & (ious >= iou)))
    return _Counts(hits[-1] - hits[below], len(scores) - below, positives[below])


def average_precision(
    scores: np.ndarray, ious: np.ndarray, positive: np.ndarray, iou: float = 0.5, points: int | None = 200
) -> float:
    """SLAVC's AP: the area under its curve of precision and recall, with precision made monotone.

    A sample at or above a threshold of confidence is a true positive if something sounds and the IoU is at least `iou`,
    else a false positive; a false negative is a sounding sample below it. A sounding object that is reported at a wrong
    place is thus no false negative: recall ends at 1 whatever the maps are.

    Args:
        scores: confidence, float [N].
        ious: IoU of the predicted half of the pixels, float [N]; any value for negatives.
        positive: whether something in the picture sounds, bool [N].
        iou: IoU of a true positive.
        points: about how many thresholds are used, as in the released code; None: every confidence.

    Returns:
        AP, in [0, 1].
    """
    scores, ious, positive = _checked(scores, ious, positive)
    step = max(1, len(scores) // points) if points else 1
    found = _counts(scores, ious, positive, iou, np.sort(scores)[:-1][::-1][::step])
    if not len(found.hits):
        return 0.0
    highest = np.maximum.accumulate(found.precision[::-1])[::-1]
    return float((highest[:-1] * np.diff(found.recall)).sum())


def max_f1(
    scores: np.ndarray, ious: np.ndarray, positive: np.ndarray, iou: float = 0.5, points: int | None = 10
) -> float:
    """SLAVC's max-F1: the largest F1 over thresholds of confidence; arguments and errors as in `average_precision`.

    Args:
        points: about how many thresholds are tried, as in the released code; None: every confidence.

    Returns:
        F1, in [0, 1].
    """
    scores, ious, positive = _checked(scores, ious, positive)
    step = max(1, len(scores) // points) if points else 1
    found = _counts(scores, ious, positive, iou, np.sort(scores)[::step])
    f1 = 2 * found.hits / np.maximum(found.hits + found.reported + found.missed, 1)  # 2 TP / (2 TP + FP + FN)
    return float(f1.max(initial=0))


def _checked(scores: np.ndarray, ious: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, ious, positive = np.asarray(scores, np.float64), np.asarray(ious, np.float64), np.asarray(positive, bool)
    if not scores.shape == ious.shape == positive.shape or scores.ndim != 1:
        raise ValueError(
            f"scores {scores.shape}, IoUs {ious.shape} and positives {positive.shape} must be equally long"
        )
    return scores, ious, positive


def universal_threshold(negatives: Maps) -> float:
    """The threshold for all samples: the third quartile of the maxima of maps in which nothing sounds (vssl_eval)."""
    return float(np.percentile([np.max(heat) for heat in negatives], 75))


@dataclass(frozen=True)
class UniversalScores:
    """Localisation with one threshold for all samples. Fractions; each kind of negative audio has its own entries."""

    threshold: float
    iou: float  # mean IoU of the samples with their own audio
    auc: float  # area under their success curve
    per_sample: np.ndarray  # float64 [N]
    pia: dict[str, float]  # mean share of the picture above the threshold with negative audio; best 0
    auc_n: dict[str, float]  # area under the curve of the share of samples whose pIA is at most t; best 1
    f_loc: dict[str, float]  # harmonic mean of iou and 1 − pia
    f_auc: dict[str, float]  # harmonic mean of auc and auc_n
    overlap: dict[
        str, float
    ]  # mean IoU of the pixels above it with negative and with the own audio; low: audio is used


def universal(
    maps: Maps, truth: Truth, negatives: Mapping[str, Maps], threshold: float | None = None, size: int = SIZE
) -> UniversalScores:
    """Measure maps above one threshold, with their own audio and with audio that belongs to nothing in the picture.

    Args:
        maps: unnormalised heat maps, N of [h, w].
        truth: the N true maps, or a function that makes that of sample i.
        negatives: maps of the same N pictures, in order, with other audio, by its kind, such as silence, noise, other.
        threshold: a value of the unnormalised maps; None: `universal_threshold` of all negatives.
        size: side of the true maps, pixels.

    Source: pIA, AUC_N, F_LOC and F_AUC of Juanola et al., arXiv 2410.01020.
    """
    if threshold is None:
        threshold = universal_threshold([heat for kind in negatives.values() for heat in kind])
    ious = np.fromiter(
        (consensus_iou(heat > threshold, true) for _, heat, true in paired(maps, truth, size=size)), float
    )
    iou, auc = float(ious.mean()), success_auc(ious)
    pia, auc_n, overlap = {}, {}, {}
    for name, others in negatives.items():
        shares, overlaps = [], []
        for own, other in zip(enlarged(maps, size=size), enlarged(others, size=size), strict=False):
            shares.append((other > threshold).mean())
            overlaps.append(consensus_iou(own > threshold, other > threshold))
        share = np.array(shares)
        pia[name], overlap[name] = float(share.mean()), float(np.mean(overlaps))
        auc_n[name] = _area((share <= IOU_STEPS[:, None]).mean(1))
    return UniversalScores(
        threshold,
        iou,
        auc,
        ious,
        pia,
        auc_n,
        {name: _harmonic(iou, 1 - value) for name, value in pia.items()},
        {name: _harmonic(auc, value) for name, value in auc_n.items()},
        overlap,
    )


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
