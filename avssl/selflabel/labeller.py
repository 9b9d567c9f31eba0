"""The labels of a run, and the schedule of its labelling passes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.progress import Progress, silent
from ..core.sharded_table import ShardedTable
from ..metrics.information import entropy
from .head_opinions import Opinion, collapse, opinion
from .labelling_steps import configured_steps, first_step
from .memory import ByModality
from .modality_weights import SMOOTHING, repeatabilities, weigh_anew
from .pairs import count_pairs
from .sinkhorn import Transport, joint_evidence

if TYPE_CHECKING:
    from ..config import LabellingConfig

CPU = torch.device("cpu")
UNLABELLED = -1
MEASURED = ("spread", "agreement", "together", "ami")
"""The fields of a `LabellingReport` that a checkpoint keeps."""

BLOCK = 8192
"""Number of videos whose evidence is computed at a time."""


@dataclass
class LabellingReport:
    """The measures of one labelling pass, by head, for the log."""

    costs: list[float]
    iterations: list[int]
    errors: list[float]
    """Bound on the published stopping error; above the tolerance if the solver did not converge."""
    changed: float
    """Fraction of videos with a label, of any head, that differs from the previous pass."""
    nmi: list[float | None]
    """NMI with the labels of the previous pass; None for the first pass."""
    entropy: list[float]
    """Entropy of the cluster sizes, divided by log K: 1 if all are equal."""
    ami: list[float | None]
    """AMI with the labels of the previous pass; None for the first pass."""
    spread: list[float]
    """Effective number of clusters of the heads' own joint labels, see `Opinion`."""
    agreement: list[float | None]
    """AMI between the heads' own labels from video alone and from audio alone; None without two modalities."""
    together: list[float | None]
    """Largest fraction of videos that both modalities put into the same cluster, see `Opinion`."""
    collapsed: list[str]
    """How each head has collapsed; empty if it has not."""
    modality_weights: dict[str, list[float]] = field(default_factory=dict)
    """Weight of each modality in the joint evidence, by head; empty if all are equal."""
    repeats: dict[str, float] = field(default_factory=dict)
    """`metrics.repeatability` of each modality's features, at the last pass and if the weights are estimated from
    it."""


@dataclass
class PassFeatures:
    """The features of n videos, from which a labelling pass computes logits.

    Args:
        index: the videos, int64 [n].
        features: float [n, D] by modality.
        logits: `logits(head, features)` returns float [b, K] by modality, for features of b videos.
        device: the device of the logits.
    """

    index: torch.Tensor
    features: ByModality
    logits: Callable[[int, ByModality], ByModality]
    device: torch.device = torch.device("cpu")

    def blocks(self, head: int, size: int = BLOCK) -> Iterator[ByModality]:
        """Yield the head's logits [b, K] of all videos, in order, `size` at a time."""
        for start in range(0, len(self.index), size):
            yield self.block(head, start, start + size)

    def block(self, head: int, start: int, stop: int) -> ByModality:
        """The head's logits of the videos `start` … `stop` − 1."""
        return self.logits(head, {name: x[start:stop] for name, x in self.features.items()})


def evidence(logits: ByModality, weights: ByModality | None = None) -> torch.Tensor:
    """log p of each cluster, float [..., K], from logits by modality, for λ/2 · log p (spec §1).

    For two modalities it is log softmax(z_v) + log softmax(z_a), because each is an augmentation of the other. For one
    modality it is 2 log softmax(z), because λ/2 · 2 log p is SeLa's λ · log p. For M modalities it is twice the mean of
    their log softmax, which is as sharp as for two.

    Args:
        logits: float [..., K] by modality.
        weights: weight of each modality, scalars or float [..., 1], which sum to M. None: all are 1. They have no
            effect on a single modality.
    """
    known = weights if weights is not None and len(logits) > 1 and logits.keys() <= weights.keys() else None
    joint = joint_evidence(*logits.values(), weights=None if known is None else [known[name] for name in logits])
    return joint if len(logits) == 2 else joint * (2 / len(logits))


def initial_weights(config: "LabellingConfig") -> ByModality | None:
    """The weights of `labelling.modality_weights`, float32 [H] by modality; None if they are equal."""
    given = config.given_weights()
    return {name: torch.full((config.heads,), x) for name, x in given.items()} if given else None


class Labeller:
    """Labels, int32 [n, H], of this process's n training videos by H heads; -1 for videos without a label.

    A subclass finds the labels, in `solve_head`.

    Args:
        videos: number of videos in all processes.
        config: the options of the labelling passes.
        total_steps: number of training steps of the run.
        seed: random seed.
        rows: the videos of this process; by default all.
        all_reduce: sums a tensor over the processes.
        device: where training steps need the labels.
    """

    def __init__(
        self,
        videos: int,
        config: "LabellingConfig",
        total_steps: int,
        seed: int = 0,
        rows: range | None = None,
        all_reduce: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        device: torch.device = CPU,
    ):
        self.config, self.seed, self.all_reduce, self.device = config, seed, all_reduce, device
        self.rows = range(videos) if rows is None else rows
        self.labels = torch.full((len(self.rows), config.heads), UNLABELLED, dtype=torch.int32)
        self.costs = torch.full((config.heads,), torch.inf)
        schedule = configured_steps(config, total_steps)
        self.start = first_step(config, total_steps)
        self.soft_until = self.start + round(config.soft * (total_steps - self.start))
        """The training step from which targets are labels instead of rows of the transport plan."""
        self.steps = [self.start] if config.mode == "batch" else schedule
        self.done = 0
        self.videos = videos
        self.weights = initial_weights(config)
        """Weight of each modality in the joint evidence, float32 [H] by modality; None if all are equal."""
        self.measures = {name: torch.full((config.heads,), torch.nan) for name in MEASURED}
        """Measures of the last labelling pass, [H] by name; NaN before the second pass, the first of a trained
        model."""
        self.on_device: dict[str, ShardedTable] = {}
        """The tables of labels and targets on the device, by name, since the last labelling pass."""
        self.complete: dict[str, bool] = {}
        """Whether all videos of all processes have a label, by the table's name."""

    def due(self, step: int, done: int | None = None) -> bool:
        """Whether a labelling pass is due before training step `step`, after `done` passes (default: those so far)."""
        done = self.done if done is None else done
        return done < len(self.steps) and step >= self.steps[done]

    def targets(self, index: torch.Tensor, modality: str, sizes: Sequence[int] | None = None) -> torch.Tensor:
        """The labels, int64 [H, B], that the heads of a modality must predict for the videos `index`, int64 [B].

        The labels may be in any process. All processes call this together. With `sizes`, the number of videos of each
        process, no process waits for its GPU.
        """
        return self.targets_of(index, [modality], sizes)[modality]

    def targets_of(
        self, index: torch.Tensor, modalities: Sequence[str], sizes: Sequence[int] | None = None
    ) -> ByModality:
        """`targets` of several modalities. Those that share their labels share the tensor."""
        names = {modality: self.table_name(modality) for modality in modalities}
        found = {}
        for name, modality in {name: modality for modality, name in names.items()}.items():
            table = self.table(modality)
            if name not in self.on_device:
                unlabelled = self.all_reduce((table == UNLABELLED).sum())
                self.complete[name] = not bool(unlabelled)
            found[name] = self._on_device(name, table)(index, sizes).T.long()
        return {modality: found[name] for modality, name in names.items()}

    def all_labelled(self, modality: str) -> bool:
        """Whether all videos had a label when `targets_of` first read the table, after the last labelling pass."""
        return self.complete.get(self.table_name(modality), False)

    def _on_device(self, name: str, table: torch.Tensor) -> ShardedTable:
        if name not in self.on_device:
            self.on_device[name] = ShardedTable(table, self.rows, self.device)
        return self.on_device[name]

    def table_name(self, modality: str) -> str:
        """The name of `table`, the same for modalities that share it."""
        return "labels"

    def table(self, modality: str) -> torch.Tensor:
        """This process's rows of the labels that a modality must predict, int32 [n, H]."""
        return self.labels

    def soft_targets(self, index: torch.Tensor, step: int, sizes: Sequence[int] | None = None) -> torch.Tensor | None:
        """The probability of each cluster that the heads must predict for the videos `index`, float [H, B, K]; None if
        they must predict labels. Otherwise like `targets`."""
        return None

    def solve(
        self,
        groups: list[PassFeatures],
        progress: Progress = silent,
        first: Callable[[PassFeatures, list[int]], PassFeatures] | None = None,
    ) -> LabellingReport:
        """Find new labels for the videos of `groups`, and report on them.

        The heads are split evenly over the groups; each group is the pass of its heads. Videos outside a head's group
        keep their label. `first` returns the pass whose logits determine the labels of some heads, if not their own.
        """
        before, heads, numbering = self.labels.clone(), self.config.heads, self.numbering()
        repeats = self.repeats(groups)
        if self.config.weighs_by_itself and self.weights is not None:
            of_heads = ((head, outputs.blocks(head)) for outputs in groups for head in self.heads_of(outputs, groups))
            weigh_anew(self.weights, of_heads, repeats, SMOOTHING if self.done else 0.0, self.all_reduce)
        by_head: dict[int, tuple[Transport, Opinion]] = {}
        for outputs in groups:
            of_group = self.heads_of(outputs, groups)
            source = outputs if first is None else first(outputs, of_group)
            for head in of_group:
                progress("solving, head", len(by_head), heads)
                opinion = self.opinion(head, outputs, None if numbering is None else numbering[head])
                by_head[head] = (self.solve_head(head, source), opinion)
        progress("solving, head", heads, heads)
        solutions, opinions = zip(*(by_head[head] for head in range(heads)), strict=True)
        self.costs = torch.tensor([s.cost for s in solutions])
        self.on_device.clear()
        self.done += 1
        changed = torch.tensor([float((before != self.labels).any(1).sum()), float(len(self.rows))])
        changed = self.all_reduce(changed)
        nmi, evenness, ami = self._movement(before)
        report = LabellingReport(
            [s.cost for s in solutions],
            [s.iterations for s in solutions],
            [s.error for s in solutions],
            float(changed[0] / changed[1].clamp(min=1)),
            nmi,
            evenness,
            ami,
            [o.spread for o in opinions],
            [o.agreement for o in opinions],
            [o.together for o in opinions],
            [collapse(*each) for each in zip(opinions, self.expected_spread(), ami, strict=True)],
            {name: x.tolist() for name, x in (self.weights or {}).items()},
            repeats,
        )
        if self.done > 1:
            for name in self.measures:
                values = [torch.nan if x is None else x for x in getattr(report, name)]
                self.measures[name] = torch.tensor(values)
        return report

    def opinion(self, head: int, outputs: PassFeatures, numbering: torch.Tensor | None) -> Opinion:
        """The measures of a head's own labels of all videos, before it gets new ones."""
        per_modality = len(outputs.features) > 1 and self.config.sharing != "concat"
        weights = self.weights_of(head)
        return opinion(outputs.blocks(head), self.config.clusters, per_modality, self.all_reduce, numbering, weights)

    def weights_of(self, head: int) -> ByModality | None:
        """The weight of each modality in the joint evidence of a head, scalars; None if they are equal."""
        return None if self.weights is None else {name: x[head] for name, x in self.weights.items()}

    def repeats(self, groups: list[PassFeatures]) -> dict[str, float]:
        """How well k-means of each modality's features repeats, at passes that report it. All processes call this."""
        last = self.done + 1 >= len(self.steps) and self.config.mode != "batch"
        if len(groups[0].features) < 2 or not (last or self.config.weighs_by_itself):
            return {}
        index, features = groups[0].index, groups[0].features
        return repeatabilities(index, features, self.config.clusters, self.videos, self.seed)

    def numbering(self) -> torch.Tensor | None:
        """For each cluster of the video heads, its number in the audio heads, int64 [H, K]; None if both learn the same
        labels, and thus use the same numbers."""
        return None

    def expected_spread(self) -> list[float]:
        """The effective number of clusters, by head, if the sizes are as requested."""
        return [float(self.config.clusters)] * self.config.heads

    def _movement(self, before: torch.Tensor) -> tuple[list[float | None], list[float], list[float | None]]:
        """By head, the NMI with the previous labels, the evenness of the new ones, and the AMI with the previous
        ones."""
        clusters = self.config.clusters
        nmi: list[float | None] = []
        evenness: list[float] = []
        ami: list[float | None] = []
        for head in range(self.config.heads):
            old, new = before[:, head].long(), self.labels[:, head].long()
            labelled = new != UNLABELLED
            sizes = self.all_reduce(torch.bincount(new[labelled], minlength=clusters))
            evenness.append(entropy(sizes.numpy()) / math.log(clusters) if clusters > 1 else 1.0)
            both = labelled & (old != UNLABELLED)
            pairs = count_pairs(old[both], new[both], clusters)
            nmi.append(pairs.normalised() if len(pairs) else None)
            ami.append(pairs.adjusted() if len(pairs) else None)
        return nmi, evenness, ami

    def heads_of(self, outputs: PassFeatures, groups: list[PassFeatures]) -> list[int]:
        """The heads that are labelled from a group's pass, ascending.

        With `labelling.released=[shuffle_groups]` they are drawn again for each labelling pass, alike in all processes.
        """
        g, heads = next(i for i, group in enumerate(groups) if group is outputs), self.config.heads
        order = np.arange(heads)
        if "shuffle_groups" in self.config.released:
            np.random.default_rng([self.seed, self.done, heads]).shuffle(order)
        return sorted(order[g * heads // len(groups) : (g + 1) * heads // len(groups)].tolist())

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        """Find and store the labels of one head."""
        raise NotImplementedError

    def solve_batch(self, heads: slice, logits: ByModality, counts: torch.Tensor) -> torch.Tensor:
        """Labels, int64 [h, n], of a batch and its queue by some heads. Nothing is read back from the device.

        Each process does all of the work, with the same logits, float [h, n, K] by modality. Rows without mass in
        `counts`, bool [n], only get labels.
        """
        raise NotImplementedError

    def keep(self, index: torch.Tensor, labels: torch.Tensor) -> None:
        """Keep the labels, int64 [H, B], of the videos `index`, int64 [B], that are this process's. They are in
        `labels` after `row_state`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The part of a checkpoint that is the same in all processes."""
        state = {"costs": self.costs, "done": self.done, "measures": self.measures}
        return state | ({} if self.weights is None else {"modality_weights": self.weights})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.costs = state["costs"].clone()
        self.done = state["done"]
        self.measures |= state.get("measures", {})  # older checkpoints have none
        if self.weights is not None:
            saved = state["modality_weights"]
            if {name: x.shape for name, x in saved.items()} != {name: x.shape for name, x in self.weights.items()}:
                raise ValueError("the weights of the modalities belong to other heads or modalities")
            self.weights = {name: saved[name].clone() for name in self.weights}

    def row_state(self) -> ByModality:
        """The part of a checkpoint that belongs to this process's rows: tables [n, …]."""
        return {"labels": self.labels}

    def load_row_state(self, tables: ByModality) -> None:
        """Load `row_state`, for this process's rows."""
        self.labels.copy_(tables["labels"])
        self.on_device.clear()
