"""Boxes of heat maps: the largest connected part above a threshold (Afouras et al., CVPR 2022, section 3.2)."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

BLOCK = 256
"""Heat maps that are enlarged at once; 256 of 224 × 224 take 51 MB."""

IN_EACH = np.zeros((3, 3, 3), bool)
IN_EACH[1] = ndimage.generate_binary_structure(2, 1)
"""Neighbours of a pixel in a stack of maps: the four beside it, none in another map."""


class Boxes(NamedTuple):
    """The boxes of N heat maps.

    Args:
        corners: x0, y0, x1, y1 as fractions of the map, float32 [N, 4]; NaN without a box.
        score: the largest similarity in the box's part, float32 [N]; NaN without a box.
    """

    corners: np.ndarray
    score: np.ndarray


def enlarged(maps: np.ndarray, size: int) -> np.ndarray:
    """Maps [N, h, w], bilinear at the pixels of a square of `size`: float32 [N, size, size]."""
    x = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None]
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)[:, 0].numpy()


def largest_boxes(maps: np.ndarray, beta: float, size: int, similarity: np.ndarray | None = None) -> Boxes:
    """The box of each heat map: tight around the largest connected component above β·max + (1 − β)·mean.

    A map that is the same everywhere, or is not finite, has no box. Of components of equal size, the uppermost counts.

    Args:
        maps: heat maps, float [N, h, w].
        beta: the threshold between the mean (0) and the maximum (1) of the enlarged map, below 1.
        size: side of the enlarged maps, px.
        similarity: what the score is the maximum of, float [N, h, w]; by default the maps themselves.
    """
    corners, score = np.full((len(maps), 4), np.nan, np.float32), np.full(len(maps), np.nan, np.float32)
    for start in range(0, len(maps), BLOCK):
        block = slice(start, start + BLOCK)
        heat = enlarged(maps[block], size)
        scored = heat if similarity is None else enlarged(similarity[block], size)
        corners[block], score[block] = _boxes_of(heat, beta, scored)
    return Boxes(corners, score)


def largest_box(heat: np.ndarray, beta: float, size: int) -> tuple[float, float, float, float] | None:
    """The box of one heat map [h, w], as in `largest_boxes`; None without one."""
    x0, y0, x1, y1 = largest_boxes(heat[None], beta, size).corners[0].tolist()
    return None if np.isnan(x0) else (x0, y0, x1, y1)


def _boxes_of(heat: np.ndarray, beta: float, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    number, size = len(heat), heat.shape[-1]
    corners, score = np.full((number, 4), np.nan, np.float32), np.full(number, np.nan, np.float32)
    flat = heat.reshape(number, -1)
    finite = np.isfinite(flat).all(1)
    flat = np.where(finite[:, None], flat, 0)
    threshold = beta * flat.max(1, initial=-np.inf) + (1 - beta) * flat.mean(1, dtype=np.float64)
    varied = finite & (np.ptp(flat, axis=1) > 1e-6)
    above = (flat > threshold[:, None]) & varied[:, None]
    labelled, components = ndimage.label(above.reshape(heat.shape), IN_EACH)
    areas = np.bincount(labelled.reshape(-1), minlength=components + 1)[1:]
    best: dict[int, int] = {}
    places = ndimage.find_objects(labelled)
    for component, place in enumerate(places):
        at = place[0].start
        if at not in best or areas[component] > areas[best[at]]:
            best[at] = component
    for at, component in best.items():
        _, rows, columns = places[component]
        corners[at] = np.array([columns.start, rows.start, columns.stop, rows.stop]) / size
        inside = labelled[at, rows, columns] == component + 1
        score[at] = scored[at, rows, columns][inside].max()
    return corners, score
