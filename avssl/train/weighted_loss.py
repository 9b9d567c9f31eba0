"""The loss of a step: the weighted sum of the objectives that the step trains."""

import torch
from torch import nn

from ..clips.dataset import Batch
from ..contrast.composition import Composition
from ..core.device import autocast
from ..models.build import modalities_of
from ..models.multi_stream import ByModality
from ..objectives.build import build_objectives
from ..objectives.objective import Context, EncodedBatch, LoggedFigures, Objective, stored


class WeightedLoss(nn.Module):
    """The weighted sum of the objectives as a module, for DistributedDataParallel to hook into."""

    def __init__(self, context: Context, composition: Composition | None):
        super().__init__()
        self.context, self.composition = context, composition
        self.objectives = build_objectives(context, composition)
        self.model = context.model
        self.modalities = modalities_of(context.config)
        self.maps = {name for _, objective in self.objectives for name in objective.maps}
        self.step = 0
        """The training step of the coming batches."""

    def clips(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The clips of a batch to encode, [B · clips, …] by modality: every clip that an objective needs."""
        with torch.no_grad():
            batch = batch.to(self.context.device)
            clips = self.context.transform(batch, self.modalities)  # spectrograms in float32
            if self.composition is None:
                return clips
            return self.composition.expand(clips, batch.values)

    def trained_at(self, step: int) -> list[tuple[float, Objective]]:
        """The objectives that a step trains, with their weights."""
        return [(weight, objective) for weight, objective in self.objectives if objective.trained_at(step)]

    def encoders_learn(self, step: int) -> bool:
        """Whether an objective changes the encoders in a step."""
        return any(objective.moves_encoders for _, objective in self.trained_at(step))

    def trains_all(self, step: int) -> bool:
        """Whether a step trains every objective, and the encoders."""
        return len(self.trained_at(step)) == len(self.objectives) and self.encoders_learn(step)

    def forward(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        batch = batch.to(self.context.device)  # the only copy of a step, which the host does not wait for
        clips, step = {} if batch.features else self.clips(batch), self.step
        logged: LoggedFigures = {}
        maps: ByModality = {}
        with autocast(self.context.device, self.context.config.precision):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoders_learn(step)):
                if batch.features:
                    features = self.model.adapt(stored(batch, self.context.device))
                else:
                    features, maps = self.model.encode_with_maps(clips, self.maps)
            encoded = EncodedBatch(clips, features, batch.index, maps, step, batch.device_index)
            if len(self.objectives) == 1:
                return self.objectives[0][1].loss(encoded, detailed)
            losses = []
            for weight, objective in self.trained_at(step):
                loss, figures = objective.loss(encoded, detailed)
                losses.append(weight * loss)
                logged |= {f"{objective.name}_{key}": figure for key, figure in figures.items()}
        total = torch.stack(losses).sum()
        return total, {"loss": total} | logged
