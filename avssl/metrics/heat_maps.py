"""Heat maps and true maps of the same size: enlarged, cut at a threshold, and controls that know nothing."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

SIZE = 224
"""Side of the compared maps, pixels."""

Maps = Sequence[np.ndarray] | np.ndarray


class HasBoxes(Protocol):
    """True boxes; `avssl.videos.box_annotations.TrueBoxes` is one."""

    boxes: np.ndarray
    sounding: np.ndarray
    mask: np.ndarray | None


def truth_map(
    truth: HasBoxes,
    size: int = SIZE,
    form: str = "union",
    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> np.ndarray:
    """The true map of a picture's sounding boxes.

    Args:
        truth: boxes as fractions of the picture, or a mask of the picture.
        size: side of the map, pixels.
        form: flickr: each pixel is the number of boxes that contain it, over two, at most 1 (two of three annotators
            agree; Senocak et al., CVPR 2018); any other: the union of the boxes (VGG-SS; Chen et al., CVPR 2021).
        extent: the part of the picture that the map covers, x0, y0, x1, y1 as fractions.

    Returns:
        float32 [size, size] in [0, 1].
    """
    left, top, right, bottom = extent
    if truth.mask is not None:
        return _resampled(np.asarray(truth.mask, np.float32), size, extent)
    boxes = np.asarray(truth.boxes, np.float64).reshape(-1, 4)
    if len(truth.sounding) == len(boxes):
        boxes = boxes[np.asarray(truth.sounding, bool)]
    if extent != (0.0, 0.0, 1.0, 1.0):  # whole pictures keep the published codes' rounding
        inside = (boxes - [left, top, left, top]) / [right - left, bottom - top, right - left, bottom - top]
        boxes = inside.round(9)  # so that rounding errors do not cost a pixel
    covered = np.zeros((size, size), np.float32)
    for box in boxes:
        x0, y0, x1, y1 = (int(size * min(max(value, 0.0), 1.0)) for value in box)  # as published: rounded down
        covered[y0:y1, x0:x1] += 1
    return np.minimum(covered / 2 if form == "flickr" else covered, 1)


def _resampled(mask: np.ndarray, size: int, extent: tuple[float, float, float, float]) -> np.ndarray:
    """The part `extent` of a mask [h, w], by the nearest pixel, float32 [size, size]; 0 outside."""
    left, top, right, bottom = extent
    centre = (np.arange(size) + 0.5) / size
    y = np.floor((top + centre * (bottom - top)) * mask.shape[0]).astype(int)
    x = np.floor((left + centre * (right - left)) * mask.shape[1]).astype(int)
    inside = ((y >= 0) & (y < mask.shape[0]))[:, None] & ((x >= 0) & (x < mask.shape[1]))
    near = mask[y.clip(0, mask.shape[0] - 1)[:, None], x.clip(0, mask.shape[1] - 1)]
    return np.where(inside, near, 0).astype(np.float32)


def upsample(maps: np.ndarray, size: int = SIZE, kind: str = "bilinear") -> np.ndarray:
    """Enlarge heat maps.

    Args:
        maps: float [N, h, w].
        size: side of the result, pixels.
        kind: bilinear: pixel centres fixed, edges repeated (OpenCV's INTER_LINEAR; torch with align_corners=False);
            bicubic: corners fixed, a = -0.75 (torch with align_corners=True).

    Returns:
        float32 [N, size, size].
    """
    maps = np.asarray(maps, np.float32)
    if maps.shape[1:] == (size, size):
        return maps
    rows, columns = (_weights(n, size, kind) for n in maps.shape[1:])
    return rows @ maps @ columns.T


def _weights(n: int, size: int, kind: str) -> np.ndarray:
    """The weight of each of n samples in each of `size` interpolated ones, float32 [size, n]."""
    if kind == "bilinear":
        at: np.ndarray = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        part = at - np.floor(at)
        taps = [(0, 1 - part), (1, part)]
    elif kind == "bicubic":
        at = np.arange(size) * ((n - 1) / max(size - 1, 1))
        part = at - np.floor(at)
        taps = [(k, _cubic(np.abs(part - k))) for k in (-1, 0, 1, 2)]
    else:
        raise ValueError(f"kind={kind}: give bilinear or bicubic")
    weights = np.zeros((size, n))
    for offset, weight in taps:
        np.add.at(weights, (np.arange(size), np.clip(np.floor(at).astype(int) + offset, 0, n - 1)), weight)
    return weights.astype(np.float32)


def _cubic(t: np.ndarray, a: float = -0.75) -> np.ndarray:
    """The kernel of cubic convolution at distances t in [0, 2] (Keys, 1981)."""
    near, far = ((a + 2) * t - (a + 3)) * t**2 + 1, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, far)


def normalised(heat: np.ndarray) -> np.ndarray:
    """A map [h, w] scaled so that its minimum is 0 and its maximum 1; a constant map becomes 0."""
    low, high = heat.min(), heat.max()
    return (heat - low) / (high - low) if high > low else np.zeros_like(heat)


def top_half(heat: np.ndarray, strict: bool = True) -> np.ndarray:
    """The half of a map's pixels with the highest values, bool [h, w].

    Args:
        heat: float [h, w].
        strict: whether the pixel at the threshold is left out (LVS) or not (SLAVC). All pixels of its value
            follow it: of a constant map, none or all are predicted.
    """
    return _above_rank(heat, heat.size // 2, strict)


def adaptive(heat: np.ndarray, truth: np.ndarray, strict: bool = True) -> np.ndarray:
    """As many of a map's highest pixels as the true map has, bool [h, w] (SSL-Alignment, arXiv 2407.13676).

    Without true pixels, and for equal values, it is as `top_half`.
    """
    pixels = int(np.count_nonzero(truth))
    return _above_rank(heat, heat.size - pixels, strict) if pixels else top_half(heat, strict)


def _above_rank(heat: np.ndarray, rank: int, strict: bool) -> np.ndarray:
    threshold = np.partition(heat, rank, axis=None)[rank]
    return heat > threshold if strict else heat >= threshold


def enlarged(maps: Maps, kind: str = "bilinear", size: int = SIZE, block: int = 64) -> Iterator[np.ndarray]:
    """Yield the enlarged maps, float32 [size, size]; memory is that of `block` of them."""
    for start in range(0, len(maps), block):
        some = maps[start : start + block]
        for group in [some] if len({np.shape(heat) for heat in some}) == 1 else [[heat] for heat in some]:
            yield from upsample(np.asarray(group), size, kind)


def centre_box(size: int = SIZE) -> np.ndarray:
    """The control that ignores video and audio: its highest pixels are always a square in the middle.

    Returns:
        float32 [size, size]; `top_half` of it is the middle square of half the area, `adaptive` one of the true area.
    """
    away = np.abs(np.arange(size) - (size - 1) / 2)
    return -np.maximum(away[:, None], away).astype(np.float32)


def random_maps(n: int, shape: tuple[int, int] = (7, 7), seed: int = 0) -> np.ndarray:
    """The control without any knowledge: uniform noise, float32 [n, *shape]."""
    return np.random.default_rng(seed).random((n, *shape), np.float32)
