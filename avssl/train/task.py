"""What a task is to the training loop: which clips it wants when, how it labels, and its loss."""

from collections.abc import Iterator
from typing import Any

import torch

from ..config import TrainConfig
from ..contrast.composition import Composition
from ..data.clips import Batch, Failure, Request
from ..data.loader import train_requests
from ..data.transform import DeviceTransform
from ..models import TwoStream, build_two_stream
from ..selflabel.labeller import Solved

Figures = dict[str, torch.Tensor | float]
"""What a step tells the log."""


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
    """A task without labels, which wants batch after batch: `videos` of them in the data, `total` training steps."""

    def __init__(self, model: TwoStream, config: TrainConfig, videos: int, total: int, device: torch.device):
        self.model, self.config, self.videos, self.total, self.device = model, config, videos, total, device
        self.transform = DeviceTransform(config.clip, device)
        self.failures: dict[str, str] = {}

    def requests(self, start: int) -> Iterator[list[Request]]:
        """Every batch that the run will take from step `start` on, in order; known in advance, so that the decoding
        workers never wait."""
        for step in range(start, self.total):
            yield train_requests(self.videos, self.config.optim.batch, self.config.seed, step)

    def due(self, step: int) -> bool:
        """Is a labelling due before training step `step`?"""
        return False

    def label(self, batches: Iterator[Batch]) -> Solved:
        """New labels for all videos, from one pass over them."""
        raise NotImplementedError

    def loss(self, batch: Batch, detailed: bool) -> tuple[torch.Tensor, Figures]:
        """The loss of a batch, and figures for the log: with `detailed` the dear ones too."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {"failures": self.failures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.failures = state["failures"]

    def _note(self, failures: list[Failure]) -> None:
        self.failures.update({f.path: f.reason for f in failures})
