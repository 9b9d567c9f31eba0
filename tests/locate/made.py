"""Located videos whose heat maps are set by hand."""

import numpy as np
import pyarrow as pa

from avssl.config import ClipConfig
from avssl.locate.boxes import largest_boxes
from avssl.locate.located import Located, moment_times
from avssl.videos.box_annotations import TrueBoxes

CLIP = ClipConfig(frames=8, fps=8.0, crop=64, short_side_min=64, short_side_max=64)
WHOLE = (0.0, 0.0, 1.0, 1.0)
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def peak(side: tuple[float, ...]) -> np.ndarray:
    """A heat map [8, 8] that is high on a side, and a little uneven so that half of its pixels are clear."""
    heat = np.full((8, 8), -0.2, np.float32)
    heat[:, slice(0, 4) if side == LEFT else slice(4, 8)] = 0.8
    return heat + np.linspace(0, 0.01, 64, dtype=np.float32).reshape(8, 8)


def located(heat: list[np.ndarray], other: list[np.ndarray], split: str = "test") -> Located:
    """Videos of 2 s with a clip in the middle of two moments, with the same map [8, 8] at both."""
    number = len(heat)
    rows = pa.table({
        "path": [f"{i}.mp4" for i in range(number)], "window_start": np.zeros(number),
        "window_seconds": np.full(number, 2.0), "width": np.full(number, 64), "height": np.full(number, 64),
    })  # fmt: skip
    maps = {name: np.stack([np.stack([x, x])[None] for x in list_of]) for name, list_of in
            (("heat", heat), ("other", other), ("final", heat))}  # fmt: skip
    maps |= {"silence": np.full_like(maps["heat"], -0.5), "noise": np.full_like(maps["heat"], -0.4)}
    found = largest_boxes(maps["heat"].reshape(-1, 8, 8), 0.5, 64)
    shape = (number, 1, 2)
    return Located(
        split, rows, np.tile(WHOLE, (number, 1)), moment_times(np.full((number, 1), 0.5), 2, CLIP),
        found.corners.reshape(*shape, 4), found.score.reshape(shape), np.zeros((number, 1), np.int32),
        np.ones((number, 1), np.float32), np.zeros((number, 1), bool), np.ones(number, bool), [],
        np.arange(number), maps,
    )  # fmt: skip


def boxes_at(path: str, time: float, *boxes: tuple[float, ...], sounding: tuple[bool, ...] = ()) -> TrueBoxes:
    """True boxes of a moment; all sound unless said otherwise."""
    sound = np.array(sounding or [True] * len(boxes), bool)
    return TrueBoxes(path, time, np.array(boxes, float).reshape(-1, 4), [""] * len(boxes), sound)
