"""Composed contrast as an objective (GDT)."""

import torch

from ..contrast.composition import Composition
from ..contrast.gather import global_contrastive_loss
from ..contrast.statistics import measures
from ..core.collectives import batch_sizes
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
        z, small = self._embed(batch)
        sizes = batch_sizes(self.context.batch, len(batch.index))
        loss = global_contrastive_loss(
            z, batch.device_index, composition, contrast.temperature, block=contrast.block, sizes=sizes, small=small
        )
        logged: LoggedFigures = {"loss": loss}
        if detailed:
            logged |= measures(z, batch.device_index, composition)
        return loss, logged

    def _embed(self, batch: EncodedBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The embeddings of all modalities, in the order of `Composition.codes`; and those of small clips, or None.

        A modality's clips of all sizes go through its projection together (SwAV).
        """
        names = self.composition.modalities
        if "small" not in batch.extra:
            return torch.cat([self.model.embed(batch.features[name], name) for name in names]), None
        pairs = [(batch.features[name], batch.extra["small"].features[name]) for name in names]
        embedded = [
            self.model.embed(torch.cat(pair), name).split([len(x) for x in pair])
            for name, pair in zip(names, pairs, strict=True)
        ]
        whole, small = zip(*embedded, strict=True)
        return torch.cat(whole), torch.cat(small)
