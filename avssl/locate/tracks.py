"""Tracks: boxes of the same thing at successive moments."""

import numpy as np

LINKED = 0.3
"""Smallest IoU of two boxes of a track at successive moments; boxes of a moving object overlap by more."""


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The IoU of every box of `a` [n, 4] with every box of `b` [m, 4] (x0, y0, x1, y1): float64 [n, m]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    both = (a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None] - shared
    return np.divide(shared, both, out=np.zeros_like(shared), where=both > 0)


def link(moments: list[np.ndarray], first: int = 0) -> list[np.ndarray]:
    """The track of each box: pairs of boxes at successive moments are linked, those that overlap most first.

    Args:
        moments: the boxes of each moment, [n, 4], in the order of time.
        first: the number of the first track.

    Returns:
        The track of each box, int32 [n], for each moment.
    """
    tracks: list[np.ndarray] = []
    before, number = np.empty((0, 4)), first
    for boxes in moments:
        found = np.full(len(boxes), -1, np.int32)
        iou = box_iou(before, boxes)
        while iou.size and iou.max() >= LINKED:
            old, new = np.unravel_index(iou.argmax(), iou.shape)
            found[new] = tracks[-1][old]
            iou[old], iou[:, new] = -1, -1
        for new in np.flatnonzero(found < 0):
            found[new], number = number, number + 1
        tracks.append(found)
        before = boxes
    return tracks
