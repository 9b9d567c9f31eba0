"""Videos with the audio of another video, as SLAVC's negatives name them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..videos.box_annotations import Annotations, TrueBoxes, match
from .heat_pass import HeatPass
from .located import Located, locate_split
from .truth import CONSTANT, PAIRS

Truth = Sequence[Mapping[int, Sequence[TrueBoxes]]]
"""For each split, the true boxes of its rows."""


@dataclass
class Pairs:
    """Pairs of frames and of another video's audio.

    Args:
        frames, audio: the split and row of each, P pairs.
        truth: the annotation of each.
        missing: the number of annotations whose audio is of no video of the index.
    """

    frames: list[tuple[int, int]]
    audio: list[tuple[int, int]]
    truth: list[TrueBoxes]
    missing: int = 0

    def rows_of(self, split: int) -> set[int]:
        """The rows of a split whose audio is needed."""
        return {row for number, row in self.audio if number == split}


def find_pairs(truth: Truth, tables: Sequence[pa.Table], form: str) -> Pairs:
    """The pairs that true boxes name.

    Args:
        truth: the true boxes by row.
        tables: the index of each split.
        form: the form of the annotations.
    """
    named = [
        (split, row, boxes)
        for split, by_row in enumerate(truth) for row, several in by_row.items() for boxes in several
        if boxes.source not in ("", *CONSTANT)
    ]  # fmt: skip
    pairs = Pairs([], [], [])
    if not named:
        return pairs
    first: dict[str, tuple[int, int]] = {}
    for split, rows in enumerate(tables):
        for row, path in enumerate(rows["path"].to_pylist()):
            first.setdefault(path, (split, row))
    names = dict.fromkeys(boxes.source for _, _, boxes in named)
    wanted = Annotations(form, [TrueBoxes(name, math.nan, np.empty((0, 4))) for name in names])
    place = {x.path: first[path] for path, found in match(wanted, first).truth.items() for x in found}
    for split, row, boxes in named:
        if boxes.source in place:
            pairs.frames.append((split, row))
            pairs.audio.append(place[boxes.source])
            pairs.truth.append(boxes)
        else:
            pairs.missing += 1
    return pairs


def locate_pairs(
    pairs: Pairs, parts: Sequence[Located], maps_of: Callable[[pa.Table, np.ndarray], HeatPass], beta: float,
    weight: float,
) -> Located | None:  # fmt: skip
    """The maps of each pair, in a further pass over its frames; None without a pair whose audio could be decoded.

    Args:
        pairs: the pairs; afterwards only those that are located.
        parts: the located splits, which kept the audio of `Pairs.rows_of`.
        maps_of: makes the pass over rows with given audio, float32 [P, C].
        beta, weight: as in `locate_split`.
    """
    given, usable = [], []
    for number, (split, row) in enumerate(pairs.audio):
        part = parts[split]
        if part.decoded[row]:
            audio = part.maps["audio"][np.searchsorted(part.kept, row)]
            given.append(audio[len(audio) // 2])
            usable.append(number)
    pairs.frames, pairs.audio, pairs.truth = ([x[i] for i in usable] for x in (pairs.frames, pairs.audio, pairs.truth))  # type: ignore[assignment]
    if not usable:
        return None
    rows = pa.concat_tables([parts[split].rows.slice(row, 1) for split, row in pairs.frames])
    work = maps_of(rows, np.stack(given))
    return locate_split(work, PAIRS, beta, weight, np.arange(len(rows)))
