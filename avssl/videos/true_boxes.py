"""True boxes of pictures and of moments of videos, and which boxes are usable."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NOT_NUMBERS, NOT_FINITE, ABSURD = "that are not four numbers", "with NaN or infinite sides", "with absurd sides"
NO_AREA, OUTSIDE = "of no area", "outside the picture"
NOTHING_LEFT = "pictures without any usable box"
"""Reasons of `Annotations.dropped`."""

FARTHEST = 10
"""Sides farther from the picture than this many times its size are errors, not those of a box that ends outside."""

Box = tuple[float, float, float, float]


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
        mask: a true map of the picture in [0, 1], [h, w], in place of the boxes; None: the boxes.
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

    `form` is "sample", "vggss", "flickr", "slavc", "avsbench" or "is3"; `dropped` counts boxes and pictures that were
    not used, by the reason.
    """

    form: str
    truth: list[TrueBoxes]
    dropped: dict[str, int] = field(default_factory=dict)


class BoxCollector:
    """Collects the usable boxes of pictures, and counts the others by the reason."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._pictures: dict[tuple[str, float | None, str], list[tuple[Box | None, str, bool]]] = {}

    def picture(self, path: str, time: float | None = None, source: str = "") -> None:
        """Note a picture, with or without boxes. Without a sounding box, nothing in it sounds."""
        self._pictures.setdefault((path, time, source), [])

    def add(
        self,
        sides: Any,
        scale: float,
        path: str,
        time: float | None = None,
        source: str = "",
        class_name: str = "",
        sounding: bool = True,
    ) -> None:
        """Add a box to a picture.

        Args:
            sides: x0, y0, x1, y1, of any type.
            scale: the size of the picture in the unit of the sides; 1 for fractions.
            path, time, source, class_name, sounding: as in `TrueBoxes`; a time of None is the whole video.
        """
        box = self._usable(sides, scale)
        self._pictures.setdefault((path, time, source), []).append((box, class_name, sounding))

    def _usable(self, sides: Any, scale: float) -> Box | None:
        box, reason = usable_box(sides, scale)
        if box is None:
            self.dropped[reason] += 1
        return box

    def result(self, form: str) -> Annotations:
        """All pictures, in the order of their first mention.

        If all sounding boxes of a picture are unusable, it is left out, because it is none in which nothing sounds.
        """
        truth = []
        for (path, time, source), entries in self._pictures.items():
            kept = [(box, name, sounding) for box, name, sounding in entries if box is not None]
            if any(sounding for _, _, sounding in entries) and not any(sounding for _, _, sounding in kept):
                self.dropped[NOTHING_LEFT] += 1
                continue
            truth.append(
                TrueBoxes(
                    path,
                    math.nan if time is None else time,
                    np.array([box for box, _, _ in kept], np.float64).reshape(-1, 4),
                    [name for _, name, _ in kept],
                    np.array([sounding for _, _, sounding in kept], bool),
                    source,
                )
            )
        return Annotations(form, truth, dict(self.dropped))


def usable_box(sides: Any, scale: float = 1) -> tuple[Box | None, str]:
    """A box as fractions of the picture, cut at its edges; None and the reason if nothing of it can be used.

    Args:
        sides: x0, y0, x1, y1, of any type.
        scale: the size of the picture in the unit of the sides.
    """
    numbers = _numbers(sides)
    if numbers is None:
        return None, NOT_NUMBERS
    if not all(map(math.isfinite, numbers)):
        return None, NOT_FINITE
    if any(abs(number) > FARTHEST * scale for number in numbers):
        return None, ABSURD
    if numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        return None, NO_AREA
    x0, y0, x1, y1 = (_fraction(min(max(number, 0.0), scale), scale) for number in numbers)
    return ((x0, y0, x1, y1), "") if x0 < x1 and y0 < y1 else (None, OUTSIDE)


def _numbers(sides: Any) -> list[float] | None:
    if not isinstance(sides, Sequence) or isinstance(sides, str | bytes) or len(sides) != 4:
        return None
    if any(isinstance(side, bool) or not isinstance(side, int | float) for side in sides):
        return None
    try:
        return [float(side) for side in sides]
    except OverflowError:  # an integer of hundreds of digits
        return [math.inf] * 4


def _fraction(number: float, scale: float) -> float:
    """number / scale, rounded up where scale × fraction would otherwise round below the number."""
    fraction = number / scale
    return math.nextafter(fraction, math.inf) if scale * fraction < number else fraction


def box_list(value: Any) -> Iterable[Any]:
    """The boxes in a field that has one box or a list of boxes."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return value
    return [value]
