"""Readers of true boxes: the sample's boxes.csv, VGG-SS, Flickr-SoundNet, SLAVC, AVSBench, IS3."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class TrueBoxes:
    """The boxes of a picture, or of a moment of a video.

    Args:
        path: the video or picture, as the file of annotations names it.
        time: the moment, s from the video's start; NaN: the whole video.
        boxes: x0, y0, x1, y1 as fractions of the picture, float64 [n, 4].
        classes: the class of each box; "" if unknown.
        sounding: whether each box sounds, bool [n].
        source: the video whose audio is heard, if it is another ("" : its own, "silence", "noise").
        mask: the true map of Flickr-SoundNet in the picture, in [0, 1]; None: the union of the boxes.
    """

    path: str
    time: float
    boxes: np.ndarray
    classes: list[str] = field(default_factory=list)
    sounding: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    source: str = ""
    mask: np.ndarray | None = None


@dataclass
class Annotations:
    """All boxes of a file.

    `form` is "sample", "vggss", "flickr", "slavc", "avsbench" or "is3"; `dropped` counts boxes that were not used, by
    the reason.
    """

    form: str
    truth: list[TrueBoxes]
    dropped: dict[str, int] = field(default_factory=dict)


def read_boxes(path: Path) -> Annotations:
    """Read true boxes from a file, or from a folder of Flickr-SoundNet's XML files; the form is found from its content.

    Raises:
        UserError: the file cannot be read, or has none of the forms.
    """
    raise NotImplementedError
