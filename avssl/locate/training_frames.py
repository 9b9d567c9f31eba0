"""Frames, boxes and categories that a detector is trained on: from `avssl locate`, or from true boxes."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..core.errors import UserError
from ..core.tables import check_paths, parquet_errors, read_rows
from ..core.untrusted import is_count, kind_of, parse_json
from ..videos.box_annotations import Annotations, match

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("split", pa.string()),
        ("time", pa.float64()),
        *((name, pa.float32()) for name in ("x0", "y0", "x1", "y1")),
        ("cluster", pa.int32()),
        ("confidence", pa.float32()),
    ]
)
"""The columns of boxes.parquet that training needs."""

SILENT = pa.schema([x for x in SCHEMA if x.name != "confidence"])
"""The columns of silent.parquet that training needs."""

MOMENTS = 8
"""Most moments of a video, evenly spaced: frames close together are nearly the same."""

SMALLEST_SIDE = 0.04
"""Located boxes with a shorter side are noise of a heat map, as a fraction of the picture's side."""

LARGEST_AREA = 0.95
"""Located boxes of a larger area are of heat maps that are the same nearly everywhere, as a fraction of the picture."""

FEWEST_VIDEOS = 3
"""Clusters with fewer videos are too rare to learn."""

SAME_MOMENT = 1e-3
"""Boxes of a video at most this far apart are of the same frame, s."""

UNCERTAIN = "of an uncertain cluster"

OBJECT = "object"
"""The only category of a run without clusters."""


@dataclass
class TrainingFrames:
    """Frames with boxes, grouped by video.

    Args:
        paths: the videos, [V], below the root.
        video_starts: the first frame of each video, int64 [V + 1].
        times: the moment of each frame, float64 [F], s.
        frame_starts: the first box of each frame, int64 [F + 1].
        boxes: x0, y0, x1, y1 as fractions of the picture, float32 [N, 4].
        labels: the category of each box, as its position in `categories`, int64 [N].
        categories: the number of each category: its cluster, or the position of its class in the sorted classes.
        titles: their names.
        left_out: how many boxes are not used, by the reason.
        about: the description of the run that located the boxes; empty for true boxes.
    """

    paths: list[str]
    video_starts: np.ndarray
    times: np.ndarray
    frame_starts: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    categories: list[int]
    titles: list[str]
    left_out: Counter[str] = field(default_factory=Counter)
    about: dict[str, Any] = field(default_factory=dict)

    def of_frame(self, frame: int) -> slice:
        """The boxes of a frame."""
        return slice(int(self.frame_starts[frame]), int(self.frame_starts[frame + 1]))

    def of_video(self, video: int) -> slice:
        """The frames of a video."""
        return slice(int(self.video_starts[video]), int(self.video_starts[video + 1]))


def read_located(path: Path, schema: pa.Schema = SCHEMA) -> tuple[pa.Table, dict[str, Any]]:
    """The columns `schema` of the boxes that `avssl locate` wrote, and the description of their run.

    Raises:
        UserError: the file is missing or damaged, or was written by something else.
    """
    try:
        rows = read_rows(path, schema, ("path", "time"))
        check_paths(rows["path"], path)
        with parquet_errors(path):
            text = (pq.read_schema(path).metadata or {}).get(b"avssl", b"{}")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run avssl locate first, or give boxes=…") from None
    try:
        about = parse_json(text.decode())
    except ValueError as error:
        raise UserError(f"{path}: the description of its run cannot be read ({str(error)[:100]})") from None
    if not isinstance(about, dict):
        raise UserError(f"{path}: the description of its run is {kind_of(about)}, not an object")
    if not is_count(about.get("clusters", 0)):
        raise UserError(f"{path}: the description of its run has no number of clusters")
    return rows, about


def check_split(rows: pa.Table, split: str) -> None:
    """Raise UserError unless there are boxes of a split.

    Args:
        rows: a table of boxes with the column `split`.
        split: the split to train on.
    """
    known = sorted(map(str, rows["split"].unique().to_pylist()))
    if not known:
        raise UserError("avssl locate found no box in any video: train the run longer, or locate with a smaller beta")
    if split not in known:
        raise UserError(
            f"no box was located in the split {split}, which the run was trained on (they are of "
            f"{', '.join(known[:5])}): run avssl locate without split"
        )


def digest_of(tables: Sequence[pa.Table], model: Any) -> str:
    """A digest of the values of tables and of the model that located them, however their files are written."""
    sha256 = hashlib.sha256(json.dumps(model).encode())
    for rows in tables:
        for name in rows.column_names:
            sha256.update(json.dumps([name, rows[name].to_pylist()]).encode())
    return sha256.hexdigest()


def from_located(
    rows: pa.Table, about: dict[str, Any], split: str, min_confidence: float, silent: pa.Table | None = None
) -> TrainingFrames:
    """The frames of located boxes that are worth training on.

    Left out are boxes without an area inside the picture, of a side below `SMALLEST_SIDE` or an area above
    `LARGEST_AREA`, boxes of uncertain clusters, and clusters with fewer than `FEWEST_VIDEOS` videos.

    Args:
        rows: the table of `read_located`.
        about: the description of the run; without "clusters" in it all boxes have one category.
        split: the split to train on.
        min_confidence: least confidence of a box's cluster.
        silent: silent objects in these frames, with the columns `SILENT`; those in other frames are left out.

    Raises:
        UserError: the split has no boxes, or no box is left.
    """
    left_out: Counter[str] = Counter()
    check_split(rows, split)
    rows = rows.filter(pc.equal(rows["split"], split))
    boxes, usable = _sized(rows, left_out)
    clusters = np.asarray(rows["cluster"].fill_null(-1).to_numpy(), np.int64)
    paths = np.asarray(rows["path"].to_pylist(), object)
    has_clusters = about.get("clusters", 0) != 0
    if has_clusters:
        _keep(usable, clusters >= 0, "without a cluster", left_out)
        _keep(usable, ~(_floats(rows, "confidence") < min_confidence), UNCERTAIN, left_out)
        _keep(usable, ~np.isin(clusters, _rare(clusters[usable], paths[usable])), "of a rare cluster", left_out)
    else:
        clusters[:] = 0
    times = _floats(rows, "time")
    _keep(usable, np.isfinite(times), "without a time", left_out)
    if not usable.any():
        fix = "a lower min_confidence" if left_out[UNCERTAIN] else "another beta of avssl locate"
        raise UserError(f"no box is left to train on: {words_of(left_out)}; set {fix}")
    boxes, clusters, paths, times = boxes[usable], clusters[usable], paths[usable], times[usable]
    categories = np.unique(clusters)
    if silent is not None and has_clusters:
        more = _of_silent(silent.filter(pc.equal(silent["split"], split)), categories, paths, times, left_out)
        pairs = zip((boxes, clusters, paths, times), more, strict=True)
        boxes, clusters, paths, times = (np.concatenate(pair) for pair in pairs)
    names = about.get("names")
    named = names if isinstance(names, dict) else {}
    titles = [OBJECT]
    if has_clusters:
        titles = [str(named.get(str(k)) or f"cluster_{k:03d}")[:200] for k in categories.tolist()]
    frames = _grouped(paths, times, boxes, np.searchsorted(categories, clusters), categories.tolist(), titles)
    frames.left_out, frames.about = left_out, about
    return frames


def from_true(annotations: Annotations, rows: pa.Table, root: str) -> TrainingFrames:
    """The frames of true boxes in the videos of an index. Boxes of whole videos are those of the window's middle.

    Raises:
        UserError: none of the videos has boxes with an area inside the picture.
    """
    left_out: Counter[str] = Counter(annotations.dropped)
    middle = {
        path: start + seconds / 2
        for path, start, seconds in zip(*(rows[n].to_pylist() for n in ("path", "window_start", "window_seconds")),
                                        strict=True)
    }  # fmt: skip
    found = match(annotations, [*middle]).truth
    named = [(path, entry) for path in middle if path in found for entry in found[path]]
    titles = sorted({name or OBJECT for _, entry in named for name in entry.classes}) or [OBJECT]
    number = {name: k for k, name in enumerate(titles)}
    paths: list[str] = []
    times: list[float] = []
    boxes: list[np.ndarray] = [np.empty((0, 4))]
    labels: list[int] = []
    for path, entry in named:
        count = len(entry.boxes)
        classes = entry.classes if len(entry.classes) == count else [""] * count
        paths += [path] * count
        times += [entry.time if np.isfinite(entry.time) else middle[path]] * count
        boxes.append(np.asarray(entry.boxes, np.float64).reshape(-1, 4))
        labels += [number.get(name or OBJECT, 0) for name in classes]
    inside, usable = _inside(np.concatenate(boxes), left_out)
    if not usable.any():
        raise UserError(
            f"none of the true boxes lies in a training video below {root}: give boxes of these videos "
            f"({words_of(left_out) or 'they are of other videos'})"
        )
    made = _grouped(
        np.asarray(paths, object)[usable], np.asarray(times)[usable], inside[usable], np.asarray(labels)[usable],
        list(range(len(titles))), titles,
    )  # fmt: skip
    made.left_out = left_out
    return made


def words_of(left_out: Counter[str]) -> str:
    """The boxes that are not used, in words: `12 too small, 3 of a rare cluster`."""
    return ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)


def _sized(rows: pa.Table, left_out: Counter[str]) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of a table, clipped to the picture, and which of them are neither too small nor too large."""
    boxes, usable = _inside(np.stack([_floats(rows, name) for name in ("x0", "y0", "x1", "y1")], 1), left_out)
    sides = boxes[:, 2:] - boxes[:, :2]
    _keep(usable, sides.min(1) >= SMALLEST_SIDE, "too small", left_out)
    _keep(usable, sides.prod(1) <= LARGEST_AREA, "as large as the picture", left_out)
    return boxes, usable


def _of_silent(
    rows: pa.Table, categories: np.ndarray, paths: np.ndarray, times: np.ndarray, left_out: Counter[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The boxes, clusters, paths and times of the silent objects of frames whose paths and times are given."""
    boxes, usable = _sized(rows, left_out)
    clusters = np.asarray(rows["cluster"].fill_null(-1).to_numpy(), np.int64)
    _keep(usable, np.isin(clusters, categories), "silent, of a cluster that is not trained on", left_out)
    own_paths, own_times = np.asarray(rows["path"].to_pylist(), object), _floats(rows, "time")
    frames = set(zip(paths.tolist(), times.tolist(), strict=True))
    known = [frame in frames for frame in zip(own_paths.tolist(), own_times.tolist(), strict=True)]
    _keep(usable, np.array(known, bool), "silent, in a frame without a box of what sounds", left_out)
    return boxes[usable], clusters[usable], own_paths[usable], own_times[usable]


def _floats(rows: pa.Table, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float64)


def _inside(boxes: np.ndarray, left_out: Counter[str]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes clipped to the picture, and which of them have an area."""
    finite = np.isfinite(boxes).all(1)
    usable = np.ones(len(boxes), bool)
    _keep(usable, finite, "not a number", left_out)
    clipped = np.where(finite[:, None], boxes, 0).clip(0, 1)
    area = np.asarray((clipped[:, 2:] > clipped[:, :2]).all(1))
    _keep(usable, area, "outside the picture or without an area", left_out)
    return clipped, usable


def _keep(usable: np.ndarray, fits: np.ndarray, why: str, left_out: Counter[str]) -> None:
    left_out[why] += int((usable & ~fits).sum())
    usable &= fits


def _rare(clusters: np.ndarray, paths: np.ndarray) -> list[int]:
    """The clusters of fewer than `FEWEST_VIDEOS` videos."""
    pairs = set(zip(clusters.tolist(), paths.tolist(), strict=True))
    videos = Counter(cluster for cluster, _ in pairs)
    return [cluster for cluster, count in videos.items() if count < FEWEST_VIDEOS]


def _grouped(
    paths: np.ndarray, times: np.ndarray, boxes: np.ndarray, labels: np.ndarray, categories: list[int],
    titles: Sequence[str],
) -> TrainingFrames:  # fmt: skip
    """Boxes grouped by video and moment, with at most `MOMENTS` of each video."""
    names, codes = np.unique(paths.astype(str), return_inverse=True)
    order = np.lexsort((times, codes.reshape(-1)))
    codes, times, boxes, labels = codes.reshape(-1)[order], times[order], boxes[order], labels[order]
    new_video = np.diff(codes, prepend=-1) != 0
    new_frame = new_video | (np.diff(times, prepend=-np.inf) > SAME_MOMENT)
    frame = np.cumsum(new_frame) - 1
    of_frame = codes[new_frame]
    count = np.bincount(of_frame)[of_frame]
    place = np.arange(len(of_frame)) - np.flatnonzero(np.diff(of_frame, prepend=-1))[of_frame]
    chosen = (count <= MOMENTS) | ((place + 1) * MOMENTS // count > place * MOMENTS // count)
    kept = chosen[frame]
    starts = np.flatnonzero(new_frame[kept])
    return TrainingFrames(
        [str(name) for name in names],
        np.append(np.flatnonzero(np.diff(of_frame[chosen], prepend=-1)), int(chosen.sum())),
        times[new_frame][chosen],
        np.append(starts, int(kept.sum())),
        boxes[kept].astype(np.float32),
        labels[kept].astype(np.int64),
        categories,
        list(titles),
    )
