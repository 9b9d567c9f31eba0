"""The boxes of a split's videos, from their heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..clips.dataset import Failure
from ..config import ClipConfig
from ..core.errors import UserError
from ..core.plurals import counted_paths
from ..evaluate.feature_shards import Arrays
from .boxes import largest_boxes
from .heat_pass import HeatPass, object_map
from .picture import crop_extents, to_picture
from .prior import with_prior

MAPS = ("heat", "other", "silence", "noise", "prior", "audio")
"""What a pass may have of a video: maps, and the embedding of its audio."""


@dataclass
class Located:
    """Where the sound is in the N videos of a split, in the order of its index, at T' moments of V clips.

    Args:
        split: the name of the split.
        rows: the index.
        extents: the part of each picture that its clips show, float64 [N, 4].
        times: the moments, s in the video file, float64 [N, V, T'].
        boxes: x0, y0, x1, y1 as fractions of the picture, float32 [N, V, T', 4]; NaN without a box.
        score: the largest similarity in each box, float32 [N, V, T'].
        label, confidence: the cluster of each clip and its probability, int32 and float32 [N, V]; -1 and NaN without.
        silent: the clips in which nothing can be heard, bool [N, V]; they have no boxes.
        decoded: the videos that could be decoded, bool [N].
        failures: the others.
        kept: the rows whose maps are kept, ascending, int64 [n].
        maps: by name (`MAPS`), their maps, float32 [n, V, T', h, w], and their `audio`, [n, V, C], NaN for a video that
            failed; `final` is what the boxes are made of, and `object_0`, … have the audio of an object.
    """

    split: str
    rows: pa.Table
    extents: np.ndarray
    times: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    silent: np.ndarray
    decoded: np.ndarray
    failures: list[Failure] = field(default_factory=list)
    kept: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """The path of each row."""
        return self.rows["path"].to_pylist()

    @property
    def found(self) -> np.ndarray:
        """The moments that have a box, bool [N, V, T']."""
        return ~np.isnan(self.boxes[..., 0])


def moment_times(starts: np.ndarray, moments: int, clip: ClipConfig) -> np.ndarray:
    """The times of T' moments of clips that start at `starts` [...] (s): float64 [..., T'].

    A moment stands for an equal part of the clip's frames; its time is the middle of theirs.
    """
    frames = (np.arange(moments) + 0.5) * clip.frames / moments - 0.5
    return np.asarray(starts, np.float64)[..., None] + frames / clip.fps


def locate_split(work: HeatPass, split: str, beta: float, weight: float, keep: np.ndarray) -> Located:
    """The boxes of a pass.

    Args:
        work: the pass.
        split: the name of its split.
        beta: the threshold of a box, see `largest_boxes`.
        weight: the weight of the prior, if the pass has one.
        keep: the rows whose maps are kept, int64 [n], ascending.

    Raises:
        UserError: no video can be decoded.
    """
    located: Located | None = None
    for rows, arrays in work.read():
        if located is None:
            located = _empty(work, split, arrays["heat"].shape[2])
            located.kept = keep
        heat = arrays["heat"]
        final = with_prior(heat, arrays.get("prior"), weight)
        flat = final.reshape(-1, *heat.shape[3:])
        boxes, score = largest_boxes(flat, beta, work.config.crop, heat.reshape(flat.shape))
        boxes[arrays["silent"].repeat(heat.shape[2])] = np.nan
        placed = to_picture(boxes.reshape(*heat.shape[:3], 4), located.extents[rows][:, None, None])
        located.boxes[rows] = placed
        located.score[rows] = np.where(np.isnan(placed[..., 0]), np.nan, score.reshape(heat.shape[:3]))
        for name in ("label", "confidence", "silent"):
            getattr(located, name)[rows] = arrays[name]
        located.decoded[rows] = True
        of_objects = [object_map(k) for k in range(work.number_of_objects)]
        _keep(located, rows, {**arrays, "final": final}, (*MAPS, "final", *of_objects))
    if located is None or not located.decoded.any():
        first = work.failures[0]
        raise UserError(
            f"none of {counted_paths(work.dataset.paths)} below {work.root} could be decoded; the first is "
            f"{first.path} ({first.reason}): check data.root, and that the files can be read"
        )
    located.failures = work.failures
    return located


def _empty(work: HeatPass, split: str, moments: int) -> Located:
    number, views = len(work.rows), work.clips
    starts = np.empty((number, views))
    for place, row in enumerate(work.order):
        starts[row] = work.dataset.evaluation_starts(place)
    extents = crop_extents(work.rows["width"].to_numpy(), work.rows["height"].to_numpy(), work.config)
    shape = (number, views, moments)
    return Located(
        split, work.rows, extents, moment_times(starts, moments, work.config),
        np.full((*shape, 4), np.nan, np.float32), np.full(shape, np.nan, np.float32),
        np.full(shape[:2], -1, np.int32), np.full(shape[:2], np.nan, np.float32), np.zeros(shape[:2], bool),
        np.zeros(number, bool),
    )  # fmt: skip


def _keep(located: Located, rows: np.ndarray, arrays: Arrays, names: Sequence[str]) -> None:
    """Keep the maps of some names of the rows of a file, as far as they are to be kept."""
    wanted = np.isin(rows, located.kept)
    at = np.searchsorted(located.kept, rows[wanted])
    for name in names:
        if name in arrays and len(located.kept):
            shape = (len(located.kept), *arrays[name].shape[1:])
            maps = located.maps.setdefault(name, np.full(shape, np.nan, np.float32))
            maps[at] = arrays[name][wanted]
