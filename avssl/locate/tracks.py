"""Tracks: boxes of the same thing at successive moments."""

import numpy as np

from ..metrics.detection import box_ious

LINKED = 0.3
"""Smallest IoU of two boxes of a track at successive moments; boxes of a moving object overlap by more."""


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
        iou = box_ious(before, boxes)
        while iou.size and iou.max() >= LINKED:
            old, new = np.unravel_index(iou.argmax(), iou.shape)
            found[new] = tracks[-1][old]
            iou[old], iou[:, new] = -1, -1
        for new in np.flatnonzero(found < 0):
            found[new], number = number, number + 1
        tracks.append(found)
        before = boxes
    return tracks
