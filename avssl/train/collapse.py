"""Warnings about collapsed labels: once per run for each head and kind of collapse, and again at its end."""

from typing import Any

from ..config import LabellingConfig
from ..selflabel.head_opinions import FEW_CLUSTERS, ONE_CLUSTER, UNRELATED
from ..selflabel.labeller import LabellingReport
from ..selflabel.marginals import Empirical
from .log import RunLog

COLLAPSE = "collapse"
"""The kind of a warning's line in metrics.jsonl, for `RunLog.write`."""


def remedy(kind: str, labelling: LabellingConfig) -> str:
    """The options to change against a kind of collapse."""
    if kind == UNRELATED:
        return "lower optim.lr, or lengthen optim.warmup_epochs"
    if labelling.method != "transport":
        return f"lower labelling.clusters (now {labelling.clusters}), or set labelling.method=transport"
    if labelling.marginal == "empirical":
        floor = Empirical.floor if labelling.marginal_parameter is None else labelling.marginal_parameter
        return f"raise labelling.marginal_parameter (now {floor:g}, at most 1), or set labelling.marginal=uniform"
    longer = "train longer with optim.epochs or optim.clips, or lower optim.lr"
    return longer if labelling.clusters <= 2 else f"{longer} or labelling.clusters (now {labelling.clusters})"


def described(kind: str, spread: float, clusters: int) -> str:
    """A sentence about the labels of a collapsed head."""
    return {
        ONE_CLUSTER: "video and audio both put nearly all videos into one cluster",
        FEW_CLUSTERS: f"its videos are spread over {spread:.1f} of {clusters} clusters",
        UNRELATED: "its labels are unrelated to those of the previous labelling pass",
    }[kind]


SETTLED = 50
"""Training steps before labels are checked, because batch norm's running statistics need time to settle."""


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
                    f"warning: head {head} has collapsed at step {step}: {what}; {remedy(kind, self.labelling)}"
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
            by_remedy.setdefault(remedy(kind, labelling), []).append(which)
    for advice, which_heads in by_remedy.items():
        say(f"warning: of {labelling.heads} heads, these have collapsed: {'; '.join(which_heads)}; {advice}")
