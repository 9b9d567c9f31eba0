"""What an objective is to the trainer: its term of the loss, its labels, what it does after a step, and its state
(spec §10)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..clips.dataset import Batch, Request
from ..clips.transform import DeviceTransform
from ..config import TrainConfig
from ..core.progress import Progress
from ..models import MultiStream
from ..models.multi_stream import ByModality
from ..selflabel.labeller import LabellingReport

LoggedFigures = dict[str, torch.Tensor | float]
"""What a step writes to the log, by name."""


class Interrupted(Exception):
    """A labelling pass was given up: nothing of it counts."""


@dataclass
class Context:
    """What every objective of a run works with. `batch`: videos of a batch, over all processes."""

    config: TrainConfig
    model: MultiStream
    device: torch.device
    transform: DeviceTransform
    videos: int
    """In the training data."""
    steps: int
    """Training steps of the whole run."""
    batch: int
    note_failures: Callable[[Batch], None] = lambda batch: None
    """Called with every batch: the videos that could not be decoded are reported when the run ends."""


class Objective:
    """A term of the loss. A subclass says what differs from these, which do nothing."""

    name: str

    def __init__(self, context: Context):
        self.context, self.config, self.model = context, context.config, context.model
        self.device = context.device

    def loss(self, features: ByModality, index: torch.Tensor, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The loss of a batch, a scalar, and figures for the log: with `detailed`, the expensive ones too.

        `features` float [B · clips, D] by modality, video by video, of the videos `index`, int64 [B].
        """
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step `step`: a teacher moves, a queue fills."""

    def labelling_due(self, step: int, done: int | None = None) -> bool:
        """Are labels due before training step `step`, when `done` labellings (default: as many as so far) have been?"""
        return False

    def labellings(self) -> int:
        """Labellings that have been done."""
        return 0

    def labelling_requests(self, done: int) -> Iterator[list[Request]]:
        """The batches that labelling `done` takes, in order: known in advance, so that decoding never waits."""
        yield from ()

    def relabel(self, batches: Iterator[Batch], stop: Callable[[], bool], progress: Progress) -> LabellingReport:
        """New labels for all videos, from passes over them. `progress` is called with each part of the work.

        Raises:
            Interrupted: as soon as `stop`, called again and again by all processes alike, is true.
        """
        raise NotImplementedError

    def shared_state(self) -> dict[str, Any]:
        """What a checkpoint keeps that is the same in all processes."""
        return {}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        """The same, of a checkpoint's shared part."""

    def rank_state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps of this process's `rank_slice` of the videos: tables [n, …]."""
        return {}

    def load_rank_state(self, tables: dict[str, torch.Tensor]) -> None:
        """The same, of this process's rows."""
