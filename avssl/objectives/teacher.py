"""The teacher: a slow copy of the model, whose outputs are targets (MoCo, PCL, DINO)."""

import copy
import math
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..config.teacher import TeacherConfig
from ..models import MultiStream
from ..models.multi_stream import ByModality


def momentum(config: TeacherConfig, step: int, steps: int) -> float:
    """m of a step: from `momentum` at step 0 to `momentum_end` at step `steps` by a cosine (DINO)."""
    start, end = config.momentum, config.momentum_end
    return end - (end - start) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2


class Teacher:
    """θ_teacher ← m · θ_teacher + (1 − m) · θ_model after every optimiser step (He et al. 2020; Caron et al. 2021).

    It has no gradient and no dropout. Its batch norms use the statistics of the batch, of all processes, as the model's
    do in training. Frozen encoders are the model's own, because they never change.

    Args:
        model: the model that trains.
        config: the options of the momentum.
        steps: training steps of the run.
    """

    def __init__(self, model: MultiStream, config: TeacherConfig, steps: int):
        self.source, self.config, self.steps = model, config, steps
        frozen = [model.encoders[name] for name in model.frozen]
        self.model: MultiStream = copy.deepcopy(model, {id(encoder): encoder for encoder in frozen})
        own = {id(p) for encoder in frozen for p in encoder.parameters()}
        for parameter in self.model.parameters():
            if id(parameter) not in own:
                parameter.requires_grad_(False)
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        self.pairs = [(slow, fast) for slow, fast in pairs if slow is not fast]
        self.train()

    def train(self) -> None:
        """Let a norm use the statistics of the batch where the model's own does now, and nothing drop out."""
        for slow, fast in zip(self.model.modules(), self.source.modules(), strict=True):
            slow.training = fast.training and isinstance(slow, _BatchNorm)

    @torch.no_grad()
    def encode(self, clips: ByModality) -> ByModality:
        """Clips [B, …] by modality → the teacher's features [B, D]."""
        return self.model.encode(clips)

    @torch.no_grad()
    def adapt(self, features: ByModality) -> ByModality:
        """Stored features [B, dim] by modality → the teacher's features [B, D]."""
        return self.model.adapt(features)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the teacher after the optimiser's step `step`."""
        slow, fast = ([pair[i].detach() for pair in self.pairs] for i in (0, 1))
        torch._foreach_lerp_(slow, fast, 1 - momentum(self.config, step, self.steps))

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)
