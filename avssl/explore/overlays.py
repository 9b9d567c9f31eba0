"""Heat maps and boxes over the previews of the explorer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Overlay:
    """Where the sound is in a preview of T moments.

    Args:
        times: the moments, from the preview's start, s, float [T], ascending.
        maps: heat maps, uint8 [T, h, w], scaled from the video's minimum to its maximum.
        other: the same with the audio of another video, on the same scale; None if there is none.
        boxes: x0, y0, x1, y1 as fractions of the picture, float32 [T, 4]; NaN without a box.
        extent: the part of the picture that the maps cover, x0, y0, x1, y1 as fractions.
        cluster: the cluster of the video; -1 without.
        score: the largest similarity in the maps, in [-1, 1].
    """

    times: np.ndarray
    maps: np.ndarray
    other: np.ndarray | None
    boxes: np.ndarray
    extent: tuple[float, float, float, float]
    cluster: int
    score: float


def write_overlays(explorer: Path, overlays: dict[str, Overlay], note: str = "") -> None:
    """Write overlays into the folder of an explorer; its page then offers them.

    Args:
        explorer: the folder, such as `clusters/explorer`.
        overlays: by the preview's name, as `explore.previews` and `explore.clusters.show` name them.
        note: a sentence for the page, such as that the maps are weak.
    """
    raise NotImplementedError
