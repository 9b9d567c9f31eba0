"""Composed contrast as a task (GDT), alone and together with self-labelling."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..clips.dataset import Batch, Request
from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.gather import global_contrastive_loss
from ..contrast.statistics import statistics
from ..core.device import autocast
from ..core.progress import Progress, silent
from ..models import TwoStream
from ..selflabel.labeller import LabellingReport
from .labelling import SelaviTask
from .objective import Figures, Task


class GdtTask(Task):
    """GDT (Patrick et al. 2021): clips attract or repel as their composition says."""

    def __init__(
        self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device, batch: int = 0
    ):
        super().__init__(model, config, videos, total, device, batch)
        self.composition = Composition.from_config(config.contrast)

    def clips(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What is encoded of a batch, by modality: all clips of its composition, [B · clips, …]."""
        composition = self.composition
        with torch.no_grad():
            inputs = self.transform(batch, composition.modalities)
            values = {name: value.to(self.device) for name, value in batch.values.items()}
            frames, sound = composition.expand(inputs.get("video"), inputs.get("audio"), values)
        return {name: x for name, x in (("video", frames), ("audio", sound)) if x is not None}

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        self._note(batch.failures)
        clips = self.clips(batch)
        with autocast(self.device, self.config.precision):
            return self.objective(self.model.encode(clips), batch.index, detailed)

    def objective(
        self, features: dict[str, torch.Tensor], index: torch.Tensor, detailed: bool
    ) -> tuple[torch.Tensor, Figures]:
        """The composed contrast (GDT §3) of features [B · clips, D] of the videos `index`, int64 [B]."""
        composition, contrast = self.composition, self.config.contrast
        z = torch.cat([self.model.embed(features[name], name) for name in composition.modalities])
        codes = composition.codes(index)
        loss = global_contrastive_loss(z, codes, composition, contrast.temperature, block=contrast.block)
        return loss, {"loss": loss} | (statistics(z, codes, composition) if detailed else {})


class BothTask(GdtTask):
    """Self-labelling and composed contrast, weighted, over one pair of encoders and the same clips.

    Labels are asked of the composition's `plain` clips: a reversed clip may be meant to differ from its original. Those
    of all start times and speeds are asked for the video's label.
    """

    def __init__(
        self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device, batch: int = 0
    ):
        super().__init__(model, config, videos, total, device, batch)
        self.selavi = SelaviTask(model, config, videos, total, device, batch)
        self.failures = self.selavi.failures

    def requests(self, start: int) -> Iterator[list[Request]]:
        return self.selavi.requests(start)

    def due(self, step: int) -> bool:
        return self.selavi.due(step)

    def label(
        self, batches: Iterator[Batch], stop: Callable[[], bool] = lambda: False, progress: Progress = silent
    ) -> LabellingReport:
        return self.selavi.label(batches, stop, progress)

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        self._note(batch.failures)
        clips = self.clips(batch)
        with autocast(self.device, self.config.precision):
            features = self.model.encode(clips)
            contrast, contrasted = self.objective(features, batch.index, detailed)
            plain = {name: x[:: self.composition.turns] for name, x in features.items()}
            labelling, labelled = self.selavi.objective(plain, batch.index)
        loss = self.config.labelling.weight * labelling + self.config.contrast.weight * contrast
        parts = {f"contrast_{k}": v for k, v in contrasted.items()} | {f"labelling_{k}": v for k, v in labelled.items()}
        return loss, {"loss": loss} | parts

    def state_dict(self) -> dict[str, Any]:
        return self.selavi.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.selavi.load_state_dict(state)

    def row_state(self) -> dict[str, torch.Tensor]:
        return self.selavi.row_state()

    def load_row_state(self, tables: dict[str, torch.Tensor]) -> None:
        self.selavi.load_row_state(tables)
