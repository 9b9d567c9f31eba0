"""Objects that are seen but do not sound: located with the sounds that their clusters have in other videos.

A detector that is trained on the boxes of what sounds learns that a silent object is background. A heat map needs no
object that sounds: with the sound of its cluster from other videos, a silent object lights up too.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy import ndimage

from ..core.tables import block_writer
from ..metrics.detection import box_ious
from .boxes import largest_boxes
from .heat_pass import HeatPass, Sounds
from .located import Located
from .picture import to_crop, to_picture
from .tables import SCHEMA as BOXES

PARQUET = "silent.parquet"

CONFIDENT = 0.5
"""Least confidence of a cluster in a video whose audio stands for it."""

VIDEOS_PER_CLUSTER = 32
"""Videos per cluster that are listened to for the sounds of the clusters."""

FEWEST_VIDEOS = 3
"""A cluster needs so many confident videos for a sound, and as many for its level."""

LEAST_LEVEL = 0.5
"""Least level of a silent object, between one that is absent (0) and one that sounds (1)."""

CLIPS = 20_000
"""Clips that are enough for the levels."""

SAME = 0.3
"""Boxes of a frame with a larger IoU are of one object."""


def cluster_sounds(rows: pa.Table, clusters: int, seed: int, maps_of: Callable[[pa.Table], HeatPass]) -> Sounds | None:
    """The mean embedding of the audio of confident videos of each cluster; None if no cluster has enough of them.

    Args:
        rows: the index of the training split.
        clusters: the number of clusters.
        seed: draws the videos.
        maps_of: makes a pass over rows that gives `audio` and `label`.
    """
    number = min(len(rows), VIDEOS_PER_CLUSTER * clusters)
    drawn = np.sort(np.random.default_rng([seed, 3, len(rows)]).permutation(len(rows))[:number])
    total, count = None, np.zeros(clusters, np.int64)
    for _, arrays in maps_of(rows.take(pa.array(drawn))).read():
        usable = _confident(arrays["label"], arrays["confidence"], arrays["silent"])
        audio, label = arrays["audio"][usable], arrays["label"][usable]
        if total is None:
            total = np.zeros((clusters, audio.shape[-1]))
        np.add.at(total, label, audio)
        np.add.at(count, label, 1)
    enough = np.flatnonzero(count >= FEWEST_VIDEOS)
    if total is None or not len(enough):
        return None
    mean = total[enough] / np.linalg.norm(total[enough], axis=1, keepdims=True).clip(1e-12)
    return Sounds(enough.astype(np.int64), mean.astype(np.float32))


class Levels(NamedTuple):
    """What the sound of each cluster usually gets in a picture, as the largest similarity of a heat map.

    Args:
        clusters: the clusters, int64 [K].
        absent: the median in videos of other clusters, in few of which its object is seen, float64 [K].
        sounding: the median in videos of the cluster, float64 [K]; NaN for a cluster of too few videos.
    """

    clusters: np.ndarray
    absent: np.ndarray
    sounding: np.ndarray

    def of(self, clusters: np.ndarray, response: np.ndarray) -> np.ndarray:
        """The level of responses: 0 if the object is absent, 1 if it sounds; NaN for an unknown cluster."""
        place = np.minimum(np.searchsorted(self.clusters, clusters), len(self.clusters) - 1)
        gap = np.where(self.sounding > self.absent, self.sounding - self.absent, np.nan)[place]
        return np.where(self.clusters[place] == clusters, (response - self.absent[place]) / gap, np.nan)


def levels_of(work: HeatPass, clusters: np.ndarray) -> Levels:
    """The levels of the clusters of a pass with `sounds`, from its confident videos."""
    peaks, labels = [np.empty((0, len(clusters)))], [np.empty(0, np.int64)]
    for _, arrays in work.read():
        usable = _confident(arrays["label"], arrays["confidence"], arrays["silent"])
        peaks.append(arrays["sound_peaks"][usable])
        labels.append(arrays["label"][usable])
        if sum(map(len, labels)) >= CLIPS:
            break
    peak, label = np.concatenate(peaks), np.concatenate(labels)
    of_each = [(peak[label != k, i], peak[label == k, i]) for i, k in enumerate(clusters)]
    absent, sounding = (
        np.array([np.median(x[side]) if len(x[side]) >= FEWEST_VIDEOS else np.nan for x in of_each]) for side in (0, 1)
    )
    return Levels(clusters, absent, sounding)


def silent_objects(work: HeatPass, located: Located, beta: float) -> pa.Table:
    """The silent objects of a located split, in the order of its index.

    At most one object of each cluster is found in a frame. Its place is the highest maximum, outside the box of what
    sounds, of the heat map with the cluster's sound. There, this sound must fit better than those of the other
    clusters, and about as well as it does where the object sounds: see `LEAST_LEVEL`.

    Args:
        work: the pass over the split, with `sounds`.
        located: its boxes.
        beta: the threshold of a box, see `largest_boxes`.
    """
    assert work.sounds is not None
    levels = levels_of(work, work.sounds.clusters)
    order, tables = [np.empty(0, np.int64)], [SCHEMA.empty_table()]
    starts = located.rows["window_start"].to_numpy()
    for rows, arrays in work.read():
        extents = located.extents[rows]
        sounding = to_crop(located.boxes[rows], extents[:, None, None])
        maps, clusters = arrays["sound_maps"], arrays["sound_cluster"]
        found = find_silent(maps.swapaxes(2, 3), clusters, sounding, levels, beta, work.config.crop)
        at, clip, moment = found.at
        boxes = to_picture(found.boxes, extents[at])
        values: dict[str, Any] = {
            "path": located.rows["path"].take(pa.array(rows[at])),
            "split": [located.split] * len(at),
            "window_start": starts[rows[at]],
            "clip": clip,
            "time": located.times[rows[at], clip, moment],
            **{name: boxes[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))},
            "score": found.response,
            "cluster": found.cluster,
            "level": found.level,
        }
        columns = [x if isinstance(x, pa.ChunkedArray) else pa.array(x) for x in values.values()]
        tables.append(pa.table(columns, names=list(values)).cast(SCHEMA))
        order.append(rows[at])
    return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))


class Found(NamedTuple):
    """M silent objects.

    Args:
        at: the video, the clip and the moment of each, int64 [M] each.
        boxes: fractions of the map, float64 [M, 4].
        response: the largest cosine with the sound of its cluster, float32 [M].
        cluster: its cluster, int64 [M].
        level: see `Levels`, float64 [M].
    """

    at: tuple[np.ndarray, np.ndarray, np.ndarray]
    boxes: np.ndarray
    response: np.ndarray
    cluster: np.ndarray
    level: np.ndarray


def find_silent(
    maps: np.ndarray, clusters: np.ndarray, sounding: np.ndarray, levels: Levels, beta: float, size: int
) -> Found:
    """The silent objects of n videos, V clips and T' moments, see `silent_objects`; those of a frame by falling level.

    Args:
        maps: the heat maps with the sounds of J clusters, float32 [n, V, T', J, h, w].
        clusters: these clusters, int64 [n, V, J].
        sounding: the box of what sounds, as fractions of the map, [n, V, T', 4]; NaN without one.
        levels, beta: see `silent_objects`.
        size: side of the enlarged maps, px.
    """
    free = ~_positions_in(sounding, maps.shape[-2:])[..., None, :, :]
    highest = maps >= ndimage.maximum_filter(maps, (1, 1, 1, 1, 3, 3))  # no slope of what sounds
    outside = np.where(free & highest, maps, -np.inf).reshape(*maps.shape[:4], -1)
    place, response = outside.argmax(-1), outside.max(-1)
    there = np.take_along_axis(maps.reshape(outside.shape), place[..., None, :], -1)  # [..., J, J]: map, place
    fits_best = there.argmax(-2) == np.arange(maps.shape[3])
    number = np.broadcast_to(clusters[:, :, None], response.shape)
    level = levels.of(number, response)
    at = np.nonzero(fits_best & np.isfinite(response) & (level >= LEAST_LEVEL))
    lowest = maps[at].min((-2, -1), keepdims=True) if len(at[0]) else np.empty((0, 1, 1), np.float32)
    masked = np.where(free[at[0], at[1], at[2], 0], maps[at], lowest)
    boxes = largest_boxes(masked, beta, size).corners.astype(np.float64)
    kept: list[int] = []
    taken: dict[tuple[int, ...], list[np.ndarray]] = {}
    for i in np.lexsort((-level[at], at[2], at[1], at[0])).tolist():
        frame = int(at[0][i]), int(at[1][i]), int(at[2][i])
        others = taken.setdefault(frame, [sounding[frame]] if np.isfinite(sounding[frame]).all() else [])
        if np.isfinite(boxes[i]).all() and box_ious(boxes[[i]], np.array(others)).max(initial=0) < SAME:
            others.append(boxes[i])
            kept.append(i)
    chosen = tuple(x[kept] for x in at)
    return Found(chosen[:3], boxes[kept], response[chosen], number[chosen], level[chosen])  # type: ignore[arg-type]


SCHEMA = pa.schema(
    [*(column for column in BOXES if column.name not in ("confidence", "track")), pa.field("level", pa.float32())]
)
"""The columns of silent.parquet: those of boxes.parquet, where `score` is the largest cosine with the sound of the
cluster, and `level` is that of `Levels`."""


def write_silent(path: Path, found: pa.Table, about: dict[str, Any]) -> None:
    """Write silent objects.

    Args:
        path: the file.
        found: rows of `silent_objects`.
        about: the description of the run, as in `boxes.parquet`.
    """
    with block_writer(path, SCHEMA.with_metadata({"avssl": json.dumps(about)})) as write:
        write(found)


def _confident(label: np.ndarray, confidence: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """The clips whose audio stands for their cluster, bool [n, V]."""
    return (label >= 0) & (confidence >= CONFIDENT) & ~silent


def _positions_in(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The positions of a map [h, w] whose centre lies in boxes [..., 4]: bool [..., h, w]; none for NaN."""
    rows, columns = ((np.arange(n) + 0.5) / n for n in shape)
    x0, y0, x1, y1 = (boxes[..., i, None] for i in range(4))
    return ((rows >= y0) & (rows <= y1))[..., :, None] & ((columns >= x0) & (columns <= x1))[..., None, :]
