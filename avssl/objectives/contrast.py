"""Composed contrast as an objective (GDT)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..clips.dataset import Batch, Request
from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.gather import global_contrastive_loss
from ..contrast.loss import normalise
from ..contrast.prototypes import PrototypeReport
from ..contrast.statistics import measures
from ..core.collectives import batch_sizes
from ..core.progress import Progress
from ..models.multi_stream import ByModality
from .objective import Context, EncodedBatch, LoggedFigures, Objective
from .prototypes import PrototypePasses, prototype_steps
from .stored_keys import KEYS, StoredKeys


class Contrast(Objective):
    """GDT (Patrick et al. 2021): the composition decides which clips are pulled together and which are pushed apart.

    With `contrast.keys=queue` (MoCo) or `bank` (NPID), clips are compared with keys that outlive the batch. With
    `contrast.prototypes` (PCL), they also predict which cluster of all embeddings their video is in.
    """

    name = "contrast"

    def __init__(self, context: Context, composition: Composition | None):
        super().__init__(context)
        assert composition is not None  # `make_composition` returns one for every run with contrast
        self.composition = composition
        stored = KEYS.get(self.config.contrast.keys)
        self.keys: StoredKeys | None = None if stored is None else stored(context, composition)
        share = self.config.contrast.end
        self.end = round(share * context.steps) if share < 1 else float("inf")
        self.prototypes = PrototypePasses(context, composition) if self.config.contrast.prototypes else None

    def trained_at(self, step: int) -> bool:
        return step < self.end

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The composed contrastive loss (GDT §3) of a batch, and that of its prototypes (PCL eq. 11)."""
        if self.keys is not None:
            queries = self.keys.queries(batch)
            loss, logged = self.keys.loss(batch, queries, detailed)
            main = queries[:, :, : len(self.composition.plain)].flatten(1, 2)
        else:
            by_modality, few = self._embed(batch)
            z, small = torch.cat([*by_modality.values()]), torch.cat([*few.values()]) if few else None
            loss, logged = self._loss_of_batch(z, small, batch, detailed)
            main = z.unflatten(0, (len(self.composition.modalities), -1))
        if self.prototypes is None or not self.prototypes.done:
            return loss, logged
        unit = dict(zip(self.composition.modalities, normalise(main) if self.keys is None else main, strict=True))
        sizes = batch_sizes(self.context.batch, len(batch.index))
        to_prototypes = self.prototypes.loss(unit, batch.device_index, sizes)
        parts = {"loss_clips": loss.detach(), "loss_prototypes": to_prototypes.detach()}
        return loss + to_prototypes, logged | parts | {"loss": loss + to_prototypes}

    def _loss_of_batch(
        self, z: torch.Tensor, small: torch.Tensor | None, batch: EncodedBatch, detailed: bool
    ) -> tuple[torch.Tensor, LoggedFigures]:
        """The loss with the batch's own clips as keys, of embeddings [modalities · B · V, P]; `small`: of small
        clips."""
        composition, contrast = self.composition, self.config.contrast
        sizes = batch_sizes(self.context.batch, len(batch.index))
        loss = global_contrastive_loss(
            z, batch.device_index, composition, contrast.temperature, block=contrast.block, sizes=sizes, small=small
        )
        logged: LoggedFigures = {"loss": loss}
        if detailed:
            logged |= measures(z, batch.device_index, composition)
        return loss, logged

    def _embed(self, batch: EncodedBatch) -> tuple[ByModality, ByModality]:
        """The embeddings of whole clips by modality, and those of small clips, or none.

        A modality's clips of all sizes go through its projection together (SwAV).
        """
        names = self.composition.modalities
        if not batch.small:
            return {name: self.model.embed(batch.features[name], name) for name in names}, {}
        whole, small = {}, {}
        for name in names:
            pair = batch.features[name], batch.small[name]
            whole[name], small[name] = self.model.embed(torch.cat(pair), name).split([len(x) for x in pair])
        return whole, small

    def after_step(self, step: int) -> None:
        if self.keys is not None:
            self.keys.after_step(step)

    # the passes over the data that find prototypes

    @staticmethod
    def further_passes(config: TrainConfig, steps: int, steps_per_epoch: float) -> int:
        return len(prototype_steps(config.contrast, steps, steps_per_epoch))

    def labelling_due(self, step: int, done: int | None = None) -> bool:
        return self.prototypes is not None and self.prototypes.due(step, done)

    def labellings(self) -> int:
        return 0 if self.prototypes is None else self.prototypes.done

    def labelling_requests(self, done: int) -> Iterator[Sequence[Request]]:
        return iter(()) if self.prototypes is None else self.prototypes.requests(done)

    def relabel(self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Progress) -> PrototypeReport:
        assert self.prototypes is not None  # no pass is due without prototypes
        return self.prototypes.find(batches, stop, progress)

    # what a checkpoint keeps

    @property
    def _parts(self) -> list[StoredKeys | PrototypePasses]:
        return [part for part in (self.keys, self.prototypes) if part is not None]

    def shared_state(self) -> dict[str, Any]:
        return {name: x for part in self._parts for name, x in part.shared_state().items()}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        for part in self._parts:
            part.load_shared_state(state)

    def rank_state(self) -> ByModality:
        return {name: x for part in self._parts for name, x in part.rank_state().items()}

    def load_rank_state(self, tables: ByModality) -> None:
        for part in self._parts:
            part.load_rank_state(tables)
