"""The interface between the trainer and an objective: its loss, its labels, and its state (spec §10)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..clips.dataset import Batch, Request
from ..clips.transform import DeviceTransform
from ..config import TrainConfig
from ..config.crops import SMALL
from ..contrast.composition import Composition
from ..contrast.prototypes import PrototypeReport
from ..contrast.view_plan import ViewGroup
from ..core.device import autocast
from ..core.progress import Progress
from ..models import MultiStream
from ..models.build import modalities_of
from ..models.multi_stream import ByModality
from ..selflabel.labeller import LabellingReport
from .teacher import Teacher

LoggedFigures = dict[str, torch.Tensor | float]
"""Figures of a step for the log, by name."""


PassReport = LabellingReport | PrototypeReport
"""What an objective reports about a pass over the data, for the log."""


class Interrupted(Exception):
    """A pass over the data was stopped and its results were dropped."""


@dataclass
class Context:
    """The model, the sizes of the data and the options, for every objective of a run."""

    config: TrainConfig
    model: MultiStream
    device: torch.device
    transform: DeviceTransform
    videos: int
    """Rows of the training data: videos, or windows of them."""
    steps: int
    """Training steps of the whole run."""
    batch: int
    """Videos per batch, over all processes."""
    note_failures: Callable[[Batch], None] = lambda batch: None
    """Called with every batch of a labelling pass, to report videos that could not be decoded at the end of the run."""
    teacher: Teacher | None = None
    """The slow copy of the model; None if no objective needs one."""

    def encode(self, batch: Batch, modalities: Sequence[str], model: MultiStream | None = None) -> ByModality:
        """The features for the heads, [B · V, D], from a batch's clips or from its stored features. `model`: the one
        that encodes, such as a teacher's; by default the run's."""
        model = self.model if model is None else model
        if batch.features:
            with autocast(self.device, self.config.precision):
                return model.adapt(stored(batch, self.device))
        clips = self.transform(batch, modalities)
        with autocast(self.device, self.config.precision):
            return model.encode(clips)


def stored(batch: Batch, device: torch.device) -> ByModality:
    """The stored features of a batch, on the device."""
    return batch.to(device).features


@dataclass
class ExtraViews:
    """The clips of a view group, [B · clips, …] by modality, and their features [B · clips, D], video by video.

    `values` are the group's random values, float32 [B, rows, k].
    """

    clips: ByModality
    features: ByModality
    values: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class EncodedBatch:
    """A batch of B videos for the objectives, video by video.

    `index` has the videos, int64 [B], on the CPU; `device_index` the same on the device. By modality: `clips`
    [B · V, …], the encoders' inputs; `features` [B · V, D], if an objective needs them; `maps` [B · V, D, …], the
    encoders' feature maps, for the modalities in `Objective.maps`; `teacher` [B · V, D], the teacher's features of the
    same clips. `extra` has the clips of the view groups, by the group's name.
    """

    clips: ByModality
    features: ByModality
    index: torch.Tensor
    maps: ByModality = field(default_factory=dict)
    step: int = 0
    """The training step that the batch belongs to."""
    device_index: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """`index` on the device of the features; by default it is copied there."""
    extra: dict[str, ExtraViews] = field(default_factory=dict)
    teacher: ByModality = field(default_factory=dict)

    @property
    def small(self) -> ByModality:
        """The features of the small clips, [B · M, D] by modality; empty if there are none."""
        return self.extra[SMALL].features if SMALL in self.extra else {}

    def __post_init__(self) -> None:
        if len(self.device_index) != len(self.index):
            device = next(iter(self.features.values())).device
            self.device_index = self.index.to(device, non_blocking=True)


class Objective:
    """A term of the loss. The methods here do nothing; a subclass overrides those that it needs."""

    name: str
    maps: tuple[str, ...] = ()
    """Modalities whose feature maps the loss needs."""
    pooled = True
    """Whether the loss also needs the pooled features of the modalities in `maps`."""
    moves_encoders = True
    """Whether the loss has a gradient for the encoders."""

    def __init__(self, context: Context, composition: Composition | None = None):
        """`composition` plans the clips of a video; None: one clip."""
        self.context, self.config, self.model = context, context.config, context.model
        self.device = context.device

    @staticmethod
    def own_heads(config: TrainConfig, widths: dict[str, int]) -> dict[str, nn.Module]:
        """Heads that are trained with the encoders and saved with the model, as `model.heads[name]`.

        Args:
            config: the config of the run.
            widths: width of each encoder's features, by modality; of its feature map, for those in `maps`.
        """
        return {}

    @staticmethod
    def view_groups(config: TrainConfig) -> tuple[ViewGroup, ...]:
        """The clips that it needs of a video beside those of the composition."""
        return ()

    @staticmethod
    def main_clips(config: TrainConfig) -> tuple[str, ...]:
        """The modalities whose main clips the loss needs the features of; the others' are encoded only if another
        objective needs them."""
        return tuple(modalities_of(config))

    def trained_at(self, step: int) -> bool:
        """Whether the loss is part of training step `step`."""
        return True

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The loss of a batch, a scalar, and figures for the log; with `detailed`, also the expensive ones."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step `step`, for example to update a teacher or a queue."""

    def labelling_due(self, step: int, done: int | None = None) -> bool:
        """Whether a pass over the data is due before training step `step`, after `done` passes (default: those so far).

        Passes are for labels or prototypes, and each objective counts its own.
        """
        return False

    def labellings(self) -> int:
        """The number of labelling passes done so far."""
        return 0

    def labelling_requests(self, done: int) -> Iterator[Sequence[Request]]:
        """The batches of labelling pass `done`, in order. They are fixed in advance, so that decoding never waits."""
        yield from ()

    @staticmethod
    def further_passes(config: TrainConfig, steps: int, steps_per_epoch: float) -> int:
        """The number of passes over the data in a run of `steps`, beside those that label, for `avssl plan`."""
        return 0

    def relabel(self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Progress) -> PassReport:
        """Give all videos new labels, or find new prototypes, from passes over the data.

        Args:
            batches: the batches of `labelling_requests`.
            stop: called between batches, equally often by all processes.
            progress: called after each part of the work.

        Raises:
            Interrupted: `stop` returned True.
        """
        raise NotImplementedError

    def shared_state(self) -> dict[str, Any]:
        """The part of a checkpoint that is the same in all processes."""
        return {}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        """Load `shared_state` from a checkpoint that may contain more."""

    def rank_state(self) -> dict[str, torch.Tensor]:
        """The part of a checkpoint that belongs to this process's `rank_slice` of the videos: tables [n, …]."""
        return {}

    def load_rank_state(self, tables: dict[str, torch.Tensor]) -> None:
        """Load `rank_state`, for this process's rows."""
