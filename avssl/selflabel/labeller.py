"""The label table of a run and when it is solved anew: the state between self-labelling and training."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.collectives import lookup_sharded
from ..core.progress import Progress, silent
from ..metrics.information import entropy, normalised_information
from .head_opinions import Opinion, adjusted_information, collapse, opinion, spread_of
from .marginals import make_marginal, soft_counts
from .memory import ByModality
from .sinkhorn import BlockwiseEvidence, Transport, joint_evidence, sinkhorn

if TYPE_CHECKING:
    from ..config import LabellingConfig

UNLABELLED = -1
MEASURED = ("spread", "agreement", "together", "ami")
"""What a checkpoint keeps of a labelling, by head: see `LabellingReport`."""

BLOCK = 8192
"""Videos whose evidence is computed at a time."""


def solve_steps(total: int, solves: int, exponent: float = 1.5, at_end: bool = True) -> list[int]:
    """The training steps before which labels are solved: T (i / (S - 1)) ** exponent, i = 0 … S - 1 (spec §1).

    The last falls at T, when training has ended: it gives the labels that the run exports. Without `at_end` it is left
    out, as in SeLaVi's released code, whose loop ends before. Early ones that round to the same step are one.
    """
    if solves == 1:
        return [0]
    steps = sorted({min(total, round(total * (i / (solves - 1)) ** exponent)) for i in range(solves)})
    return steps if at_end else [step for step in steps if step < max(1, total)]


@dataclass
class LabellingReport:
    """What one labelling did, per head: for the log."""

    costs: list[float]
    iterations: list[int]
    errors: list[float]
    """Bound on the published stopping error; above the tolerance where the solver gave up."""
    changed: float
    """Share of videos whose label (any head) differs from the previous labelling's."""
    nmi: list[float | None]
    """With the previous labelling; None for the first."""
    entropy: list[float]
    """Of the cluster sizes, over log K: 1 when all are equal."""
    ami: list[float | None]
    """AMI with the previous labelling; None for the first."""
    spread: list[float]
    """Clusters that the heads' own joint labels are spread over, see `Opinion`."""
    agreement: list[float | None]
    """AMI of the heads' own labels by video alone and by audio alone; None where they do not label by two."""
    together: list[float | None]
    """Share of the videos that both modalities put into one and the same cluster, see `Opinion`."""
    collapsed: list[str]
    """Which way each head has collapsed; empty where it has not."""


@dataclass
class PassFeatures:
    """What a labelling sees of the videos `index`, int64 [n]: their features, float [n, D] by modality, and how the
    heads see them: `logits(head, features)` gives float [b, K] by modality, for features of b videos."""

    index: torch.Tensor
    features: ByModality
    logits: Callable[[int, ByModality], ByModality]
    device: torch.device = torch.device("cpu")
    """Where logits are: those of no video too."""

    def blocks(self, head: int, size: int = BLOCK) -> Iterator[ByModality]:
        """The head's logits [b, K] of all videos, in order, `size` at a time."""
        for start in range(0, len(self.index), size):
            yield self.block(head, start, start + size)

    def block(self, head: int, start: int, stop: int) -> ByModality:
        """The head's logits of the videos `start` … `stop` − 1."""
        return self.logits(head, {name: x[start:stop] for name, x in self.features.items()})


def evidence(logits: ByModality) -> torch.Tensor:
    """log p of each cluster, float [..., K], for λ/2 · log p (spec §1).

    Of two modalities log softmax(z_v) + log softmax(z_a): each is an augmentation of the other. Of one modality twice
    its own (SeLa): λ/2 · 2 log p is SeLa's λ · log p. Of M, twice their mean: as sharp as of two.
    """
    joint = joint_evidence(*logits.values())
    return joint if len(logits) == 2 else joint * (2 / len(logits))


class Labeller:
    """Labels int32 [n, H] of this process's training videos, -1 before the first solve and for videos without evidence.

    The videos of this process are `rows` of all `videos`; `all_reduce` sums a tensor over the processes. A subclass
    says how labels are found: `solve_head`.
    """

    def __init__(
        self,
        videos: int,
        config: "LabellingConfig",
        total_steps: int,
        seed: int = 0,
        rows: range | None = None,
        all_reduce: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
    ):
        self.config, self.seed, self.all_reduce = config, seed, all_reduce
        self.rows = range(videos) if rows is None else rows
        self.labels = torch.full((len(self.rows), config.heads), UNLABELLED, dtype=torch.int32)
        self.costs = torch.full((config.heads,), torch.inf)
        schedule = solve_steps(total_steps, config.passes, config.exponent, "no_last_pass" not in config.released)
        self.steps = [0] if config.mode == "batch" else schedule
        self.done = 0
        self.measures = {name: torch.full((config.heads,), torch.nan) for name in MEASURED}
        """Of the last labelling, by head; NaN until a trained model has been labelled by."""

    def due(self, step: int, done: int | None = None) -> bool:
        """Is a labelling due before training step `step`, when `done` (default: as many as so far) have been?"""
        done = self.done if done is None else done
        return done < len(self.steps) and step >= self.steps[done]

    def targets(self, index: torch.Tensor, modality: str) -> torch.Tensor:
        """What the heads of a modality are to predict of the videos `index`, int64 [B], whichever process holds their
        labels: int64 [H, B]. Called by all processes or none."""
        return lookup_sharded(self.table(modality), self.rows, index).T.long()

    def table(self, modality: str) -> torch.Tensor:
        """This process's rows of the labels that a modality is to predict, int32 [n, H]."""
        return self.labels

    def solve(self, groups: list[PassFeatures], progress: Progress = silent) -> LabellingReport:
        """New labels for all videos of `groups`: heads are split evenly over them, each group a pass of its own.

        Videos that are not in a head's group keep their label.
        """
        before, heads, numbering = self.labels.clone(), self.config.heads, self.numbering()
        by_head: dict[int, tuple[Transport, Opinion]] = {}
        for outputs in groups:
            for head in self.heads_of(outputs, groups):
                progress("solving, head", len(by_head), heads)
                said = self.opinion(head, outputs, None if numbering is None else numbering[head])
                by_head[head] = (self.solve_head(head, outputs), said)
        progress("solving, head", heads, heads)
        solved, opinions = zip(*(by_head[head] for head in range(heads)), strict=True)
        self.costs = torch.tensor([s.cost for s in solved])
        self.done += 1
        changed = torch.tensor([float((before != self.labels).any(1).sum()), float(len(self.rows))])
        changed = self.all_reduce(changed)
        nmi, even, ami = self._movement(before)
        found = LabellingReport(
            [s.cost for s in solved],
            [s.iterations for s in solved],
            [s.error for s in solved],
            float(changed[0] / changed[1].clamp(min=1)),
            nmi,
            even,
            ami,
            [o.spread for o in opinions],
            [o.agreement for o in opinions],
            [o.together for o in opinions],
            [collapse(*each) for each in zip(opinions, self.asked(), ami, strict=True)],
        )
        if self.done > 1:
            for name in self.measures:
                values = [torch.nan if x is None else x for x in getattr(found, name)]
                self.measures[name] = torch.tensor(values)
        return found

    def opinion(self, head: int, outputs: PassFeatures, numbering: torch.Tensor | None) -> Opinion:
        """What a head itself makes of all videos, before it is given new labels."""
        apart = len(outputs.features) > 1 and self.config.sharing != "concat"
        return opinion(outputs.blocks(head), self.config.clusters, apart, self.all_reduce, numbering)

    def numbering(self) -> torch.Tensor | None:
        """The audio heads' clusters that are those of the video heads, int64 [H, K]; None where the numbers are
        common: both learn one table of labels."""
        return None

    def asked(self) -> list[float]:
        """Clusters that each head's videos were asked to spread over."""
        return [float(self.config.clusters)] * self.config.heads

    def _movement(self, before: torch.Tensor) -> tuple[list[float | None], list[float], list[float | None]]:
        """How the labels relate to those `before`, by head: NMI, evenness and AMI."""
        clusters = self.config.clusters
        nmi: list[float | None] = []
        even: list[float] = []
        ami: list[float | None] = []
        for head in range(self.config.heads):
            old, new = before[:, head].long(), self.labels[:, head].long()
            known = new != UNLABELLED
            sizes = self.all_reduce(torch.bincount(new[known], minlength=clusters))
            even.append(entropy(sizes.numpy()) / math.log(clusters) if clusters > 1 else 1.0)
            both = known & (old != UNLABELLED)
            pairs = torch.bincount(old[both] * clusters + new[both], minlength=clusters**2)
            table = self.all_reduce(pairs).reshape(clusters, clusters).numpy()
            table = table[table.any(1)][:, table.any(0)]
            nmi.append(normalised_information(table) if table.size else None)
            ami.append(adjusted_information(table) if table.size else None)
        return nmi, even, ami

    def heads_of(self, outputs: PassFeatures, groups: list[PassFeatures]) -> list[int]:
        """The heads that are labelled from a group's pass, ascending.

        With `labelling.released=[shuffle_groups]` they are drawn anew for each labelling, the same in all processes.
        """
        g, heads = next(i for i, group in enumerate(groups) if group is outputs), self.config.heads
        order = np.arange(heads)
        if "shuffle_groups" in self.config.released:
            np.random.default_rng([self.seed, self.done, heads]).shuffle(order)
        return sorted(order[g * heads // len(groups) : (g + 1) * heads // len(groups)].tolist())

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        """Write the labels of one head."""
        raise NotImplementedError

    def solve_batch(self, outputs: PassFeatures, count: int) -> None:
        """New labels for those of the first `count` videos of `outputs` that are this process's, found together with
        the others: each process does all of the work, on the same `outputs`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint and is the same in all processes."""
        return {"costs": self.costs, "done": self.done, "measures": self.measures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.costs = state["costs"].clone()
        self.done = state["done"]
        self.measures |= state.get("measures", {})  # checkpoints made before have none

    def row_state(self) -> ByModality:
        """What goes into a checkpoint of this process's rows: tables [n, …]."""
        return {"labels": self.labels}

    def load_row_state(self, tables: ByModality) -> None:
        """The same, of this process's rows."""
        self.labels.copy_(tables["labels"])


class TransportLabeller(Labeller):
    """Labels by optimal transport (SeLa, SeLaVi): every head under a marginal of its own draw.

    `labelling.memory=full` keeps one head's evidence, N × K, while it is solved; `stream` computes it anew from the
    features in every pass of the solver.
    """

    def __init__(self, videos: int, config: "LabellingConfig", total_steps: int, *args: Any, **options: Any):
        super().__init__(videos, config, total_steps, *args, **options)
        self.marginal = make_marginal(config)
        self.marginals = self.marginal.draw(config.clusters, config.heads, self.seed)  # float64 [H, K]
        self.log_alpha = torch.zeros(config.heads, config.clusters)

    def asked(self) -> list[float]:
        if self.config.marginal == "empirical":  # what the model found is no wish
            return super().asked()
        return [spread_of(masses.numpy()) for masses in self.marginals]

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        result, masses = self.transport(head, outputs)
        self.marginals[head] = masses  # the same as drawn, in the order of the clusters; or estimated
        self.labels[outputs.index - self.rows.start, head] = result.labels.to("cpu", torch.int32)
        self.log_alpha[head] = result.log_alpha.cpu()
        return result

    def solve_batch(self, outputs: PassFeatures, count: int) -> None:
        index = outputs.index[:count] - self.rows.start
        mine = (index >= 0) & (index < len(self.rows))
        for head in range(self.config.heads):
            result, _ = self.transport(head, outputs, all_reduce=lambda x: x)
            self.labels[index[mine], head] = result.labels[:count].to("cpu", torch.int32)[mine]
            self.costs[head] += 0.01 * (result.cost - self.costs[head])  # of about the last hundred batches

    def transport(
        self, head: int, outputs: PassFeatures, all_reduce: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> tuple[Transport, torch.Tensor]:
        """The solution for the videos of `outputs`, and the masses that it was asked for, float64 [K]."""
        config, all_reduce = self.config, all_reduce or self.all_reduce
        soft_count = torch.zeros(config.clusters, dtype=torch.float64)
        device = outputs.device
        whole, start = torch.zeros(0, config.clusters, device=device), 0
        for logits in outputs.blocks(head):
            block = evidence(logits)
            soft_count += soft_counts(block).cpu()
            if config.memory == "full":
                if start == 0:  # one matrix, filled in place: blocks joined at the end would need it twice
                    whole = torch.empty(len(outputs.index), config.clusters, device=device)
                whole[start : start + len(block)] = block
                start += len(block)
        masses = self.marginal.masses(self.marginals[head], all_reduce(soft_count))
        log_p: torch.Tensor | BlockwiseEvidence
        if config.memory == "full":
            log_p = whole
        else:
            log_p = BlockwiseEvidence(
                len(outputs.index),
                config.clusters,
                lambda start, stop: evidence(outputs.block(head, start, stop)),
                device,
            )
        solution = sinkhorn(
            log_p, masses.to(device), config.lam, config.tolerance, config.max_iterations, all_reduce=all_reduce
        )
        return solution, masses

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"marginals": self.marginals, "log_alpha": self.log_alpha}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.marginals.copy_(state["marginals"])
        self.log_alpha.copy_(state["log_alpha"])
