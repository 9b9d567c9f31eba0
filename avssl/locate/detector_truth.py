"""A detector measured against true boxes: average precision, by class and without."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from ..clips.decode import read_clips
from ..core.errors import ClipError, UserError
from ..core.progress import track
from ..metrics.detection import ImageBoxes, box_ious, class_aps, cluster_classes, detection_ap
from ..videos.box_annotations import Annotations, TrueBoxes, match
from ..videos.storage import Folder, Shards
from .detections import Found, find_objects
from .detector import Detector
from .frame_reader import STILL, TIMEOUT

IOUS = 0.3, 0.5

MOMENTS = 3
"""Most moments of a video that are measured, evenly spaced among those with true boxes."""

NEAREST = 0.1
"""A located box at most this far from a moment is of this moment, s."""


class Moment(NamedTuple):
    """A moment with true boxes: the video, its time (s), and the boxes."""

    path: str
    time: float
    truth: TrueBoxes


def moments_of(annotations: Annotations, rows: pa.Table, located: Mapping[str, np.ndarray]) -> list[Moment]:
    """The moments that are measured.

    They are those of the located boxes with true boxes near, else evenly spaced ones.

    Args:
        annotations: the true boxes.
        rows: the index of the split.
        located: times, x0, y0, x1, y1 and score of the located boxes, float [n, 6], by path.

    Raises:
        UserError: none of the annotated videos is among the rows.
    """
    columns = (rows[name].to_pylist() for name in ("path", "window_start", "window_seconds"))
    middle = {path: start + seconds / 2 for path, start, seconds in zip(*columns, strict=True)}
    found = match(annotations, [*middle]).truth
    moments: list[Moment] = []
    for path in middle:
        entries = [e for e in found.get(path, ()) if len(e.boxes) and e.source == ""]
        timed = sorted((e for e in entries if math.isfinite(e.time)), key=lambda e: e.time)
        if not timed:
            moments += [Moment(path, middle[path], e) for e in entries[:1]]
            continue
        times = np.array([e.time for e in timed])
        near: set[int] = set()
        for time in located[path][:, 0] if path in located else ():
            nearest = int(np.abs(times - time).argmin())
            if abs(times[nearest] - time) <= NEAREST:
                near.add(nearest)
        chosen = sorted(near) or range(len(timed))
        places = {chosen[int((k + 0.5) / MOMENTS * len(chosen))] for k in range(MOMENTS)}
        moments += [Moment(path, float(times[k]), timed[k]) for k in sorted(places)]
    if not moments:
        example = annotations.truth[0].path if annotations.truth else "none"
        raise UserError(
            f"none of the true boxes belongs to a video of the index (the first is of {example}): give those of these "
            "videos"
        )
    return moments


def by_path(rows: pa.Table) -> dict[str, np.ndarray]:
    """Located boxes by path: time, x0, y0, x1, y1 and score, float64 [n, 6]."""
    values = np.stack([
        np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float64)
        for name in ("time", "x0", "y0", "x1", "y1", "score")
    ], 1)  # fmt: skip
    grouped: dict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(rows["path"].to_pylist()):
        grouped[path].append(row)
    return {path: values[at] for path, at in grouped.items()}


def measure(
    detector: Detector, moments: Sequence[Moment], storage: Folder | Shards, located: Mapping[str, np.ndarray],
    batch: int, device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    """The average precision of a detector, and of the located boxes alone, at the moments.

    Which class a cluster is, is found from these moments (`matched_classes`); training never uses a class.

    Returns:
        `pictures`, `true_boxes`, `silent_boxes` (those of objects that do not sound), and by IoU: `ap` and `located_ap`
        without classes, and, if the true boxes have classes, their mean `class_ap` with each class matched to one
        cluster, and `class_ap_majority` with each cluster matched to its most frequent class. None where nothing is
        measured. `undecodable` counts videos.
    """
    found, used, failed = _found(detector, moments, storage, batch, device)
    truth = [ImageBoxes(np.asarray(m.truth.boxes, np.float64)) for m in used]
    agnostic = [ImageBoxes(f.boxes, f.scores) for f in found]
    alone = [_located(m, located) for m in used]
    figures: dict[str, Any] = {
        "pictures": len(used),
        "true_boxes": sum(len(t.boxes) for t in truth),
        "silent_boxes": sum(int((~np.asarray(m.truth.sounding, bool)).sum()) for m in used),
        "undecodable": failed,
        "ap": {str(iou): detection_ap(agnostic, truth, iou) for iou in IOUS},
        "located_ap": {str(iou): detection_ap(alone, truth, iou) for iou in IOUS} if located else None,
        "class_ap": None,
        "class_ap_majority": None,
    }
    classes = sorted({name for m in used for name in m.truth.classes if name})
    if not classes:
        return figures
    number = {name: k for k, name in enumerate(classes)}
    truth = [
        ImageBoxes(boxes.boxes, None, np.array([number.get(name, -1) for name in m.truth.classes], np.int64))
        for boxes, m in zip(truth, used, strict=True)
    ]
    for key, how in (("class_ap", "hungarian"), ("class_ap_majority", "majority")):
        matched = _by_title(detector, number) or matched_classes(found, truth, how)
        named = [
            ImageBoxes(f.boxes, f.scores, np.array([matched.get(int(k), -1) for k in f.categories], np.int64))
            for f in found
        ]
        figures[key] = {str(iou): class_aps(named, truth, iou).mean for iou in IOUS}
    return figures


def matched_classes(found: Sequence[Found], truth: Sequence[ImageBoxes], how: str) -> dict[int, int]:
    """The class of each category: for every true box, the surest detection with an IoU of 0.5 votes."""
    categories, classes = [], []
    for objects, true in zip(found, truth, strict=True):
        overlaps = box_ious(objects.boxes, true.boxes) >= 0.5
        for box, name in enumerate(np.asarray(true.classes).tolist()):
            if overlaps[:, box].any():
                categories.append(int(objects.categories[int(overlaps[:, box].argmax())]))
                classes.append(name)
    return cluster_classes(np.array(categories, np.int64), np.array(classes, np.int64), how)


def _by_title(detector: Detector, number: Mapping[str, int]) -> dict[int, int] | None:
    """The class of each category of a detector that was trained on true classes; None for clusters."""
    if detector.about:
        return None
    return {k: number.get(title, -1) for k, title in enumerate(detector.titles)}


def _located(moment: Moment, located: Mapping[str, np.ndarray]) -> ImageBoxes:
    rows = located.get(moment.path, np.empty((0, 6)))
    rows = rows[np.abs(rows[:, 0] - moment.time) <= NEAREST]
    rows = rows[np.isfinite(rows).all(1)]
    if len(rows):
        rows = rows[np.abs(rows[:, 0] - rows[np.abs(rows[:, 0] - moment.time).argmin(), 0]) < 1e-3]
    return ImageBoxes(rows[:, 1:5], rows[:, 5])


def _found(
    detector: Detector, moments: Sequence[Moment], storage: Folder | Shards, batch: int, device: torch.device
) -> tuple[list[Found], list[Moment], int]:
    """The objects at the moments of videos that can be decoded, these moments, and the number of other videos."""
    grouped: dict[str, list[Moment]] = defaultdict(list)
    for moment in moments:
        grouped[moment.path].append(moment)
    found: list[Found] = []
    used: list[Moment] = []
    waiting: list[np.ndarray] = []
    failed = 0
    for path, of_video in track(grouped.items(), "measuring", len(grouped)):
        try:
            times = [m.time for m in of_video]
            clips = read_clips(storage.locate(path), times, STILL, detector.side, limit=TIMEOUT)
        except (ClipError, OSError):
            failed += 1
            continue
        used += of_video
        waiting += [np.ascontiguousarray(clip.frames[0]) for clip in clips]
        while len(waiting) >= batch:
            found += find_objects(detector, waiting[:batch], device)
            waiting = waiting[batch:]
    if waiting:
        found += find_objects(detector, waiting, device)
    return found, used, failed


def table_of(figures: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a table of average precisions, in %."""
    words = {
        "class_ap": "detector, each class matched to one cluster",
        "class_ap_majority": "detector, each cluster matched to a class",
        "ap": "detector, without classes",
        "located_ap": "boxes of avssl locate, without classes",
    }
    return [[text, *(_percent(figures[key][str(iou)]) for iou in IOUS)] for key, text in words.items() if figures[key]]


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
