"""Detection: average precision of boxes, and which class each cluster is, for the test only."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from .information import contingency

COCO_RECALLS = np.linspace(0, 1, 101)
"""The levels of recall at which COCO reads the precision."""


class ImageBoxes(NamedTuple):
    """The boxes of one picture. True boxes have no scores."""

    boxes: np.ndarray  # float [n, 4], x0, y0, x1, y1 in any unit
    scores: np.ndarray | None = None  # float [n], comparable between pictures
    classes: np.ndarray | None = None  # int [n]; -1: none of the classes


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The IoU of each pair of boxes, float64 [n, m]; 0 if both have no area.

    Args:
        first, second: x0, y0, x1, y1, float [n, 4] and float [m, 4].
    """
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (first, second))
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = sides.clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def detection_ap(
    detected: Sequence[ImageBoxes], truth: Sequence[ImageBoxes], iou: float = 0.5, interpolation: str = "all"
) -> float:
    """The average precision of detected boxes, whatever their classes.

    Detections of all pictures are taken by falling score, those of equal score in their order. Each is a true positive
    if its best free true box in its picture has at least this IoU, which it then occupies; otherwise a false positive.
    AP is the area under the curve of precision over recall, where precision is made monotone.

    Args:
        detected: the detections of each picture, with scores.
        truth: the true boxes of each picture, in the same order; pictures without any count their false positives.
        iou: IoU of a true positive.
        interpolation: all: every point of the curve (PASCAL VOC since 2010, whose matching differs: a detection whose
            best box is occupied is false there); coco: the mean of 101 levels of recall, as in pycocotools and
            torchmetrics (without their limit of 100 detections a picture, crowds and area ranges).

    Returns:
        AP, in [0, 1]; NaN without true boxes.

    Raises:
        ValueError: the numbers of pictures differ, or detections have no scores.
    """
    if len(detected) != len(truth):
        raise ValueError(f"detections of {len(detected)} pictures, but true boxes of {len(truth)}")
    scores, hits, true_boxes = [np.zeros(0)], [np.zeros(0, bool)], 0
    for found, true in zip(detected, truth, strict=True):
        true_boxes += len(true.boxes)
        if not len(found.boxes):
            continue
        if found.scores is None or len(found.scores) != len(found.boxes):
            raise ValueError("every detected box needs a score")
        order = np.argsort(-np.asarray(found.scores, np.float64), kind="stable")
        scores.append(np.asarray(found.scores, np.float64)[order])
        hits.append(_occupied(box_ious(np.asarray(found.boxes)[order], true.boxes), iou))
    if not true_boxes:
        return math.nan
    by_score = np.argsort(-np.concatenate(scores), kind="stable")
    return _area_under(np.concatenate(hits)[by_score], true_boxes, interpolation)


def _occupied(ious: np.ndarray, iou: float) -> np.ndarray:
    """Whether each detection, in order, occupies a true box: bool [n], of the IoUs [n, m]."""
    free = ious.copy()
    hits = np.zeros(len(ious), bool)
    if free.shape[1]:
        for row in range(len(free)):
            best = int(free[row].argmax())
            if free[row, best] >= iou:
                hits[row], free[:, best] = True, -1
    return hits


def _area_under(hits: np.ndarray, true_boxes: int, interpolation: str) -> float:
    """The area under the curve of detections by falling score, of which `hits` are true."""
    found = np.cumsum(hits)
    recall, precision = found / true_boxes, found / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "coco":
        at = np.searchsorted(recall, COCO_RECALLS, "left")
        return float(np.append(highest, 0.0)[at].mean())
    return float((highest * np.diff(recall, prepend=0)).sum())


class ClassAps(NamedTuple):
    """AP by class."""

    mean: float
    """Over the classes with true boxes; NaN without any."""
    by_class: dict[int, float]


def class_aps(
    detected: Sequence[ImageBoxes], truth: Sequence[ImageBoxes], iou: float = 0.5, interpolation: str = "all"
) -> ClassAps:
    """`detection_ap` of each class, where only boxes of that class are compared, and the mean over the classes.

    Args:
        detected: the detections, with scores and classes; those of class -1 are in no class.
        truth: the true boxes, with classes.
        iou, interpolation: as in `detection_ap`.
    """
    classes = np.unique(np.concatenate([np.zeros(0, int), *(np.asarray(true.classes, int) for true in truth)]))
    aps = {
        int(number): detection_ap(
            [_of_class(boxes, number) for boxes in detected],
            [_of_class(boxes, number) for boxes in truth],
            iou,
            interpolation,
        )
        for number in classes[classes >= 0]
    }
    return ClassAps(float(np.mean(list(aps.values()))) if aps else math.nan, aps)


def _of_class(boxes: ImageBoxes, number: int) -> ImageBoxes:
    chosen = np.asarray(boxes.classes, int) == number
    return ImageBoxes(
        np.asarray(boxes.boxes).reshape(-1, 4)[chosen],
        None if boxes.scores is None else np.asarray(boxes.scores)[chosen],
    )


def cluster_classes(clusters: np.ndarray, classes: np.ndarray, how: str = "hungarian") -> dict[int, int]:
    """The class of each cluster, for a measure against classes; training never uses it.

    Args:
        clusters, classes: of the same N videos or boxes, int [N]; -1: none.
        how: hungarian: each class belongs to one cluster at most, so that as many videos as possible agree (SeLaVi,
            section 4.1); further clusters have no class. majority: the most frequent class of each cluster, the smaller
            number of equally frequent ones.

    Returns:
        The class by cluster.
    """
    clusters, classes = np.asarray(clusters), np.asarray(classes)
    counted = (clusters >= 0) & (classes >= 0)
    if not counted.any():
        return {}
    rows, columns = np.unique(clusters[counted]), np.unique(classes[counted])
    table = contingency(clusters[counted], classes[counted])
    if how == "majority":
        matches = zip(rows, columns[table.argmax(1)], strict=True)
    elif how == "hungarian":
        row, column = linear_sum_assignment(table, maximize=True)
        paired = table[row, column] > 0  # a pair without a common video is no match
        matches = zip(rows[row[paired]], columns[column[paired]], strict=True)
    else:
        raise ValueError(f"how={how}: give hungarian or majority")
    return {int(cluster): int(number) for cluster, number in matches}
