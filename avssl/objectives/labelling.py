"""Self-labelling as an objective (SeLaVi, SeLa, DeepCluster, XDC)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from ..clips.dataset import Batch, Pass, Request
from ..clips.loader import pass_requests, train_requests
from ..contrast.composition import Composition
from ..contrast.loss import normalise
from ..core.collectives import batch_sizes, gather, rank, rank_slice, start_sum, sum_over_processes, world_size
from ..core.cores import check_memory
from ..core.device import autocast
from ..core.progress import Progress
from ..core.transfer import to_device
from ..models.build import modalities_of
from ..models.heads import MLPHeads
from ..models.multi_stream import ByModality
from ..selflabel.alignment import agreement, best_permutation
from ..selflabel.first_labels import first_pass
from ..selflabel.kmeans_labeller import CrossModalLabeller, KMeansLabeller
from ..selflabel.labeller import UNLABELLED, Labeller, LabellingReport, PassFeatures
from ..selflabel.memory import Bank, Memory, Queue
from ..selflabel.transport_labeller import TransportLabeller
from .objective import Context, EncodedBatch, Interrupted, LoggedFigures, Objective
from .passes import LABEL_BATCH as LABEL_BATCH
from .passes import pass_batch, run_pass

MOST_LOGITS = 2**28
"""Most logits of a batch and its queue that are labelled at once, with `labelling.mode=batch`."""

LABELLERS: dict[str, type[Labeller]] = {
    "transport": TransportLabeller,
    "kmeans": KMeansLabeller,
    "xdc": CrossModalLabeller,
}


class Labelling(Objective):
    """SeLaVi (Asano et al. 2020): video and audio predict the same label, which is found from both together.

    With `labelling.mode=offline`, labels come from passes over the data, one per group of heads. With `bank`, a first
    pass fills a bank of features, training keeps it up to date, and labels come from it. With `batch`, after a first
    pass, each batch is labelled together with a queue of past batches.

    If another objective makes several clips of a video, only the composition's `plain` clips predict the label, at all
    start times and speeds, because a reversed clip may be meant to differ from its original. Small clips
    (`crops.small`; SwAV, Caron et al. 2020) predict the label too, and never take part in finding it.
    """

    name = "labelling"

    def __init__(self, context: Context, composition: Composition | None = None):
        super().__init__(context)
        labelling, videos = self.config.labelling, context.videos
        self.rows = rank_slice(videos)
        self.turns = 1 if composition is None else composition.turns
        self.mode, self.groups = labelling.mode, labelling.groups
        self.labeller = LABELLERS[labelling.method](
            videos, labelling, context.steps, self.config.seed, self.rows, sum_over_processes, context.device
        )
        if labelling.soft:
            plan = 2.0 * len(self.rows) * labelling.heads * labelling.clusters
            check_memory(f"labelling.soft={labelling.soft:g}", plan, "rows of the transport plan for all videos")
        self.moves_encoders = not labelling.stop_gradient
        self.modalities = modalities_of(self.config)
        self.pass_batch = pass_batch(context)
        # more passes over the data would not improve the statistics
        self.warm_up = min(labelling.warmup_batches, -(-videos // context.batch))
        self.memory: Memory = Bank(self.rows) if self.mode == "bank" else Queue(labelling.queue)
        self.of_batch: tuple[int, torch.Tensor] | None = None
        """With `labelling.mode=batch`, the last step and the labels of its videos, int64 [H, B]."""

    def trained_at(self, step: int) -> bool:
        return step >= self.labeller.start

    def labelling_due(self, step: int, done: int | None = None) -> bool:
        return self.labeller.due(step, done)

    def labellings(self) -> int:
        return self.labeller.done

    def labelling_requests(self, done: int) -> Iterator[Sequence[Request]]:
        videos, batch = self.context.videos, self.context.batch
        if done == 0:
            for number in range(self.warm_up):
                yield train_requests(videos, batch, self.config.seed, number, rank_slice(batch))
        for number in self._passes(done):
            yield from pass_requests(self.rows, self.pass_batch, Pass.LABEL, number)

    def _passes(self, done: int) -> range:
        """The numbers of the passes over the data for labelling pass `done`: one per group, each augmented
        differently."""
        if self.mode == "offline":
            return range(done * self.groups, (done + 1) * self.groups)
        return range(1) if done == 0 else range(0)

    def shared_state(self) -> dict[str, Any]:
        return {"labeller": self.labeller.state_dict(), "memory": self.memory.state_dict()}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        self.labeller.load_state_dict(state["labeller"])
        self.memory.load_state_dict(state["memory"])

    def rank_state(self) -> ByModality:
        return self.labeller.row_state() | self.memory.row_state()

    def load_rank_state(self, tables: ByModality) -> None:
        self.labeller.load_row_state(tables)
        self.memory.load_row_state(tables)

    def relabel(self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Progress) -> LabellingReport:
        if self.labeller.done == 0:
            self._warm_up(batches, stop, progress)
        self.model.eval()
        with torch.no_grad():
            passes, groups = self._passes(self.labeller.done), []
            for number in range(1, len(passes) + 1):
                which = f", pass {number} of {len(passes)}" if len(passes) > 1 else ""
                title = f"labelling {self.labeller.done + 1} of {len(self.labeller.steps)}{which}, videos"
                groups.append(self._pass(batches, stop, partial(progress, title)))
            if not groups:
                groups = [PassFeatures(*self.memory.whole(), self._logits, self.device)]
            elif self.mode == "bank":
                self.memory.write(groups[0].index, groups[0].features)
            if self.labeller.done or self.config.labelling.first == "heads":
                if self.labeller.done == 0 and self.config.labelling.sharing == "per_modality":
                    self._align(groups)
                return self.labeller.solve(groups, progress)
            return self.labeller.solve(groups, progress, self._first)

    def _first(self, outputs: PassFeatures, heads: list[int]) -> PassFeatures:
        """The pass that gives some heads their first labels, from k-means of features or embeddings."""
        labelling = self.config.labelling
        seeds = {head: self.config.seed * 1000 + head for head in heads}
        weights = self.labeller.weights or {}
        # embeddings were trained on all modalities alike, so an unreliable modality makes its embeddings unreliable
        useless = any(bool((x[heads] == 0).any()) for x in weights.values())
        embed = self._embeddings if labelling.first_from == "embeddings" and not useless else None
        return first_pass(outputs, labelling.first, labelling.clusters, seeds, embed, self.labeller.weights_of)

    @torch.no_grad()
    def _embeddings(self, features: ByModality) -> ByModality:
        with torch.autocast(self.device.type, enabled=False):
            return {name: self.model.embed(to_device(x, self.device).float(), name) for name, x in features.items()}

    def _pass(
        self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Callable[[int, int], None]
    ) -> PassFeatures:
        """Features of all videos of this process that can be decoded. `progress` is called with the number
        of videos done in all processes, and their total."""
        index, features = run_pass(
            self.context, self.rows, self.model.widths, partial(self.context.encode, modalities=self.modalities),
            batches, stop, progress,
        )  # fmt: skip
        return PassFeatures(index, features, self._logits, self.device)

    @torch.no_grad()
    def _logits(self, head: int, features: ByModality) -> ByModality:
        """A head's logits in float32, even within a training step, because bfloat16's three digits are too few for
        λ/2 · log p."""
        with torch.autocast(self.device.type, enabled=False):
            return self.model.cluster_by(
                head, {name: to_device(x, self.device).float() for name, x in features.items()}
            )

    def _warm_up(self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Progress) -> None:
        """Set batch-norm statistics from training batches, because the first labels come from an untrained network."""
        self.model.train()
        with torch.no_grad():
            for done in range(self.warm_up):
                if stop():
                    raise Interrupted
                progress("warm-up, batches", done, self.warm_up)
                features = self.context.encode(next(batches), self.modalities)
                with autocast(self.device, self.config.precision):
                    self.model.cluster(features)
        progress("warm-up, batches", self.warm_up, self.warm_up)

    def _align(self, groups: list[PassFeatures]) -> None:
        """Permute the outputs of the other modalities' heads so that they agree with the first's (SeLaVi §3.3)."""
        if not self.config.labelling.align:
            return
        clusters, (first, *others) = self.config.labelling.clusters, self.modalities
        for outputs in groups:
            for head in self.labeller.heads_of(outputs, groups):
                for name in others:
                    agreements = sum(
                        (agreement(z[first].softmax(-1), z[name].softmax(-1)) for z in outputs.blocks(head)),
                        torch.zeros(clusters, clusters, dtype=torch.float64, device=self.device),
                    )
                    order = best_permutation(self.labeller.all_reduce(agreements))
                    heads = self.model.cluster_heads[name]
                    assert isinstance(heads, MLPHeads)
                    heads.renumber(head, order)

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The cross-entropy to the label, averaged over heads, modalities and clips (SeLaVi §3.2).

        With `labelling.released=[normalise_logits]`, logits are scaled to unit length for the cross-entropy, as in
        SeLaVi's released training. Labels, costs and predictions still use the unscaled logits. So does the released
        code with several heads; with one head it also labels from scaled logits.
        """
        index, sizes = batch.device_index, batch_sizes(self.context.batch, len(batch.index))
        features = {name: x[:: self.turns] for name, x in batch.features.items()}
        small = batch.small
        if not self.moves_encoders:
            features, small = ({name: x.detach() for name, x in each.items()} for each in (features, small))
        clips, few = (len(next(iter(x.values()), index[:0])) // len(index) for x in (features, small))
        soft = self.labeller.soft_targets(index, batch.step, sizes)
        if self.mode == "offline":
            by_modality = self.labeller.targets_of(index, self.modalities, sizes)
        else:
            first = {name: gather(x.detach()[::clips].float(), sizes) for name, x in features.items()}
            all_index = gather(index, sizes)
            if self.mode == "batch":
                start = sum(sizes[: rank()])
                own = self._label_batch(first, all_index)[:, start : start + len(index)]
                by_modality = dict.fromkeys(self.modalities, own)
                self.of_batch = batch.step, own
            else:
                by_modality = self.labeller.targets_of(index, self.modalities, sizes)
            self.memory.write(all_index, first)
        labelled = self._labelled(by_modality, clips + few, sum(sizes))
        soft = None if soft is None else _for_clips(soft, clips, few)
        losses: list[torch.Tensor] = []
        logged: LoggedFigures = {}
        # in one pass, so that the heads' batch norms have the same mixture of clips in training and in evaluation
        together = {name: torch.cat([x, small[name]]) if few else x for name, x in features.items()}
        for name, z in self.model.cluster(together).items():
            z = normalise(z) if "normalise_logits" in self.config.labelling.released else z
            labels = _for_clips(by_modality[name], clips, few)
            if soft is None:
                losses.append(cross_entropy(z, labels, labelled()[name]))
            else:
                losses.append(soft_cross_entropy(z, soft, labelled()[name]))
            logged[f"loss_{name}"] = losses[-1].detach()
            hits = (z.detach().argmax(-1) == labels).float()
            logged[f"accuracy_{name}"] = hits[:, : len(features[name])].mean()
            if few:
                logged[f"accuracy_small_{name}"] = hits[:, len(features[name]) :].mean()
        loss = torch.stack(losses).mean()
        return loss, {"loss": loss, **logged}

    def clusters_of(self, batch: EncodedBatch) -> torch.Tensor:
        """The clusters of a batch's videos by the head whose labels cost least, int64 [B], and for videos without a
        label a number that no other video has. With `labelling.mode=batch` they are those that `loss` found for this
        batch before; the table of labels is only brought up to date for a checkpoint."""
        index, alone = batch.device_index, self.config.labelling.clusters + batch.device_index
        if self.mode == "batch":
            if self.of_batch is None or self.of_batch[0] != batch.step:
                return alone
            head = self.labeller.costs.argmin(0, keepdim=True)  # on the device, and not read back
            chosen = self.of_batch[1].index_select(0, head)[0]
        else:
            sizes = batch_sizes(self.context.batch, len(batch.index))
            labels = self.labeller.targets(index, self.modalities[0], sizes)
            chosen = labels[int(self.labeller.costs.argmin())]  # the costs of a pass are in the CPU's memory
        return torch.where(chosen == UNLABELLED, alone, chosen)

    def _labelled(
        self, labels: ByModality, clips: int, videos: int
    ) -> Callable[[], dict[str, float] | dict[str, torch.Tensor]]:
        """By modality, the number of labels of all processes' clips, divided by the number of processes; to be called
        when it is needed. If all videos have a label, there is nothing to count."""
        if self.mode == "batch" or all(map(self.labeller.all_labelled, labels)):
            known = self.config.labelling.heads * clips * videos / world_size()
            return lambda: dict.fromkeys(labels, known)
        counts = torch.stack([(x != UNLABELLED).sum() * clips for x in labels.values()])
        wait = start_sum(counts)
        return lambda: dict(zip(labels, (wait().clamp(min=1) / world_size()).unbind(), strict=True))

    @torch.no_grad()
    def _label_batch(self, features: ByModality, index: torch.Tensor) -> torch.Tensor:
        """Label the videos `index`, int64 [B], of a batch together with a queue of earlier videos (SwAV, Caron et al.
        2020). Returns int64 [H, B]. A queued video that is in the batch too has no mass."""
        queued, past = self.memory.whole()
        together = {name: torch.cat([x, past[name].to(x)]) if past else x for name, x in features.items()}
        queued = to_device(queued, index.device)[: len(next(iter(together.values()))) - len(index)]
        counts = torch.cat(
            [torch.ones_like(index, dtype=torch.bool), (queued >= 0) & ~(queued[:, None] == index).any(1)]
        )
        labelling, found = self.config.labelling, []
        group = max(1, MOST_LOGITS // (len(counts) * labelling.clusters))
        with evaluating(*self.model.norms.values()):  # empty places of the queue must not enter statistics
            for first in range(0, labelling.heads, group):
                heads = range(labelling.heads)[first : first + group]
                by_head = [self._logits(head, together) for head in heads]
                logits = {name: torch.stack([z[name] for z in by_head]) for name in by_head[0]}
                found.append(self.labeller.solve_batch(slice(heads.start, heads.stop), logits, counts))
        labels = torch.cat(found)[:, : len(index)]
        self.labeller.keep(index, labels)
        return labels


@contextmanager
def evaluating(*modules: torch.nn.Module) -> Iterator[None]:
    """A context in which modules are as in evaluation."""
    before = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.train(training)


def _repeat(x: torch.Tensor, times: int, dim: int) -> torch.Tensor:
    """`x.repeat_interleave(times, dim)`, whose size is known without asking a GPU."""
    return (
        x
        if times == 1
        else x.unsqueeze(dim + 1).expand(*x.shape[: dim + 1], times, *x.shape[dim + 1 :]).flatten(dim, dim + 1)
    )


def _for_clips(x: torch.Tensor, clips: int, small: int) -> torch.Tensor:
    """What belongs to videos, [H, B, …], for the clips of each, video by video, followed by its small clips."""
    whole = _repeat(x, clips, 1)
    return torch.cat([whole, _repeat(x, small, 1)], 1) if small else whole


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, labelled: float | torch.Tensor) -> torch.Tensor:
    """The cross-entropy of logits [H, B, K] to labels int64 [H, B], a scalar; unlabelled videos are left out.

    `labelled` divides the sum. It is the number of labels of all processes divided by the number of processes, so that
    the mean over processes is the mean over all labels.
    """
    each = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED, reduction="none")
    return each.sum() / labelled


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, labelled: float | torch.Tensor) -> torch.Tensor:
    """`cross_entropy` to probabilities of the clusters, float [H, B, K]; zeros for a video without a label."""
    return -(targets * logits.float().log_softmax(-1)).sum() / labelled
