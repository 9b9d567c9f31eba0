"""Distillation as an objective: each view predicts the prototypes of the other views (SwAV, DINO)."""

from typing import Any

import torch
from torch import nn

from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.keys import are_unit
from ..core.collectives import (
    batch_sizes,
    gather,
    max_over_processes,
    rank_slice,
    sum_over_processes,
    world_size,
)
from ..core.transfer import to_device
from ..models.build import modalities_of
from ..models.prototypes import PrototypeHead, prototype_heads
from ..selflabel.embedding_queue import EmbeddingQueue
from ..selflabel.swapped import swapped_loss
from ..selflabel.targets import ALTERNATIONS, balanced, centred, next_centre, warmed_up
from .objective import Context, EncodedBatch, LoggedFigures, Objective


class Distillation(Objective):
    """SwAV (Caron et al. 2020) and DINO (Caron et al. 2021) on both modalities.

    The views of a video are its main clips in each modality, which give targets, and its small views, which do not.
    Every view predicts the targets of all other views, so each modality predicts the other. Clips that differ along a
    distinct axis are left out: another objective pushes them apart.
    """

    name = "distillation"

    def __init__(self, context: Context, composition: Composition | None = None):
        super().__init__(context)
        assert composition is not None  # `make_composition` returns one for every run with distillation
        self.options, self.composition = self.config.distillation, composition
        self.modalities = modalities_of(self.config)
        steps_per_epoch = context.videos / (context.batch * self.config.optim.accumulate)
        self.frozen_until = self.options.freeze_epochs * steps_per_epoch
        self.centre = torch.zeros(self.options.prototypes, device=self.device)
        views = len(self.modalities) * self.composition.alike
        self.queue = EmbeddingQueue(views, self.options.queue, self.options.width, self.device)

    @staticmethod
    def own_heads(config: TrainConfig, widths: dict[str, int]) -> dict[str, nn.Module]:
        options = config.distillation
        return {
            **prototype_heads(
                widths, config.model.hidden, options.width, options.prototypes, options.layers, options.temperature
            )
        }

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """The cross-entropy of each view to the targets of the other views (SwAV Eq. 6, DINO Eq. 3)."""
        count = len(batch.index)
        sizes = batch_sizes(self.context.batch, count)
        main, small = {}, []
        for name in self.modalities:
            parts = [self.composition.take_alike(batch.features[name], count)]
            if name in batch.small:
                parts.append(batch.small[name].unflatten(0, (count, -1)))
            views = _embed(self._head(name), torch.cat(parts, 1))
            main[name] = views[: parts[0].shape[1]]
            small.append(views[parts[0].shape[1] :])
        given = torch.cat([*main.values()])
        learn = batch.step >= self.frozen_until
        logits = self._head().scores(torch.cat([given, *small]), learn) / self.options.temperature
        targets = self._targets(given.detach(), batch, sizes)
        loss = swapped_loss(targets, logits) * (count * world_size() / sum(sizes))
        logged: LoggedFigures = {"loss": loss}
        if detailed:
            logged |= self._figures(targets, logits)
        return loss, logged

    def shared_state(self) -> dict[str, Any]:
        queue = {"queue": self.queue.rows, "queued": self.queue.count} if self.queue.size else {}
        return {"distillation": {"centre": self.centre} | queue}

    def load_shared_state(self, state: dict[str, Any]) -> None:
        saved = state["distillation"]
        self.centre = _checked(saved["centre"], self.centre, "centre")
        if self.queue.size:
            self.queue.rows = _checked(saved["queue"], self.queue.rows, "queue")
            if type(saved["queued"]) is not int or not 0 <= saved["queued"] <= self.queue.size:
                raise ValueError(f"distillation: queued is not from 0 to {self.queue.size}")
            self.queue.count = saved["queued"]

    def _head(self, modality: str = "", teacher: bool = False) -> PrototypeHead:
        """A modality's head, or the first: all have the same prototypes."""
        assert not teacher or self.context.teacher is not None
        model = self.context.teacher.model if teacher and self.context.teacher else self.model
        head = model.heads[self.name][modality or self.modalities[0]]  # type: ignore[index]
        assert isinstance(head, PrototypeHead)
        return head

    @torch.no_grad()
    def _targets(self, own: torch.Tensor, batch: EncodedBatch, sizes: list[int]) -> torch.Tensor:
        """The targets of the main clips, float32 [T, B, K], from the teacher's embeddings or the model's `own`."""
        options, with_teacher = self.options, self.options.teacher
        if with_teacher:
            own = self._teacher_embeddings(batch)
        head = self._head(teacher=with_teacher)
        scores = head.scores(own)
        last, first = options.target_temperature, options.first_target_temperature
        end = options.warmup * self.context.steps
        temperature = last if first is None else warmed_up(batch.step, end, first, last)
        if options.target == "centring":
            targets = centred(scores, self.centre, temperature)
            rows = len(scores) * sum(sizes)
            mean = sum_over_processes(scores.sum((0, 1))) / rows
            self.centre = next_centre(self.centre, mean, options.centre_momentum)
            return targets
        past = self.queue.full_rows()
        mine = rank_slice(past.shape[1])
        past = past[:, mine.start : mine.stop]
        together = torch.cat([head.scores(past), scores], 1)
        codes = balanced(
            together, temperature, ALTERNATIONS[options.target], sum_over_processes, max_over_processes
        )[:, past.shape[1] :]  # fmt: skip
        if self.queue.size:
            self.queue.write(gather(own.transpose(0, 1).contiguous(), sizes).transpose(0, 1))
        return codes

    def _teacher_embeddings(self, batch: EncodedBatch) -> torch.Tensor:
        """The teacher's embeddings of the main clips, float32 [T, B, D]."""
        count = len(batch.index)
        views = [
            _embed(self._head(name, teacher=True), self.composition.take_alike(batch.teacher[name], count))
            for name in self.modalities
        ]
        return torch.cat(views)

    @torch.no_grad()
    def _figures(self, targets: torch.Tensor, logits: torch.Tensor) -> LoggedFigures:
        """How sharp the targets are, how many prototypes they use, and how often modalities have the same one."""
        used = targets.mean((0, 1))
        figures: LoggedFigures = {
            "target_entropy": torch.special.entr(targets).sum(-1).mean(),
            "prototypes_used": torch.special.entr(used).sum().exp(),
        }
        if len(self.modalities) > 1:
            best, clips = logits[: len(targets)].argmax(-1), self.composition.alike
            figures["agreement"] = (best[0] == best[clips]).float().mean()
        return figures


def _embed(head: PrototypeHead, features: torch.Tensor) -> torch.Tensor:
    """Features [B, V, D] → embeddings [V, B, P], in one pass, so that a norm sees all views."""
    return head.embed(features.flatten(0, 1)).unflatten(0, features.shape[:2]).transpose(0, 1)


def _checked(value: Any, like: torch.Tensor, name: str) -> torch.Tensor:
    """A tensor of a checkpoint, of unit vectors or their mean cosines, on the device of `like`. Raises ValueError
    unless it has that shape and such values."""
    if not isinstance(value, torch.Tensor) or value.dtype != like.dtype or value.shape != like.shape:
        raise ValueError(f"distillation: {name} does not have the shape {list(like.shape)}")
    if not are_unit(value):
        raise ValueError(f"distillation: {name} has values that are NaN, or outside -1 to 1")
    return to_device(value, like.device)
