"""What a task is to the training loop: which clips it wants when, how it labels, and its loss."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..clips.dataset import Batch, Failure, Request
from ..clips.loader import train_requests
from ..clips.transform import DeviceTransform
from ..config import TrainConfig
from ..contrast.composition import Composition
from ..core.collectives import rank_slice, world_size
from ..core.progress import Progress, silent
from ..models import TwoStream, build_two_stream
from ..selflabel.labeller import LabellingReport

Figures = dict[str, torch.Tensor | float]
"""What a step tells the log."""


class Interrupted(Exception):
    """A labelling that has been given up: nothing of it counts."""


def build_model(config: TrainConfig) -> TwoStream:
    """The encoders with what `config.task` puts on them."""
    labelling, contrast = config.labelling, config.contrast
    clusters = 0 if config.task == "gdt" else labelling.clusters
    projection = 0 if config.task == "selavi" else contrast.projection
    return build_two_stream(
        config.model, clusters, labelling.heads, labelling.sharing, projection, modalities_of(config)
    )


def modalities_of(config: TrainConfig) -> list[str]:
    """The modalities that are encoded, "video" first."""
    chosen = config.contrast.modalities if config.task == "gdt" else config.labelling.modalities
    return [name for name in ("video", "audio") if name in chosen]


def make_composition(config: TrainConfig) -> Composition | None:
    """The composition of the training clips; None for a task without contrast. UserError for one that cannot be."""
    return None if config.task == "selavi" else Composition.from_config(config.contrast)


class Task:
    """A task without labels, which wants batch after batch: `videos` of them in the data, `total` training steps.

    Each of `optim.accumulate` batches of a step holds `batch` videos, of which this process takes its share; by default
    as many as make `optim.batch` for each.
    """

    def __init__(
        self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device, batch: int = 0
    ):
        self.model, self.config, self.videos, self.total, self.device = model, config, videos, total, device
        self.transform = DeviceTransform(config.clip, device)
        self.failures: dict[str, str] = {}
        self.batch = batch or config.optim.batch * world_size()
        self.part = rank_slice(self.batch)

    def requests(self, start: int) -> Iterator[list[Request]]:
        """Every batch that the run will take from step `start` on, in order; known in advance, so that the decoding
        workers never wait."""
        for step in range(start, self.total):
            yield from self.step_requests(step)

    def step_requests(self, step: int) -> Iterator[list[Request]]:
        """This process's part of the batches of a training step."""
        accumulate = self.config.optim.accumulate
        for number in range(step * accumulate, (step + 1) * accumulate):
            yield train_requests(self.videos, self.batch, self.config.seed, number, self.part)

    def due(self, step: int) -> bool:
        """Is a labelling due before training step `step`?"""
        return False

    def label(
        self, batches: Iterator[Batch], stop: Callable[[], bool] = lambda: False, progress: Progress = silent
    ) -> LabellingReport:
        """New labels for all videos, from passes over them. Raises Interrupted as soon as `stop`, called again and
        again by all processes alike, is true. `progress` is called with each part of the work."""
        raise NotImplementedError

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        """The loss of a batch, and figures for the log: with `detailed` the dear ones too."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint and is the same in all processes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def row_state(self) -> dict[str, torch.Tensor]:
        """What goes into a checkpoint of the videos `share(videos)`, whose state this process holds: tables [n, …]."""
        return {}

    def load_row_state(self, tables: dict[str, torch.Tensor]) -> None:
        """The same, of this process's videos."""

    def _note(self, failures: list[Failure]) -> None:
        self.failures.update({f.path: f.reason for f in failures})
