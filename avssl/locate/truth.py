"""True boxes at the moments of the heat maps."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..config import ClipConfig
from ..videos.box_annotations import TrueBoxes
from .located import Located

NEAREST = 0.1
"""A true box at most this far from a moment counts, however short the moment is, s."""

PAIRS = "/pairs"
"""The name of the part whose frames have the audio of another video. No split has a slash in its name."""

CONSTANT = "silence", "noise"
"""Sources of audio that belong to no video."""


@dataclass(frozen=True)
class Sample:
    """A moment with true boxes: of the n-th split, at the n-th kept row, clip and moment."""

    part: int
    kept: int
    clip: int
    moment: int
    truth: TrueBoxes

    @property
    def sounds(self) -> bool:
        """Whether something in the picture sounds with this audio."""
        truth = self.truth
        if truth.source in CONSTANT:
            return False
        if truth.mask is not None:
            return bool((np.asarray(truth.mask) > 0).any())
        if len(truth.sounding) == len(truth.boxes):
            return bool(np.asarray(truth.sounding, bool).any())
        return len(truth.boxes) > 0

    @property
    def sounding_boxes(self) -> np.ndarray:
        """The boxes that sound, float64 [n, 4]."""
        boxes = np.asarray(self.truth.boxes, np.float64).reshape(-1, 4)
        if len(self.truth.sounding) == len(boxes):
            return boxes[np.asarray(self.truth.sounding, bool)]
        return boxes


@dataclass
class Samples:
    """The moments with true boxes, and how many true boxes have none, by the reason."""

    samples: list[Sample]
    unused: Counter[str] = field(default_factory=Counter)


def samples_of(
    parts: Sequence[Located], truth: Sequence[Mapping[int, Sequence[TrueBoxes]]], clip: ClipConfig
) -> Samples:
    """The moments of the located videos that have true boxes.

    A moment gets the true boxes of the nearest time, if that lies within its part of the clip. Boxes of a whole video
    or picture belong to the moment that is nearest to the middle of the window. Those with the audio of another video
    are left out, except in the part of pairs (`avssl.locate.pairs`).

    Args:
        parts: the located splits.
        truth: for each split, the true boxes of its rows.
        clip: how clips are cut.
    """
    found = Samples([])
    for number, part in enumerate(parts):
        reach = max(NEAREST, clip.frames / part.times.shape[2] / clip.fps / 2) + 1e-6
        starts, seconds = (part.rows[name].to_numpy() for name in ("window_start", "window_seconds"))
        for at, row in enumerate(part.kept.tolist()):
            boxes = truth[number].get(row, ())
            if part.split != PAIRS:
                boxes = [x for x in boxes if x.source in ("", *CONSTANT)]
            if not part.decoded[row]:
                found.unused["in videos that could not be decoded"] += len(boxes)
                continue
            times, flat = part.times[row], part.times[row].reshape(-1)
            timed = sorted((x for x in boxes if np.isfinite(x.time)), key=lambda x: x.time)
            for whole in (x for x in boxes if not np.isfinite(x.time)):
                nearest = int(np.abs(flat - (starts[row] + seconds[row] / 2)).argmin())
                found.samples.append(Sample(number, at, *_place(nearest, times), whole))
            if timed:
                when = np.array([x.time for x in timed])
                for place, time in enumerate(flat):
                    nearest = int(np.abs(when - time).argmin())
                    if abs(when[nearest] - time) <= reach:
                        found.samples.append(Sample(number, at, *_place(place, times), timed[nearest]))
    return found


def _place(flat: int, times: np.ndarray) -> tuple[int, int]:
    clip, moment = np.unravel_index(flat, times.shape)
    return int(clip), int(moment)
