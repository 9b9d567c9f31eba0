"""Warnings about collapsed labels: once in a run for each head and kind of collapse, and again at its end."""

from typing import Any

from ..config import LabellingConfig
from ..selflabel.head_opinions import FEW_CLUSTERS, ONE_CLUSTER, UNRELATED
from ..selflabel.labeller import LabellingReport
from ..selflabel.marginals import Empirical
from .log import RunLog

COLLAPSE = "collapse"
"""The kind of a warning's line in metrics.jsonl, as `RunLog.write` takes it."""


def remedy(kind: str, labelling: LabellingConfig) -> str:
    """Advice against a kind of collapse: the options to change."""
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
    """A sentence about the labels of a head that has collapsed."""
    return {
        ONE_CLUSTER: "video and audio put nearly all videos into one and the same cluster",
        FEW_CLUSTERS: f"its videos are spread over {spread:.1f} of {clusters} clusters",
        UNRELATED: "its labels are unrelated to those of the labelling pass before",
    }[kind]


SETTLED = 50
"""Training steps before which no labels are checked: the running statistics of batch norm have not settled yet."""


class CollapseWatch:
    """Checks every labelling pass of a run, and warns once about each head that has collapsed.

    Args:
        log: where warnings are printed and written; its earlier warnings are not repeated.
        labelling: the options of the labelling passes.
        steps_per_epoch: training steps. Labels of a model that was trained for less than an epoch, or for less than
            `SETTLED` steps, are not checked.
        start: the training step from which on the heads are trained.
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
        """Print which heads are collapsed after the last labelling pass."""
        if self.last is not None:
            warn(self.log.say, dict(enumerate(self.last.collapsed)), self.labelling)


def warn(say: Any, collapsed: dict[int, str], labelling: LabellingConfig) -> None:
    """Print a line for each piece of advice, with the heads that it is for.

    Args:
        say: called with each line.
        collapsed: the kind of collapse of each head, empty for a head that has not collapsed.
        labelling: the options of the labelling passes.
    """
    by_remedy: dict[str, list[str]] = {}
    for kind in (ONE_CLUSTER, FEW_CLUSTERS, UNRELATED):
        heads = [head for head, head_kind in collapsed.items() if head_kind == kind]
        if heads:
            which = f"{'head' if len(heads) == 1 else 'heads'} {', '.join(map(str, heads))} ({kind})"
            by_remedy.setdefault(remedy(kind, labelling), []).append(which)
    for advice, which_heads in by_remedy.items():
        say(f"warning: collapsed, of {labelling.heads} heads: {'; '.join(which_heads)}; {advice}")
