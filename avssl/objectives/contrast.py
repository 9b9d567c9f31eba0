"""Composed contrast as an objective (GDT)."""

from typing import Any

import torch

from ..contrast.composition import Composition
from ..contrast.gather import global_contrastive_loss
from ..contrast.statistics import measures
from ..core.collectives import batch_sizes
from ..models.multi_stream import ByModality
from .objective import Context, EncodedBatch, LoggedFigures, Objective
from .stored_keys import KEYS, StoredKeys


class Contrast(Objective):
    """GDT (Patrick et al. 2021): the composition decides which clips are pulled together and which are pushed apart.

    With `contrast.keys=queue` (MoCo) or `bank` (NPID), clips are compared with keys that outlive the batch.
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

    def trained_at(self, step: int) -> bool:
        return step < self.end

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The composed contrastive loss (GDT §3) of a batch."""
        composition, contrast = self.composition, self.config.contrast
        if self.keys is not None:
            return self.keys.loss(batch, detailed)
        z = torch.cat([self.model.embed(batch.features[name], name) for name in composition.modalities])
        sizes = batch_sizes(self.context.batch, len(batch.index))
        loss = global_contrastive_loss(
            z, batch.device_index, composition, contrast.temperature, block=contrast.block, sizes=sizes
        )
        logged: LoggedFigures = {"loss": loss}
        if detailed:
            logged |= measures(z, batch.device_index, composition)
        return loss, logged

    def after_step(self, step: int) -> None:
        if self.keys is not None:
            self.keys.after_step(step)

    def shared_state(self) -> dict[str, Any]:
        return {} if self.keys is None else self.keys.shared_state()

    def load_shared_state(self, state: dict[str, Any]) -> None:
        if self.keys is not None:
            self.keys.load_shared_state(state)

    def rank_state(self) -> ByModality:
        return {} if self.keys is None else self.keys.rank_state()

    def load_rank_state(self, tables: ByModality) -> None:
        if self.keys is not None:
            self.keys.load_rank_state(tables)
