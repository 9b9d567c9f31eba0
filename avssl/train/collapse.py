"""Warnings about collapsed labels and features: once per run for each head or modality, and kind of collapse."""

import math
from typing import Any

from ..config import LabellingConfig, TrainConfig
from ..selflabel.head_opinions import FEW_CLUSTERS, ONE_CLUSTER, UNRELATED
from ..selflabel.labeller import LabellingReport
from .log import RunLog
from .remedies import CHANCE, CONSTANT, LOW_RANK, feature_remedy, label_remedy

COLLAPSE = "collapse"
"""The kind of a warning's line in metrics.jsonl, for `RunLog.write`,"""

MONITOR = "monitor"
"""and of a measurement of features."""


def described(kind: str, spread: float, clusters: int) -> str:
    """A sentence about the labels of a collapsed head."""
    return {
        ONE_CLUSTER: "video and audio both put nearly all videos into one cluster",
        FEW_CLUSTERS: f"its videos are spread over {spread:.1f} of {clusters} clusters",
        UNRELATED: "its labels are unrelated to those of the previous labelling pass",
    }[kind]


SETTLED = 50
"""Training steps before labels are checked, because batch norm's running statistics need time to settle."""

SMALL_DEVIATION = 0.01
"""Deviation of features of unit length (× √D) below which they count as constant,"""

SHRUNK = 0.1
"""if it is also below this fraction of its largest value in the run, because features with a large mean vary little
from the start, although heads can tell them apart."""

NO_DEVIATION = 1e-4
"""Deviation below which features are constant, whatever they were before: float32 has no more digits."""

SMALL_RANK = 4.0
"""Rank of centred features below which it counts as low,"""

FALLEN = 0.25
"""if it is also below this fraction of its largest value in the run. A run with few clusters ends at a low rank too,
but not at so low a one."""

ENOUGH_VIDEOS = 32
"""Held-out videos from which neighbours can be told from chance."""

LOSS_FELL = 0.9
"""The last loss as a fraction of the first, below which the loss has fallen."""


class CollapseWatch:
    """Checks every labelling pass of a run, and warns once about each head that has collapsed.

    Args:
        log: where to print and write warnings; earlier warnings in it are not repeated.
        labelling: the options of the labelling passes.
        steps_per_epoch: training steps per epoch. Labels of a model that was trained for less than an epoch, or for
            less than `SETTLED` steps, are not checked.
        start: the first training step that trains the heads.
    """

    def __init__(self, log: RunLog, labelling: LabellingConfig, steps_per_epoch: float, start: int = 0):
        self.log, self.labelling, self.first_step = log, labelling, start + max(steps_per_epoch, SETTLED)
        self.last: LabellingReport | None = None
        self.warned = {(str(line.get("head")), str(line.get("way"))) for line in log.lines(COLLAPSE)}

    def check(self, step: int, report: LabellingReport) -> None:
        """Print new warnings about the labelling pass before training step `step`, and write them to metrics.jsonl."""
        if step < self.first_step:
            return
        self.last = report
        for head, kind in enumerate(report.collapsed):
            if kind and (str(head), kind) not in self.warned:
                self.warned.add((str(head), kind))
                spread = report.spread[head]
                what = described(kind, spread, self.labelling.clusters)
                figures: dict[str, Any] = {"head": head, "way": kind, "spread": spread}
                self.log.write(step, COLLAPSE, figures | {"agreement": report.agreement[head]})
                self.log.say(
                    f"warning: head {head} has collapsed at step {step}: {what}; {label_remedy(kind, self.labelling)}"
                )

    def end(self) -> None:
        """Print which heads have collapsed after the last labelling pass."""
        if self.last is not None:
            warn(self.log.say, dict(enumerate(self.last.collapsed)), self.labelling)


def warn(say: Any, collapsed: dict[int, str], labelling: LabellingConfig) -> None:
    """Print a line for each piece of advice, with the heads that need it.

    Args:
        say: a function that prints a line.
        collapsed: the kind of collapse of each head; empty if it has not collapsed.
        labelling: the options of the labelling passes.
    """
    by_remedy: dict[str, list[str]] = {}
    for kind in (ONE_CLUSTER, FEW_CLUSTERS, UNRELATED):
        heads = [head for head, head_kind in collapsed.items() if head_kind == kind]
        if heads:
            which = f"{'head' if len(heads) == 1 else 'heads'} {', '.join(map(str, heads))} ({kind})"
            by_remedy.setdefault(label_remedy(kind, labelling), []).append(which)
    for advice, which_heads in by_remedy.items():
        say(f"warning: of {labelling.heads} heads, these have collapsed: {'; '.join(which_heads)}; {advice}")


class FeatureWatch:
    """Checks every measurement of the features of held-out videos, and warns once about each kind of collapse.

    Args:
        log: where to print and write warnings; earlier warnings and measurements in it count.
        config: the options of the run.
        videos: videos per step, over all processes.
        total: training steps of the run.
    """

    def __init__(self, log: RunLog, config: TrainConfig, videos: int, total: int):
        self.log, self.config, self.videos, self.total = log, config, videos, total
        self.warned = {(str(line.get("modality")), str(line.get("way"))) for line in log.lines(COLLAPSE)}
        self.before = log.lines(MONITOR)

    def check(self, step: int, figures: dict[str, float]) -> None:
        """Print new warnings about the features before training step `step`, and write them to metrics.jsonl.

        Args:
            step: the training step.
            figures: those of `feature_monitor.measures`; empty in all processes but the first.
        """
        self.before.append(figures)
        if step < SETTLED or not figures:
            return
        for name in figures:
            part, _, modality = name.partition("_")
            if part == "deviation" and (kind := self._kind(modality, figures)):
                width = {"rank": figures[f"rank_{modality}"], "deviation": figures[name]}
                self._warn(step, modality, kind, self._described(modality, kind, figures), width)
        if said := self._at_chance(step, figures):
            self._warn(step, "both", CHANCE, said, {})

    def _largest(self, name: str) -> float:
        """The largest value of a figure in the run."""
        values = (line.get(name) for line in self.before)
        return max((x for x in values if isinstance(x, int | float) and math.isfinite(x)), default=math.nan)

    def _kind(self, modality: str, figures: dict[str, float]) -> str:
        rank, deviation = f"rank_{modality}", f"deviation_{modality}"
        if figures[deviation] < max(NO_DEVIATION, min(SMALL_DEVIATION, SHRUNK * self._largest(deviation))):
            return CONSTANT
        return LOW_RANK if figures[rank] < min(SMALL_RANK, FALLEN * self._largest(rank)) else ""

    def _described(self, modality: str, kind: str, figures: dict[str, float]) -> str:
        if kind == CONSTANT:
            deviation = figures[f"deviation_{modality}"]
            return f"the {modality} features are nearly the same for all videos (deviation {deviation:.2g}, spread: 1)"
        name = f"rank_{modality}"
        before = self._largest(name)
        return f"the {modality} features use {figures[name]:.1f} directions, and used {before:.1f} before"

    def _at_chance(self, step: int, figures: dict[str, float]) -> str:
        """A sentence if the loss falls in the second half of a run, but neighbours stay at chance; else empty."""
        count = figures["videos"]
        if 2 * step < self.total or count < ENOUGH_VIDEOS:
            return ""
        found = [value for name, value in figures.items() if name.startswith("knn")]
        chance, what = figures.get("chance", 0.0), "nearest neighbours are of a video's class"
        if not found and "recall5" in figures:
            found, chance, what = [figures["recall5"]], 5 / count, "a video's own audio is among its nearest five"
        if not found or max(found) > chance + 2 * math.sqrt(chance * (1 - chance) / count):
            return ""
        losses = [x for line in self.log.lines("train") if isinstance(x := line.get("loss"), float)]
        if not losses or not losses[-1] < LOSS_FELL * losses[0]:
            return ""
        return (
            f"the loss fell from {losses[0]:.3g} to {losses[-1]:.3g}, but {what} in {max(found):.0%} of the held-out "
            f"videos (chance: {chance:.0%})"
        )

    def _warn(self, step: int, modality: str, kind: str, what: str, figures: dict[str, Any]) -> None:
        if (modality, kind) in self.warned:
            return
        self.warned.add((modality, kind))
        self.log.write(step, COLLAPSE, {"modality": modality, "way": kind} | figures)
        advice = feature_remedy(kind, self.config, self.videos)
        self.log.say(f"warning: collapse at step {step}: {what}; {advice}")
