"""Warnings of labellings that have collapsed: once for each head and way in the run, and again at its end."""

from typing import Any

from ..config import LabellingConfig
from ..selflabel.head_opinions import FEW_CLUSTERS, ONE_CLUSTER, UNRELATED
from ..selflabel.labeller import LabellingReport
from ..selflabel.marginals import Empirical
from .log import RunLog

COLLAPSE = "collapse"
"""The kind of a warning's line in metrics.jsonl."""


def remedy(kind: str, labelling: LabellingConfig) -> str:
    """What to do about a way of collapsing: which options to change."""
    if kind == UNRELATED:
        return "lower optim.lr, or lengthen optim.warmup_epochs"
    if labelling.method != "transport":
        return f"lower labelling.clusters (now {labelling.clusters}), or set labelling.method=transport"
    if labelling.marginal == "empirical":
        floor = Empirical.floor if labelling.marginal_parameter is None else labelling.marginal_parameter
        return f"raise labelling.marginal_parameter (now {floor:g}, at most 1), or set labelling.marginal=uniform"
    if labelling.clusters <= 2:
        return "train longer (optim.epochs), or lower optim.lr"
    return f"train longer (optim.epochs), or lower optim.lr or labelling.clusters (now {labelling.clusters})"


def described(kind: str, spread: float, clusters: int) -> str:
    """What has happened to a head, in words."""
    return {
        ONE_CLUSTER: "video and audio put nearly all videos into one and the same cluster",
        FEW_CLUSTERS: f"its videos are spread over {spread:.1f} of {clusters} clusters",
        UNRELATED: "its labels have nothing to do with those of the labelling before",
    }[kind]


SETTLED = 50
"""Training steps before which no labelling is looked at: running statistics of batch norm are still the first ones."""


class CollapseWatch:
    """Reads each labelling of a run, and warns. `epoch`: training steps in a pass over the data; labels of a model
    that was trained for less, or for less than `SETTLED` steps, are not looked at."""

    def __init__(self, log: RunLog, labelling: LabellingConfig, epoch: float):
        self.log, self.labelling, self.first = log, labelling, max(epoch, SETTLED)
        self.last: LabellingReport | None = None
        self.warned = {(str(line.get("head")), str(line.get("way"))) for line in log.lines(COLLAPSE)}

    def look(self, step: int, solved: LabellingReport) -> None:
        """At a labelling before training step `step`: new warnings are said, and written to metrics.jsonl."""
        if step < self.first:
            return
        self.last = solved
        for head, kind in enumerate(solved.collapsed):
            if kind and (str(head), kind) not in self.warned:
                self.warned.add((str(head), kind))
                spread = solved.spread[head]
                what = described(kind, spread, self.labelling.clusters)
                figures: dict[str, Any] = {"head": head, "way": kind, "spread": spread}
                self.log.write(step, COLLAPSE, figures | {"agreement": solved.agreement[head]})
                self.log.say(
                    f"warning: head {head} has collapsed at step {step}: {what}; {remedy(kind, self.labelling)}"
                )

    def end(self) -> None:
        """Name the heads that are collapsed by the last labelling."""
        if self.last is not None:
            warn(self.log.say, dict(enumerate(self.last.collapsed)), self.labelling)


def warn(say: Any, collapsed: dict[int, str], labelling: LabellingConfig) -> None:
    """One line for each thing to do about heads that have collapsed: `collapsed` is the way of each head, empty where
    there is none."""
    by_remedy: dict[str, list[str]] = {}
    for kind in (ONE_CLUSTER, FEW_CLUSTERS, UNRELATED):
        heads = [head for head, way in collapsed.items() if way == kind]
        if heads:
            which = f"{'head' if len(heads) == 1 else 'heads'} {', '.join(map(str, heads))} ({kind})"
            by_remedy.setdefault(remedy(kind, labelling), []).append(which)
    for what, which_heads in by_remedy.items():
        say(f"warning: collapsed, of {labelling.heads} heads: {'; '.join(which_heads)}; {what}")
