"""Composed contrast as an objective (GDT)."""

import torch

from ..contrast.composition import Composition
from ..contrast.gather import global_contrastive_loss
from ..contrast.statistics import measures
from ..core.collectives import batch_sizes
from ..models.multi_stream import ByModality
from .objective import Context, EncodedBatch, LoggedFigures, Objective


class Contrast(Objective):
    """GDT (Patrick et al. 2021): the composition decides which clips are pulled together and which are pushed apart."""

    name = "contrast"

    def __init__(self, context: Context, composition: Composition | None):
        super().__init__(context)
        assert composition is not None  # `make_composition` returns one for every run with contrast
        self.composition = composition
        share = self.config.contrast.end
        self.end = round(share * context.steps) if share < 1 else float("inf")

    def trained_at(self, step: int) -> bool:
        return step < self.end

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The composed contrastive loss (GDT §3) of a batch."""
        composition, contrast = self.composition, self.config.contrast
        by_modality, few = self._embed(batch)
        z, small = torch.cat([*by_modality.values()]), torch.cat([*few.values()]) if few else None
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
        if "small" not in batch.extra:
            return {name: self.model.embed(batch.features[name], name) for name in names}, {}
        whole, small = {}, {}
        for name in names:
            pair = batch.features[name], batch.extra["small"].features[name]
            whole[name], small[name] = self.model.embed(torch.cat(pair), name).split([len(x) for x in pair])
        return whole, small
