"""Composed contrast as an objective (GDT)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..clips.dataset import Batch, Request
from ..contrast.composition import Composition
from ..contrast.gather import global_contrastive_loss
from ..contrast.prototypes import PrototypeReport
from ..contrast.statistics import measures
from ..core.collectives import batch_sizes
from ..core.progress import Progress
from .objective import Context, EncodedBatch, LoggedFigures, Objective
from .prototypes import PrototypePasses


class Contrast(Objective):
    """GDT (Patrick et al. 2021): the composition decides which clips are pulled together and which are pushed apart."""

    name = "contrast"

    def __init__(self, context: Context, composition: Composition | None):
        super().__init__(context)
        assert composition is not None  # `make_composition` returns one for every run with contrast
        self.composition = composition
        share = self.config.contrast.end
        self.end = round(share * context.steps) if share < 1 else float("inf")
        self.prototypes = PrototypePasses(context, composition)

    def trained_at(self, step: int) -> bool:
        return step < self.end

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The composed contrastive loss (GDT §3) of a batch."""
        composition, contrast = self.composition, self.config.contrast
        by_modality = {name: self.model.embed(batch.features[name], name) for name in composition.modalities}
        z = torch.cat([*by_modality.values()])
        sizes = batch_sizes(self.context.batch, len(batch.index))
        loss = global_contrastive_loss(
            z, batch.device_index, composition, contrast.temperature, block=contrast.block, sizes=sizes
        )
        logged: LoggedFigures = {}
        to_prototypes = self.prototypes.loss(by_modality, batch.device_index, sizes)
        if to_prototypes is not None:
            logged |= {"loss_clips": loss.detach(), "loss_prototypes": to_prototypes.detach()}
            loss = loss + to_prototypes
        logged["loss"] = loss
        if detailed:
            logged |= measures(z, batch.device_index, composition)
        return loss, logged

    # the passes over the data that find prototypes

    def labelling_due(self, step: int, done: int | None = None) -> bool:
        return self.prototypes.due(step, done)

    def labellings(self) -> int:
        return self.prototypes.done

    def labelling_requests(self, done: int) -> Iterator[Sequence[Request]]:
        return self.prototypes.requests(done)

    def relabel(self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Progress) -> PrototypeReport:
        return self.prototypes.find(batches, stop, progress)

    def shared_state(self) -> dict[str, Any]:
        return self.prototypes.shared_state()

    def load_shared_state(self, state: dict[str, Any]) -> None:
        self.prototypes.load_shared_state(state)

    def rank_state(self) -> dict[str, torch.Tensor]:
        return self.prototypes.rank_state()

    def load_rank_state(self, tables: dict[str, torch.Tensor]) -> None:
        self.prototypes.load_rank_state(tables)
