"""The curves of a run, read from its metrics.jsonl as it grows. The file may be somebody else's, and long."""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..core.errors import UserError
from ..core.untrusted import check_file, is_count

POINTS = 1000  # even, so that neighbours go in pairs
"""Most points of a curve; if it has more, neighbours are averaged."""

LARGEST = sys.float_info.max

BLOCK = 1 << 20
"""Bytes that are read at a time. Of a block that is full, only a few lines of training are parsed."""

LINES_OF_BLOCK = 200
PASSES = "labelling", "prototypes"
"""The kinds of lines about a pass over the data."""

RARE = b'"labelling"', b'"prototypes"', b'"monitor"'
"""What lines contain that are always parsed."""

MAX_LINE = 1 << 18
"""Bytes of the longest line that is read; a labelling pass of a hundred heads takes some 20 kB."""


@dataclass(frozen=True)
class Kind:
    """One curve: where its values are in metrics.jsonl, and how it is shown."""

    line: str
    """Kind of the line: train, labelling, prototypes or monitor."""
    key: str
    """Name of the figure; after a dot, the modality of a figure that has several."""
    title: str
    text: str
    """What the curve shows, for somebody who sees it for the first time."""
    percent: bool = False


KINDS = (
    Kind("train", "loss", "loss", "what training minimises"),
    Kind("labelling", "changed", "labels changed", "videos whose label changed since the previous pass", True),
    Kind("labelling", "nmi", "NMI with previous labels", "100 %: the same clusters as in the previous pass", True),
    Kind("labelling", "entropy", "evenness of sizes", "100 %: all clusters have the same size", True),
    Kind("labelling", "agreement", "video agrees with audio", "AMI of the labels from video and from audio", True),
    Kind("prototypes", "inertia.video", "spread, video", "mean squared distance of an embedding to its prototype"),
    Kind("prototypes", "inertia.audio", "spread, audio", "the same for audio; near 0: a collapse"),
    Kind("prototypes", "largest.video", "largest, video", "share of the videos at the largest prototype", True),
    Kind("prototypes", "largest.audio", "largest, audio", "the same for audio; near 100 %: a collapse", True),
    Kind(
        "train", "contrast_retrieval", "matches found", "clips whose partner is their nearest clip in the batch", True
    ),
    Kind("monitor", "rankme_video", "RankMe, video", "directions that the features of held-out videos use (RankMe)"),
    Kind("monitor", "rankme_audio", "RankMe, audio", "the same for audio; near 1, or falling: a collapse"),
    Kind("monitor", "knn5_video", "k-NN, video", "held-out videos whose nearest neighbours are of their class", True),
    Kind("monitor", "knn5_audio", "k-NN, audio", "the same by audio", True),
    Kind("monitor", "recall5", "own audio in five", "held-out videos whose own audio is among the five nearest", True),
    Kind("train", "videos_per_second", "clips/s", "clips trained on per second"),
    Kind("train", "wait_share", "waiting for clips", "share of the time; if it is high, decoding is too slow", True),
)
"""The curves, in the order in which they are shown."""


@dataclass
class Curve:
    """Points of a curve, thinned to at most `POINTS`."""

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    """NaN if the run logged NaN or infinity."""
    last: float = math.nan
    each: int = 1
    """Lines that a point is the mean of."""
    waiting: list[tuple[float, float]] = field(default_factory=list)

    def add(self, step: float, value: float) -> None:
        self.last = value
        self.waiting.append((step, value))
        if len(self.waiting) < self.each:
            return
        self._append(*_mean(self.waiting))
        self.waiting.clear()
        if len(self.steps) >= POINTS:
            points = list(zip(self.steps, self.values, strict=True))
            self.steps, self.values = [], []
            for start in range(0, len(points), 2):
                self._append(*_mean(points[start : start + 2]))
            self.each *= 2

    def _append(self, step: float, value: float) -> None:
        self.steps.append(step)
        self.values.append(value)

    def points(self) -> list[tuple[float, float]]:
        """All points, and the mean of the lines since the last of them."""
        found = list(zip(self.steps, self.values, strict=True))
        return [*found, _mean(self.waiting)] if self.waiting else found


def limits(kind: Kind, values: list[float]) -> tuple[float, float]:
    """The lowest and the highest value of a curve's axis, far enough apart that noise does not look like a change.

    Args:
        kind: of the curve; a percentage has 5 % between them at least.
        values: of the curve; NaN does not count.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    room = max(0.0, (0.05 if kind.percent else 0.02 * abs(high)) - (high - low))  # high - low may be infinite
    below = min(room, high) if kind.percent else room / 2
    top = high + (0.0 if kind.percent else room - below)
    return max(low - below, -LARGEST), min(top, LARGEST)


def height(value: float, low: float, high: float) -> float:
    """Where a finite value is between the ends of an axis, from 0 to 1; in the middle if both ends are equal."""
    if not high > low:
        return 0.5
    return min(1.0, max(0.0, (value / 2 - low / 2) / (high / 2 - low / 2)))  # high - low may be infinite


def mean(values: Iterable[float]) -> float:
    """The mean; NaN if a value is NaN or infinite. The sum of finite values may be infinite."""
    numbers = list(values)
    total = sum(numbers)
    return total / len(numbers) if math.isfinite(total) else sum(x / len(numbers) for x in numbers)


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return mean(step for step, _ in points), mean(value for _, value in points)


class Curves:
    """Reads metrics.jsonl: first all of it, then only what was added. A file that was replaced is read again."""

    def __init__(self, path: Path):
        self.path = path
        self.begin()

    def begin(self) -> None:
        self.curves = {(kind.line, kind.key): Curve() for kind in KINDS}
        self.passes: list[int] = []
        """The steps of the passes over the data, for labels or prototypes."""
        self.step = 0
        """The step of the last line."""
        self.place, self.file, self.nonfinite = 0, (-1, -1), 0

    def shown(self) -> Iterator[tuple[Kind, Curve]]:
        """The curves that have a point."""
        for kind in KINDS:
            curve = self.curves[kind.line, kind.key]
            if curve.points():
                yield kind, curve

    def read(self) -> bool:
        """Read what was added. True if anything was."""
        with suppress(OSError, UserError):
            size = check_file(self.path)
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self.file or size < self.place:  # a run that was resumed
                    self.begin()
                    self.file = status.st_dev, status.st_ino
                before = self.place
                self._read_on(file, size)
                return self.place > before
        return False

    def _read_on(self, file: BinaryIO, size: int) -> None:
        """Read whole lines up to `size`; a line that is being written is left for the next time."""
        file.seek(self.place)
        while self.place < size:
            block = file.read(min(BLOCK, size - self.place))
            end = block.rfind(b"\n") + 1
            if not end:
                if len(block) < MAX_LINE:
                    return
                self.place += len(block)  # not a line of ours: it is skipped
                continue
            lines = block[:end].splitlines()
            every = max(1, len(lines) // LINES_OF_BLOCK) if len(block) == BLOCK else 1
            for number, line in enumerate(lines):
                if number % every == 0 or any(kind in line for kind in RARE):
                    self._take(line)
            self.place += end
            file.seek(self.place)

    def _take(self, text: bytes) -> None:
        if len(text) > MAX_LINE:
            return
        try:
            line: Any = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(line, dict) or not is_count(line.get("step")):
            return
        step, kind = line["step"], line.get("kind")
        self.step = max(self.step, step)
        if kind in PASSES:
            self.passes.append(step)
            if len(self.passes) > POINTS:
                self.passes = self.passes[::2]
        for place in self.curves:
            if place[0] == kind and (value := _number(_figure(line, place[1]))) is not None:
                self.nonfinite += not math.isfinite(value)
                self.curves[place].add(step, value if math.isfinite(value) else math.nan)


def _figure(line: dict[str, Any], key: str) -> Any:
    """The figure `key` of a line, see `Kind.key`; None if there is none."""
    name, _, modality = key.partition(".")
    value = line.get(name)
    if not modality:
        return value
    return value.get(modality) if isinstance(value, dict) else None


def _number(value: Any) -> float | None:
    """A figure of the log, or the mean over the heads; None if there is none."""
    if isinstance(value, list):
        numbers = [x for x in map(_number, value[:1000]) if x is not None]
        return mean(numbers) if numbers else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with suppress(OverflowError):
        return float(value)
    return None
