"""Measure a batch, the forward pass of a labelling pass, and a checkpoint, for the configured model."""

import os
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import ceil
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch

from ..clips.augment import draw
from ..clips.dataset import MODALITIES, Batch, Item, collate
from ..clips.decode import ClipSpec
from ..clips.transform import DeviceTransform
from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.view_plan import ViewPlan
from ..core.device import autocast
from ..core.errors import UserError
from ..models import MultiStream
from ..models.build import modalities_of
from ..models.multi_stream import ByModality
from ..objectives.build import make_plan
from ..objectives.labelling import LABEL_BATCH, Labelling
from ..objectives.objective import Context, Objective
from ..objectives.teacher import Teacher
from ..selflabel.labeller import BLOCK, evidence
from ..selflabel.labelling_steps import first_step
from ..train.new_model import compile_encoders, new_model
from ..train.optimizers import make_optimizer
from ..train.weighted_loss import WeightedLoss
from .estimate import FLOAT
from .timing import seconds, synchronise

MAX_SECONDS = 15.0
"""Longest batch that is measured as it is, s; a longer one is measured smaller and scaled up."""

ENCODED = 8
"""Clips encoded at a time to measure the extraction of features."""

SCHEDULE = 1000
"""Steps into which a run is divided to find its parts."""

MAX_ELEMENTS = 4_000_000
"""Largest measured evidence, rows x clusters."""

MAX_VIDEOS = 131_072
"""Most videos that the measured objectives have."""


@dataclass
class StepCosts:
    """Costs of a training step, see `estimate.Costs`: the mean over the parts of a run, weighted by their steps. `size`
    is the number of videos in the smallest measured batch, before scaling."""

    batch: float
    update: float
    forward: float
    transform: float
    """Augmentation and spectrograms of a batch, s; part of `batch`."""
    size: int
    gradients: int
    state: int
    features: int
    """Floats per video: the sum of the encoders' widths."""
    memory: float
    """Peak memory of a step, bytes. On a GPU it is measured; elsewhere it is estimated as model, gradients, optimiser
    and the tensors that the forward pass saves for the backward pass, in this machine's precision."""
    encode: float = 0.0
    """Transform and encoders of a clip whose features are stored, s; not part of any step."""
    teacher: int = 0
    """The slow copy of the model, bytes; part of `state`."""
    stored: dict[str, int] = field(default_factory=dict)
    """What objectives keep from step to step in every process, such as a queue, bytes by objective; part of `state`."""
    per_video: dict[str, float] = field(default_factory=dict)
    """What objectives keep of every video, such as a bank, bytes per video by objective. Labels are not counted."""


@dataclass
class PartCosts:
    """Costs of a step in one part of a run, as in `StepCosts`; `video` is the time per video of a batch, s."""

    video: float
    update: float
    size: int
    gradients: int
    memory: float


def parts_of(config: TrainConfig) -> dict[int, float]:
    """The parts of a run that train the same objectives and encoders: the first of their `SCHEDULE` steps, and their
    fraction of the steps."""
    bounds = {0, ceil(config.optim.encoder_start * SCHEDULE)}
    if len(config.objectives) > 1:
        bounds |= {first_step(config.labelling, SCHEDULE)} if "labelling" in config.objectives else set()
        bounds |= {round(config.contrast.end * SCHEDULE)} if "contrast" in config.objectives else set()
    steps = sorted({*(step for step in bounds if step < SCHEDULE), SCHEDULE})
    return {step: (end - step) / SCHEDULE for step, end in pairwise(steps)}


def random_batch(config: TrainConfig, plan: Composition | ViewPlan | None, videos: int) -> Batch:
    """A batch of noise, with the shapes of a decoded training batch."""
    clip, modalities, rng = config.clip, modalities_of(config), np.random.default_rng(0)
    spec = ClipSpec.of(clip)
    items = []
    for index in range(videos):
        values, count = {}, 1
        if plan is not None:
            views = plan.sample(rng, 2 * plan.required_seconds(spec.seconds), spec.seconds)
            values, count = views.values, (len(views.requests) - plan.further) * plan.copies + plan.further
        decoded: dict[str, np.ndarray] = {
            "video": rng.integers(0, 256, (count, spec.frames, clip.crop, clip.crop, 3), dtype=np.uint8),
            "audio": rng.standard_normal((count, spec.samples), dtype=np.float32),
        }
        clips = {name: MODALITIES[name].make(decoded[MODALITIES[name].stream]) for name in modalities}
        items.append(Item(index, clips, draw(rng, count), [], values))
    return collate(items)


class Bench:
    """The configured model on `device`, with its optimiser, and objectives over a few videos."""

    def __init__(self, config: TrainConfig, device: torch.device, videos: int = 0):
        # mode=batch would solve within a step, but the solver is measured separately
        self.config = replace(config, labelling=replace(config.labelling, mode="offline", memory="full", soft=0.0))
        self.device, self.plan = device, make_plan(config)
        self.model: MultiStream = new_model(config, device)
        self.kept, self.parts = self.model.frozen, parts_of(config)
        self.optimizer = make_optimizer(self.model, config.optim)
        self.stored = bool(config.data.features)
        # a queue or a bank is as long as the run's, as far as that can be held here
        videos = max(config.optim.batch, config.labelling.clusters, min(videos, MAX_VIDEOS))
        self.transform = DeviceTransform(config.clip, device)
        teacher = self.teacher = Teacher(self.model, config.teacher, SCHEDULE) if config.has_teacher else None
        context = Context(
            self.config, self.model, device, self.transform, videos, SCHEDULE, config.optim.batch, teacher=teacher
        )
        self.loss = WeightedLoss(context, self.plan)
        if config.compile:
            compile_encoders(self.model, self.loss.maps)

    def step_costs(self) -> StepCosts:
        """Measure training steps and the forward pass of a labelling pass. Raises UserError if GPU memory is too
        small."""
        try:
            return self._step_costs()
        except torch.OutOfMemoryError:
            batch = self.config.optim.batch
            raise UserError(f"optim.batch={batch} needs more memory than is free on {self.device}: lower it") from None

    def _step_costs(self) -> StepCosts:
        batch_size, modalities = self.config.optim.batch, modalities_of(self.config)
        small = self._batch(min(2, batch_size))
        parts = [(share, self._part(step, small)) for step, share in self.parts.items()]
        transform = encode = 0.0
        if self.stored:
            encode = self._encode()
        else:
            transform = seconds(lambda: self.transform(small, modalities), self.device, 1.0) / len(small.index)
        return StepCosts(
            batch=batch_size * sum(share * part.video for share, part in parts),
            update=sum(share * part.update for share, part in parts),
            forward=self._forward(max(part.video for _, part in parts)),
            transform=transform * batch_size, size=min(part.size for _, part in parts),
            gradients=round(sum(share * part.gradients for share, part in parts)),
            state=tensor_bytes([self.model.state_dict(), self.optimizer.state_dict()]) + self._kept(),
            features=sum(self.model.widths.values()), memory=max(part.memory for _, part in parts), encode=encode,
            teacher=self._teacher_bytes(), stored=self._stored(), per_video=self._per_video(),
        )  # fmt: skip

    def _others(self) -> list[Objective]:
        """The objectives whose state is not estimated from the options."""
        return [objective for _, objective in self.loss.objectives if not isinstance(objective, Labelling)]

    def _teacher_bytes(self) -> int:
        return 0 if self.teacher is None else tensor_bytes(self.teacher.state_dict())

    def _stored(self) -> dict[str, int]:
        sizes = {objective.name: tensor_bytes(objective.shared_state()) for objective in self._others()}
        return {name: size for name, size in sizes.items() if size}

    def _per_video(self) -> dict[str, float]:
        videos = self.loss.context.videos
        sizes = {objective.name: tensor_bytes(objective.rank_state()) / videos for objective in self._others()}
        return {name: size for name, size in sizes.items() if size}

    def _kept(self) -> int:
        """The bytes that every process keeps from step to step, beside the model and the optimiser."""
        return self._teacher_bytes() + sum(self._stored().values())

    def _part(self, step: int, small: Batch) -> PartCosts:
        """Measure a step of the part of the run that begins with `step`. `small`: with one or two videos."""
        batch_size, small_size = self.config.optim.batch, len(small.index)
        budget, cuda = MAX_SECONDS / len(self.parts), self.device.type == "cuda"
        self.begin_part(step)
        memory = self._memory(small, batch_size)
        began = time.perf_counter()
        self.backward(small)
        synchronise(self.device)
        elapsed = time.perf_counter() - began
        size = batch_size if elapsed * batch_size / small_size < budget else min(2 * small_size, batch_size)
        timed = self._batch(size)
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        video = seconds(lambda: self.backward(timed), self.device, budget / 2) / size
        update = seconds(self.update, self.device, 1.0 / len(self.parts))
        if cuda:
            memory = torch.cuda.max_memory_allocated(self.device)
        gradients = FLOAT * sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return PartCosts(video, update, size, gradients, memory)

    def _batch(self, videos: int) -> Batch:
        """A training batch of noise: decoded clips, or as many stored features."""
        batch = random_batch(self.config, self.plan, 1 if self.stored else videos)
        pinned = self.device.type == "cuda"  # as a run's batches are
        if not self.stored:
            return batch.pin_memory() if pinned else batch
        clips = 1 if self.plan is None else len(next(iter(batch.clips.values())))
        features = {name: torch.randn(videos * clips, width) for name, width in self.model.encoder_widths.items()}
        values = {name: torch.cat([x] * videos) for name, x in batch.values.items()}
        stored = Batch(torch.arange(videos), {}, None, [], values, features=features)
        return stored.pin_memory() if pinned else stored

    def begin_part(self, step: int) -> None:
        """From now on, train what a run trains in one of its `SCHEDULE` steps."""
        self.loss.step = step
        frozen = step < ceil(self.config.optim.encoder_start * SCHEDULE)
        self.model.freeze({*self.model.encoders} if frozen else self.kept)

    def backward(self, batch: Batch) -> None:
        """Compute the gradients of a batch, and what the objectives do once its step is over."""
        self.model.train()
        if not self.loss.encoders_learn(self.loss.step):
            for encoder in self.model.encoders.values():
                encoder.eval()
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self.loss(batch, detailed=False)
        loss.backward()
        for _, objective in self.loss.objectives:
            objective.after_step(self.loss.step)

    def update(self) -> None:
        """Take the optimiser's step, and the teacher's."""
        self.optimizer.step()
        if self.teacher is not None:
            self.teacher.update(self.loss.step)

    def _memory(self, batch: Batch, videos: int) -> float:
        """The memory of a step with this many videos, bytes, scaled from the tensors that a small batch saves for the
        backward pass. As the first step, it is also the warm-up."""
        saved: dict[int, int] = {}
        parameters = {p.untyped_storage().data_ptr() for p in self.model.parameters()}

        def count(x: torch.Tensor) -> torch.Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in parameters:
                saved[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            self.backward(batch)
        self.update()
        fixed = tensor_bytes(
            [self.model.state_dict(), self.optimizer.state_dict(), [p.grad for p in self.model.parameters()]]
        )
        rows = sum(self._per_video().values()) * self.loss.context.videos
        return fixed + self._kept() + rows + sum(saved.values()) * videos / len(batch.index)

    @torch.no_grad()
    def _forward(self, step: float) -> float:
        """Seconds per video in a labelling pass, if a training step takes `step` seconds per video."""
        size = LABEL_BATCH if step * LABEL_BATCH < MAX_SECONDS / 2 else min(4, self.config.optim.batch)
        plain = random_batch(self.config, None, 1 if self.stored else size)
        stored = {name: torch.randn(size, width).to(self.device) for name, width in self.model.encoder_widths.items()}
        self.model.eval()

        def work() -> None:
            with autocast(self.device, self.config.precision):
                features = self.model.adapt(stored if self.stored else self._through_encoders(plain))
            for x in features.values():
                x.float().cpu()

        return seconds(work, self.device, MAX_SECONDS / 2, max_runs=5) / size

    def _through_encoders(self, batch: Batch) -> ByModality:
        return self.model.encode_raw(self.transform(batch, modalities_of(self.config)))

    @torch.no_grad()
    def _encode(self) -> float:
        """Seconds per clip whose features are stored."""
        batch = random_batch(self.config, None, ENCODED)
        self.model.eval()

        def work() -> None:
            with autocast(self.device, self.config.precision):
                features = self._through_encoders(batch)
            for x in features.values():
                x.float().cpu()

        return seconds(work, self.device, MAX_SECONDS / 2, max_runs=5) / ENCODED

    @torch.no_grad()
    def evidence_seconds(self) -> float:
        """Seconds for a head's evidence of one video, from its features."""
        rows = max(256, min(BLOCK, MAX_ELEMENTS // self.config.labelling.clusters))
        features = {name: torch.randn(rows, width) for name, width in self.model.widths.items()}
        self.model.eval()

        def work() -> None:
            evidence(self.model.cluster_by(0, {name: x.to(self.device) for name, x in features.items()}))

        return seconds(work, self.device, 1.0) / rows

    def checkpoint_seconds(self, folder: str) -> float | None:
        """Seconds per byte to write a checkpoint to the disk of `folder`; None if it cannot be written to."""
        if not folder:
            return None
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        try:
            with NamedTemporaryFile(dir=folder, prefix=".avssl_plan_") as file:
                began = time.perf_counter()
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
                return (time.perf_counter() - began) / max(1, file.tell())
        except OSError:
            return None


def tensor_bytes(tree: Any) -> int:
    """The bytes of all tensors in nested dicts and lists."""
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        tree = list(tree.values())
    return sum(tensor_bytes(branch) for branch in tree) if isinstance(tree, list | tuple) else 0
