"""The loss of a step: the weighted sum of the objectives that the step trains."""

from contextlib import nullcontext

import torch
from torch import nn

from ..clips.dataset import Batch
from ..contrast.composition import Composition
from ..contrast.view_plan import Encodable, ViewPlan, by_shape
from ..core.device import autocast
from ..models.build import modalities_of
from ..models.multi_stream import ByModality
from ..models.running_statistics import keep_statistics
from ..objectives.build import build_objectives, encoded_main_clips
from ..objectives.objective import Context, EncodedBatch, ExtraViews, LoggedFigures, Objective, stored


class WeightedLoss(nn.Module):
    """The weighted sum of the objectives as a module, for DistributedDataParallel to hook into."""

    def __init__(self, context: Context, plan: Composition | ViewPlan | None):
        super().__init__()
        self.context, self.plan = context, plan
        self.composition = plan.composition if isinstance(plan, ViewPlan) else plan
        self.objectives = build_objectives(context, self.composition)
        self.model = context.model
        self.modalities = modalities_of(context.config)
        self.main_clips = encoded_main_clips(context.config)
        self.maps = {name for _, objective in self.objectives for name in objective.maps}
        self.step = 0
        """The training step of the coming batches."""

    def clips(self, batch: Batch) -> Encodable:
        """The clips of a batch to encode: every clip that an objective needs."""
        with torch.no_grad():
            batch = batch.to(self.context.device)
            clips = self.context.transform(batch, self.modalities)  # spectrograms in float32
            if isinstance(self.plan, ViewPlan):
                return self.plan.expand(clips, batch.values, batch, self.context.transform)
            return Encodable(clips if self.plan is None else self.plan.expand(clips, batch.values), {})

    def encode(self, clips: Encodable) -> tuple[ByModality, ByModality, dict[str, ExtraViews]]:
        """The features and the feature maps of the main clips that objectives need, and those of the groups.

        Clips of one shape are encoded together, others by themselves, so that norms that use the statistics of a batch
        see each size apart (SwAV). Running statistics are those of clips of the main shape, which evaluation has.
        """
        groups = clips.groups
        extra = {name: ExtraViews(given, {}) for name, given in groups.items()}
        if not groups:
            return *self.model.encode_with_maps(clips.main, self.maps), extra
        features: ByModality = {}
        maps: ByModality = {}
        for modality in self.model.encoders:
            main = clips.main[modality]
            parts = {"": main} if modality in self.main_clips else {}
            parts |= {name: given[modality] for name, given in groups.items() if modality in given}
            for names in by_shape(parts):
                sizes = [len(parts[name]) for name in names]
                together = {modality: torch.cat([parts[name] for name in names])}
                usual = parts[names[0]].shape[1:] == main.shape[1:]
                with nullcontext() if usual else keep_statistics(self.model.encoders, self.model.adapters):
                    found, mapped = self.model.encode_with_maps(together, self.maps if "" in names else ())
                if "" in names and modality in mapped:
                    maps[modality] = mapped[modality][: sizes[0]]
                for name, x in zip(names, found[modality].split(sizes), strict=True):
                    (extra[name].features if name else features)[modality] = x
        return features, maps, extra

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
        clips, step = Encodable({}, {}) if batch.features else self.clips(batch), self.step
        logged: LoggedFigures = {}
        maps: ByModality = {}
        extra: dict[str, ExtraViews] = {}
        teacher: ByModality = {}
        with autocast(self.context.device, self.context.config.precision):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoders_learn(step)):
                if batch.features:
                    features = self.model.adapt(stored(batch, self.context.device))
                else:
                    features, maps, extra = self.encode(clips)
                    for name, views in extra.items():
                        views.values = batch.values[name]
            if self.context.teacher is not None:
                if batch.features:
                    teacher = self.context.teacher.adapt(stored(batch, self.context.device))
                else:
                    teacher = self.context.teacher.encode(clips.main)
            encoded = EncodedBatch(
                clips.main, features, batch.index, maps, step, batch.device_index, extra, teacher
            )  # fmt: skip
            if len(self.objectives) == 1:
                weight, objective = self.objectives[0]
                loss, figures = objective.loss(encoded, detailed)
                return (loss if weight == 1 else weight * loss), figures
            losses = []
            for weight, objective in self.trained_at(step):
                loss, figures = objective.loss(encoded, detailed)
                losses.append(weight * loss)
                logged |= {f"{objective.name}_{key}": figure for key, figure in figures.items()}
        total = torch.stack(losses).sum()
        return total, {"loss": total} | logged
