"""What a batch, a labelling's forward pass and a checkpoint cost on this machine, for the model as configured."""

import os
import time
from dataclasses import dataclass, replace
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch

from ..clips.augment import DRAWS
from ..clips.dataset import Batch, Item, collate
from ..clips.decode import ClipSpec
from ..clips.transform import DeviceTransform
from ..config import TrainConfig
from ..contrast.composition import Composition
from ..core.device import autocast
from ..core.errors import UserError
from ..models import MultiStream
from ..models.build import modalities_of
from ..objectives.build import make_composition
from ..objectives.labelling import LABEL_BATCH
from ..objectives.objective import Context
from ..selflabel.labeller import BLOCK, evidence
from ..train.optimizers import make_optimizer
from ..train.run_state import WeightedLoss, new_model
from .estimate import FLOAT
from .timing import seconds, synchronise

PATIENCE = 15.0
"""Seconds of steps that are worth timing; a batch that takes longer is measured smaller, and scaled up."""
ELEMENTS = 4_000_000
"""Rows x clusters of the evidence that is timed, at most."""


@dataclass
class StepCosts:
    """Seconds of a batch, and bytes; see `estimate.Costs`. `size`: videos in the batch that was timed, and scaled."""

    batch: float
    update: float
    forward: float
    transform: float
    """s of the batch's time that augmentation and spectrograms take."""
    size: int
    gradients: int
    state: int
    features: int
    """Floats of a video: the widths of the encoders."""
    memory: float
    """Peak on the device in a step, bytes: measured on a GPU; else, roughly, model, gradients, optimiser and what the
    forward pass keeps for the backward pass, in this machine's precision."""


def random_batch(config: TrainConfig, composition: Composition | None, videos: int) -> Batch:
    """A batch as the training's decoding gives it, of noise."""
    clip, modalities, rng = config.clip, modalities_of(config), np.random.default_rng(0)
    spec = ClipSpec.of(clip)
    items = []
    for index in range(videos):
        values, count = {}, 1
        if composition is not None:
            views = composition.sample(rng, 2 * composition.required_seconds(spec.seconds), spec.seconds)
            values, count = views.values, len(views.requests) * composition.copies
        clips: dict[str, np.ndarray] = {
            "video": rng.integers(0, 256, (count, spec.frames, clip.crop, clip.crop, 3), dtype=np.uint8),
            "audio": rng.standard_normal((count, spec.samples), dtype=np.float32),
        }
        clips = {name: clips[name] for name in modalities}
        items.append(Item(index, clips, rng.random((count, DRAWS)), [], values))
    return collate(items)


class Bench:
    """The model as configured on `device`, with its optimiser and a task over a few videos."""

    def __init__(self, config: TrainConfig, device: torch.device):
        # what mode=batch solves within a step is counted with the solver
        self.config = replace(config, labelling=replace(config.labelling, mode="offline", memory="full"))
        self.device, self.composition = device, make_composition(config)
        self.model: MultiStream = new_model(config, device)
        if config.compile:
            for encoder in self.model.encoders.values():
                encoder.compile()
        self.optimizer = make_optimizer(self.model, config.optim)
        few = max(config.optim.batch, config.labelling.clusters)
        self.transform = DeviceTransform(config.clip, device)
        context = Context(self.config, self.model, device, self.transform, few, 1, config.optim.batch)
        self.loss = WeightedLoss(context, self.composition)

    def step_costs(self) -> StepCosts:
        """Time training steps, and the forward pass of a labelling. UserError where the GPU has too little memory."""
        try:
            return self._step_costs()
        except torch.OutOfMemoryError:
            batch = self.config.optim.batch
            raise UserError(f"optim.batch={batch} needs more memory than {self.device} has free: lower it") from None

    def _step_costs(self) -> StepCosts:
        wanted, modalities, cuda = self.config.optim.batch, modalities_of(self.config), self.device.type == "cuda"
        tried = min(2, wanted)
        small = random_batch(self.config, self.composition, tried)
        memory = self._kept(small, wanted)
        begun = time.perf_counter()
        self._backward(small)
        synchronise(self.device)
        once = time.perf_counter() - begun
        size = wanted if once * wanted / tried < PATIENCE else min(2 * tried, wanted)
        timed = random_batch(self.config, self.composition, size)
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        batch = seconds(lambda: self._backward(timed), self.device, PATIENCE / 2) / size
        update = seconds(self.optimizer.step, self.device, 1.0)
        if cuda:
            memory = torch.cuda.max_memory_allocated(self.device)
        transform = seconds(lambda: self.transform(small, modalities), self.device, 1.0) / tried
        return StepCosts(
            batch=batch * wanted, update=update, forward=self._forward(batch),
            transform=transform * wanted, size=size,
            gradients=FLOAT * sum(p.numel() for p in self.model.parameters()),
            state=tensor_bytes([self.model.state_dict(), self.optimizer.state_dict()]),
            features=sum(self.model.widths.values()), memory=memory,
        )  # fmt: skip

    def _backward(self, batch: Batch) -> None:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self.loss(batch, detailed=False)
        loss.backward()

    def _kept(self, batch: Batch, wanted: int) -> float:
        """Bytes of a step of `wanted` videos, from what one of a small batch keeps; the first, so also the warm-up."""
        kept: dict[int, int] = {}
        own = {p.untyped_storage().data_ptr() for p in self.model.parameters()}

        def keep(x: torch.Tensor) -> torch.Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            self._backward(batch)
        self.optimizer.step()
        fixed = tensor_bytes(
            [self.model.state_dict(), self.optimizer.state_dict(), [p.grad for p in self.model.parameters()]]
        )
        return fixed + sum(kept.values()) * wanted / len(batch.index)

    @torch.no_grad()
    def _forward(self, step: float) -> float:
        """Seconds of one video in a labelling pass, when a training step takes `step` for each."""
        size = LABEL_BATCH if step * LABEL_BATCH < PATIENCE / 2 else min(4, self.config.optim.batch)
        plain, modalities = random_batch(self.config, None, size), modalities_of(self.config)
        self.model.eval()

        def work() -> None:
            with autocast(self.device, self.config.precision):
                found = self.model.encode(self.transform(plain, modalities))
            for x in found.values():
                x.float().cpu()

        return seconds(work, self.device, PATIENCE / 2, most=5) / size

    @torch.no_grad()
    def evidence_seconds(self) -> float:
        """Of one video: a head's evidence from the features."""
        rows = max(256, min(BLOCK, ELEMENTS // self.config.labelling.clusters))
        features = {name: torch.randn(rows, width) for name, width in self.model.widths.items()}
        self.model.eval()

        def work() -> None:
            evidence(self.model.cluster_by(0, {name: x.to(self.device) for name, x in features.items()}))

        return seconds(work, self.device, 1.0) / rows

    def checkpoint_seconds(self, folder: str) -> float | None:
        """Seconds of a byte of a checkpoint, written to the disk of `folder`; None where that cannot be written to."""
        if not folder:
            return None
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        try:
            with NamedTemporaryFile(dir=folder, prefix=".avssl_plan_") as file:
                begun = time.perf_counter()
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
                return (time.perf_counter() - begun) / max(1, file.tell())
        except OSError:
            return None


def tensor_bytes(tree: Any) -> int:
    """Of all tensors in dicts and lists."""
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        tree = list(tree.values())
    return sum(tensor_bytes(part) for part in tree) if isinstance(tree, list | tuple) else 0
