"""Predicted axes as an objective: a classifier names the level of a clip along an axis (spec §11)."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..config import TrainConfig
from ..contrast.axes import Axis
from ..contrast.composition import Composition, configured_axes
from ..contrast.predicted_views import AxisGroup, group_of
from ..contrast.view_plan import ViewGroup
from ..core.collectives import batch_sizes, world_size
from ..models.build import modalities_of
from .objective import Context, EncodedBatch, LoggedFigures, Objective


class Term(NamedTuple):
    """A predicted axis, its weight in the loss, and its clips."""

    axis: Axis
    weight: float
    group: AxisGroup

    @property
    def cross_modal(self) -> bool:
        """Whether a pair is the video of a clip and an audio, as for `sync`."""
        return self.axis.name == "sync"

    @property
    def main_clips(self) -> tuple[str, ...]:
        """The modalities of the first main clip that it classifies."""
        if self.cross_modal:
            return "video", "audio"
        return () if self.group.has_first else self.group.modalities

    @property
    def outputs(self) -> int:
        """The number of classes: the levels, or the levels beside level 0 of three or more if they are relative."""
        return self.axis.levels - (self.axis.relative and self.axis.levels > 2)


class Pairs(NamedTuple):
    """What a head classifies: rows float [n, D], their classes int64 [n], and rows per video."""

    x: torch.Tensor
    classes: torch.Tensor
    per_video: int


def terms(config: TrainConfig) -> list[Term]:
    """The predicted axes of a run.

    Raises:
        UserError: an axis cannot be predicted.
    """
    known, _ = configured_axes(config.contrast)
    own = dict(zip(config.contrast.custom_axes, known[len(known) - len(config.contrast.custom_axes) :], strict=True))
    by_name = {axis.name: axis for axis in known} | own
    modalities = modalities_of(config)
    return [
        Term(axis := by_name[name], weight, group_of(axis, modalities)) for name, weight in config.predicted.items()
    ]


def classifier(inputs: int, hidden: int, outputs: int, pair: bool) -> nn.Module:
    """The classifier of a level: a linear layer.

    For a pair it has two layers, because a linear layer scores both clips apart and adds the scores, so it cannot tell
    whether they fit together.
    """
    if not pair:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class Prediction(Objective):
    """The levels of all predicted axes: rotation (RotNet), direction of time, speed, place of a patch (Context
    Prediction), order of two clips (shuffle and learn), audio of another time (AVTS), and the user's own.

    An axis has a classifier for each encoded modality that it changes:

        loss = − log softmax(g(f))_level             the level of a clip f; for all levels of a video
        loss = − log softmax(g([f_0, f_l]))_l        relative axes: the pair of the clips at level 0 and l tells l

    If a relative axis has two levels, the pair is asked in both orders. The loss is the weighted sum over axes of the
    mean over modalities, each a mean over videos and clips.
    """

    name = "prediction"

    def __init__(self, context: Context, composition: Composition | None = None):
        super().__init__(context)
        self.terms = terms(self.config)

    @staticmethod
    def view_groups(config: TrainConfig) -> tuple[ViewGroup, ...]:
        return tuple(term.group for term in terms(config))

    @staticmethod
    def main_clips(config: TrainConfig) -> tuple[str, ...]:
        """Those of the axes whose level 0 is the first main clip."""
        used = {name for term in terms(config) for name in term.main_clips}
        return tuple(name for name in modalities_of(config) if name in used)

    @staticmethod
    def own_heads(config: TrainConfig, widths: dict[str, int]) -> dict[str, nn.Module]:
        heads: dict[str, nn.Module] = {}
        for term in terms(config):
            pair, hidden = term.axis.relative, config.model.hidden
            if term.cross_modal:
                heads[term.axis.name] = classifier(widths["video"] + widths["audio"], hidden, term.outputs, pair)
                continue
            for name in term.group.modalities:
                heads[f"{term.axis.name}_{name}"] = classifier(widths[name] * (1 + pair), hidden, term.outputs, pair)
        return heads

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        videos = sum(batch_sizes(self.context.batch, len(batch.index)))
        heads: nn.ModuleDict = self.model.heads[self.name]  # type: ignore[assignment]
        total, logged = [], {}
        for term in self.terms:
            losses = []
            for key, asked in self._asked(term, batch).items():
                z = heads[key](asked.x).float()
                # of the videos of all processes: the mean over processes is then the mean over all videos
                count = videos * asked.per_video / world_size()
                losses.append(F.cross_entropy(z, asked.classes, reduction="sum") / count)
                axis, modality = term.axis.name, key.removeprefix(term.axis.name)
                logged[f"{axis}_loss{modality}"] = losses[-1].detach()
                logged[f"{axis}_accuracy{modality}"] = (z.detach().argmax(1) == asked.classes).float().mean()
            total.append(term.weight * torch.stack(losses).mean())
        loss = torch.stack(total).sum()
        return loss, {"loss": loss, **logged}

    def _asked(self, term: Term, batch: EncodedBatch) -> dict[str, Pairs]:
        """What each head of an axis classifies, by the head's name."""
        videos, extra = len(batch.index), batch.extra[term.group.name]
        levels = term.group.levels(extra.values)
        if term.cross_modal:
            video, audio = (_by_video(batch.features[name], videos)[:, 0] for name in ("video", "audio"))
            other = _by_video(extra.features["audio"], videos)[:, 0]
            return {term.axis.name: pairs_of_two([video, audio], [video, other])}
        asked = {}
        for name in term.group.modalities:
            clips = _by_video(extra.features[name], videos)
            if not term.group.has_first:
                clips = torch.cat([_by_video(batch.features[name], videos)[:, :1], clips], 1)
            if term.axis.relative:
                found = pairs(clips, levels, both_orders=term.axis.levels == 2)
            else:
                found = single(clips, torch.cat([torch.zeros_like(levels[:, :1]), levels], 1))
            asked[f"{term.axis.name}_{name}"] = found
        return asked


def _by_video(x: torch.Tensor, videos: int) -> torch.Tensor:
    """[B · V, D] → [B, V, D]."""
    return x.unflatten(0, (videos, -1))


def single(clips: torch.Tensor, levels: torch.Tensor) -> Pairs:
    """Clips float [B, L, D] and their levels int64 [B, L], one by one."""
    return Pairs(clips.flatten(0, 1), levels.flatten(), clips.shape[1])


def pairs(clips: torch.Tensor, levels: torch.Tensor, both_orders: bool = False) -> Pairs:
    """The pairs [f_0, f_l] of each video.

    Args:
        clips: the clip at level 0, then n at other levels, float [B, 1 + n, D].
        levels: their levels, int64 [B, n]: from 1, or for `both_orders` 1 if they come after the first, else 0.
        both_orders: also show [f_l, f_0], which has the other class of two.
    """
    others = clips[:, 1:]
    first = clips[:, :1].expand_as(others)
    if not both_orders:
        return Pairs(torch.cat([first, others], 2).flatten(0, 1), levels.flatten() - 1, others.shape[1])
    x = torch.stack([torch.cat([first, others], 2), torch.cat([others, first], 2)], 2)
    return Pairs(x.flatten(0, 2), torch.stack([levels, 1 - levels], 2).flatten(), 2 * others.shape[1])


def pairs_of_two(same: list[torch.Tensor], other: list[torch.Tensor]) -> Pairs:
    """Two pairs of each video, of parts float [B, D] each: of class 1, whose parts belong together, and of class 0."""
    x = torch.stack([torch.cat(same, 1), torch.cat(other, 1)], 1)
    classes = 1 - torch.arange(2, device=x.device)
    return Pairs(x.flatten(0, 1), classes.repeat(len(x)), 2)
