"""Which clips a batch holds, and which pairs of them are compared (GDT §3)."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..core.errors import UserError
from .axes import AXES, Axis, ClipRequest, Crop, Reversal, Speed, TimeShift, check_long_enough

if TYPE_CHECKING:
    from ..config import ContrastConfig

PRESETS: dict[int, dict[str, str]] = {
    1: {},
    2: {"reversal": "distinct"},
    3: {"reversal": "invariant"},
    4: {"time_shift": "distinct"},
    5: {"time_shift": "invariant"},
    6: {"time_shift": "distinct", "reversal": "distinct"},
    7: {"time_shift": "distinct", "reversal": "invariant"},
    8: {"time_shift": "invariant", "reversal": "distinct"},
    9: {"time_shift": "invariant", "reversal": "invariant"},
}
"""The nine hypotheses of GDT (ICCV 2021); in each, sample is distinct and modality invariant."""

CHOICES = {
    "form": ("composed", "released"),
    "compare": ("cross_modal", "within_modal", "all"),
    "denominator": ("all", "without_positives"),
    "stop_gradient": ("none", "keys"),
}
ENCODED = ("video", "audio")
"""The modalities that there are encoders for; a composition may have others."""
RELEASED = ("time_shift", "reversal")
"""The axes, beside sample and modality, of GDT's nine hypotheses."""
ROLES = ("distinct", "invariant", "off")
STAGES = ("decode", "augment", "free")


class Views(NamedTuple):
    """One video's draws: the clips to decode, in order, and the values of the other axes, float [levels, k] each."""

    requests: list[ClipRequest]
    values: dict[str, np.ndarray]


class Plan(NamedTuple):
    """What a step costs: clips decoded and encoded per video, and clips encoded in the step."""

    decoded_per_video: int
    encoded_per_video: int
    encoded: int


@dataclass(frozen=True)
class Composition:
    """What a representation is to be distinct and invariant to.

    `axes` maps an axis' name to "distinct" or "invariant"; an axis that is not named (or "off") is not built.
    `compare`: "cross_modal", "within_modal" or "all" pairs. `denominator`: "all" compared pairs (GDT's), or
    "without_positives", all but the other positives. `stop_gradient`: "none", or "keys" as in the published code.
    `modalities` are encoded, in this order. `known`: the axes there are, yours among them. `form`: "composed", or
    "released", the terms that GDT's released code computes for its nine hypotheses (`avssl.contrast.released_loss`).

    With c(T, T') = 1 where the codes of all distinct axes agree, the positives of T are the compared T' with c = 1.

    Raises UserError for an unknown name or value, for an anchor without a positive, and for the released form of what
    is none of the nine hypotheses.
    """

    axes: Mapping[str, str]
    compare: str = "cross_modal"
    denominator: str = "all"
    stop_gradient: str = "none"
    modalities: tuple[str, ...] = ("video", "audio")
    known: tuple[Axis, ...] = AXES
    form: str = "composed"

    def __post_init__(self) -> None:
        for option, choices in CHOICES.items():
            _check_word(f"contrast.{option}", getattr(self, option), choices)
        by_name = {axis.name: axis for axis in self.known}
        for axis in self.known:
            _check_word(f"stage of the axis {axis.name}:", axis.stage, STAGES)
            if axis.levels < 1:
                raise UserError(f"the axis {axis.name} has {axis.levels} levels: give it 1 or more")
        for name, role in self.axes.items():
            _check_word("axis", name, by_name)
            _check_word(f"contrast.axes.{name}", role, ROLES)
            unchanged = [m for m in self.modalities if m not in by_name[name].changes]
            if role == "distinct" and unchanged:
                raise UserError(
                    f"contrast.axes.{name}=distinct: it leaves the {unchanged[0]} as it is, so that equal clips would "
                    f"repel; use {name}=invariant, or leave {unchanged[0]} out of contrast.modalities"
                )
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise UserError(f"contrast.modalities={list(self.modalities)}: name each modality once")
        if len(self.modalities) > 1 and not self.role("modality"):
            raise UserError(
                "contrast.axes.modality=off with more than one modality: make it invariant or distinct, or set "
                f"contrast.modalities=[{self.modalities[0]}]"
            )
        self._check_positives()
        if self.form == "released":
            self._check_hypothesis()

    def _check_hypothesis(self) -> None:
        """UserError for a composition that GDT's released code does not have."""
        wrong = [f"contrast.axes.{a.name}={self.role(a.name)}" for a in self.views if a.name not in RELEASED]
        for name, role in (("sample", "distinct"), ("modality", "invariant")):
            if self.role(name) != role:
                wrong.append(f"contrast.axes.{name}={self.axes.get(name, 'off')}")
        for option, value in (("compare", "cross_modal"), ("denominator", "all")):
            if getattr(self, option) != value:
                wrong.append(f"contrast.{option}={getattr(self, option)}")
        if set(self.modalities) != set(ENCODED):
            wrong.append(f"contrast.modalities=[{','.join(self.modalities)}]")
        wrong += [f"an axis {a.name} of {a.levels} levels" for a in self.views if a.name in RELEASED and a.levels != 2]
        if wrong:
            raise UserError(
                f"contrast.released=[loss] is for contrast=preset_1 to preset_9, and has no {wrong[0]}: choose a "
                f"preset, or take loss out of contrast.released"
            )

    def _check_positives(self) -> None:
        if self.compare == "cross_modal" and len(self.modalities) == 1:
            problem = f"only {self.modalities[0]} is encoded; set contrast.compare=within_modal"
        elif self.compare == "cross_modal" and self.role("modality") == "distinct":
            problem = "positives differ in modality; set contrast.axes.modality=invariant"
        else:
            attract = [a.name for a in self.views if self.role(a.name) == "invariant" and a.levels > 1]
            if self.compare != "within_modal" and len(self.modalities) > 1 and self.role("modality") == "invariant":
                attract.append("modality")
            if self.compare == "cross_modal" or attract or self.role("sample") != "distinct":
                return
            problem = "every axis is distinct or off; make one invariant, such as contrast.axes.augmentation=invariant"
        raise UserError(f"contrast.compare={self.compare} leaves a clip without a positive: {problem}")

    @classmethod
    def from_config(cls, config: "ContrastConfig") -> "Composition":
        """The composition that the options ask for. UserError for options that contradict each other."""
        axes = {name: str(role) for name, role in vars(config.axes).items()}
        for modality in config.modalities:
            _check_word("contrast.modalities", modality, ENCODED)
        speeds = list(config.speeds)
        if not speeds or len(set(speeds)) < len(speeds) or not all(0.1 <= speed <= 10 for speed in speeds):
            raise UserError(f"contrast.speeds={speeds}: name different playback speeds, from 0.1 to 10")
        own = [_load(text) for text in config.custom_axes]
        for axis, role in own:
            if axis.name in axes:
                raise UserError(f"contrast.custom_axes: there is an axis {axis.name} already; give yours another name")
            axes[axis.name] = role
        if "loss" in config.released and config.block:
            raise UserError(f"contrast.block={config.block}: set it to 0, or take loss out of contrast.released")
        independent = "shifts" in config.released
        if independent and config.min_gap:
            raise UserError(
                f"contrast.min_gap={config.min_gap:g} keeps time shifts apart: set it to 0, or take shifts out of "
                f"contrast.released"
            )
        ours = (
            TimeShift(min_gap=config.min_gap, independent=independent),
            Speed(speeds=tuple(config.speeds)),
            Crop(side=config.crop_side),
            Reversal(stage="augment" if "reversal" in config.released else "free"),
        )
        settings = {axis.name: axis for axis in ours}
        return cls(
            axes,
            config.compare,
            config.denominator,
            config.stop_gradient,
            tuple(config.modalities),
            (*(settings.get(axis.name, axis) for axis in AXES), *(axis for axis, _ in own)),
            "released" if "loss" in config.released else "composed",
        )

    def role(self, name: str) -> str:
        """ "distinct", "invariant", or nothing for an axis that is not built."""
        role = self.axes.get(name, "off")
        return "" if role == "off" else role

    @cached_property
    def views(self) -> tuple[Axis, ...]:
        """The axes that are built, but for sample and modality, in the order of their stages."""
        named = [a for a in self.known if self.role(a.name) and a.name not in ("sample", "modality")]
        return tuple(sorted(named, key=lambda axis: STAGES.index(axis.stage)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The axes of the columns of `codes`."""
        return ("modality", "sample", *(axis.name for axis in self.views))

    @property
    def distinct_columns(self) -> list[int]:
        """The columns of `codes` that c(T, T') compares."""
        return [i for i, name in enumerate(self.columns) if self.role(name) == "distinct"]

    def _at(self, *stages: str) -> list[Axis]:
        return [axis for axis in self.views if axis.stage in stages]

    def _count(self, *stages: str) -> int:
        return prod(axis.levels for axis in self._at(*stages))

    def plan(self, videos: int) -> Plan:
        """What a step of `videos` costs."""
        encoded = len(self.modalities) * self._count(*STAGES)
        return Plan(self._count("decode"), encoded, videos * encoded)

    def describe(self, videos: int) -> str:
        """One line: the roles, and the clips decoded and encoded for a step of `videos`."""
        roles = ", ".join(f"{name} {self.role(name)}" for name in self.columns if self.role(name))
        decoded, per_video, encoded = self.plan(videos)
        return (
            f"contrast {self.compare}: {roles}; {decoded * videos} clips decoded and {encoded} encoded per step "
            f"({decoded} and {per_video} for each of {videos} videos)"
        )

    def describe_views(self) -> str:
        """The axes that make clips of one video, with their roles, in words."""
        return ", ".join(f"{axis.name} {self.role(axis.name)}" for axis in self.views) or "one clip"

    def _longest(self, clip_seconds: float) -> float:
        return clip_seconds * prod(axis.stretch for axis in self.views)

    def required_seconds(self, clip_seconds: float) -> float:
        """The shortest video (s) that the views can be built from, for clips of `clip_seconds` (s)."""
        clip = self._longest(clip_seconds)
        return max([clip, *(a.required(clip, self.role(a.name) == "distinct") for a in self.views)])

    def sample(self, rng: np.random.Generator, duration: float, clip_seconds: float) -> Views:
        """Draw the views of one video of `duration` (s): its clips to decode, and values of the other axes.

        The requests are nested in the order of `views`, the last axis fastest, as are the clips of `expand`.
        Raises ClipError for a video shorter than `required_seconds`.
        """
        check_long_enough(duration, self.required_seconds(clip_seconds))
        clip = self._longest(clip_seconds)
        requests = [ClipRequest(rng.random() * max(0.0, duration - clip))]
        values = {}
        for axis in self.views:
            drawn = axis.sample(rng, duration, clip, self.role(axis.name) == "distinct")
            if len(drawn) != axis.levels:
                raise UserError(f"the axis {axis.name} has {axis.levels} levels, but sample() gave {len(drawn)} values")
            if axis.stage == "decode":
                requests = [axis.request(request, value) for request in requests for value in drawn]
            else:
                values[axis.name] = np.asarray(drawn, dtype=np.float32)
        return Views(requests, values)

    @property
    def copies(self) -> int:
        """Copies of each decoded clip, nested in it, that the random augmentation is drawn for anew."""
        return self._count("augment")

    def copy(self, frames: np.ndarray) -> list[np.ndarray]:
        """The `copies` of a decoded clip's frames, uint8 [T, h, w, 3] each, in order."""
        made = [frames]
        for axis in self._at("augment"):
            made = [axis.copy(one, level) for one in made for level in range(axis.levels)]
        return made

    @cached_property
    def heard_as(self) -> np.ndarray:
        """For each of the `copies` of a clip, the one whose draws its sound is augmented by: int [copies]."""
        axes = self._at("augment")
        index = np.arange(self.copies).reshape([axis.levels for axis in axes])
        for place, axis in enumerate(axes):
            if axis.keeps_sound:
                index = index.take([0], place).repeat(axis.levels, place)
        return index.ravel()

    @property
    def plain(self) -> torch.Tensor:
        """Which of a video's encoded clips show it as it was decoded, but for augmentation: bool [clips].

        Those at level 0 of every axis but the ones that are decoded and the `augmentation`.
        """
        clips = self._count(*STAGES)
        return torch.arange(clips) % self.turns == 0

    @property
    def turns(self) -> int:
        """Clips made of each `plain` one, which is the first of them: the axes that change it come last in `views`."""
        return prod(axis.levels for axis in self.views if axis.stage != "decode" and axis.name != "augmentation")

    def expand(self, clips: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Augmented clips → all that are encoded, [N, …] → [N · levels of the free axes, …], on their device.

        `clips` by modality: "video" float [N, C, T, H, W] and "audio" float [N, samples] or [N, 1, mels, T], for N =
        B · clips decoded · copies, video by video, as `sample` orders them. `values` float [B, levels, k] by axis:
        `sample`'s, stacked over the batch.
        """
        found = self._change_kept_audio(dict(clips), values)
        for axis in self._at("free"):
            drawn, count = values[axis.name], len(next(iter(found.values())))
            drawn = drawn.repeat_interleave(count // drawn.shape[0], 0)
            levels = [axis.apply_to(found, level, drawn[:, level]) for level in range(axis.levels)]
            for name, x in found.items():
                if any(name not in of or of[name].shape != x.shape for of in levels):
                    raise UserError(f"the axis {axis.name}: apply() must keep the clips' shape, at every level")
            # [N, …] of each level → [N · levels, …], the level fastest
            found = {name: torch.stack([of[name] for of in levels], 1).flatten(0, 1) for name in found}
        return found

    def _change_kept_audio(
        self, clips: dict[str, torch.Tensor], values: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The clips, with the copies' audio [N, …] at the levels of those axes that change it once it is augmented."""
        inner = self.copies
        for axis in self._at("augment"):
            inner //= axis.levels
            if not axis.keeps_sound or "audio" not in clips:
                continue
            audio = clips["audio"].clone()
            levels, drawn = torch.arange(len(audio)) // inner % axis.levels, values[axis.name]
            drawn = drawn.repeat_interleave(len(audio) // len(drawn), 0)
            for level in range(axis.levels):
                rows = (levels == level).nonzero().squeeze(1).to(audio.device)
                only = {"audio": audio[rows]}
                audio[rows] = axis.apply_to(only, level, drawn[rows.to(drawn.device), level])["audio"]
            clips["audio"] = audio
        return clips

    def codes(self, videos: torch.Tensor) -> torch.Tensor:
        """int64 [M, A]: the codes of all embeddings of the batch, one column for each of `columns`.

        `videos` int64 [B] tells the videos apart in the whole, distributed batch: their numbers in the data set, or
        rank · B + 0 … B − 1. (A video that is there twice is one sample, its clips positives of each other.)
        The rows are nested as modality, video, then `views` in order, the last fastest: the embeddings of
        `expand`'s frames, followed by those of its sound.
        """
        levels = [
            torch.arange(len(self.modalities)),
            videos.cpu().long(),
            *(torch.arange(a.levels) for a in self.views),
        ]
        return torch.cartesian_prod(*levels).view(-1, len(levels))


def preset(number: int) -> dict[str, Any]:
    """Keywords of the Composition of hypothesis `number`, 1 to 9 of GDT."""
    axes = {"sample": "distinct", "modality": "invariant", "time_shift": "off", "reversal": "off"}
    return {"axes": axes | PRESETS[number], "compare": "cross_modal"}


def _check_word(what: str, word: str, choices: Iterable[str]) -> None:
    choices = list(choices)
    if word not in choices:
        close = difflib.get_close_matches(str(word), choices, 1, 0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"{what} {word} is unknown{hint} ({', '.join(choices)})")


def _load(text: str) -> tuple[Axis, str]:
    """An axis of the user's own, from package.module:Class:role; modules of the working folder are found."""
    place, _, role = text.rpartition(":")
    module, _, name = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        kind: Callable[[], Axis] = getattr(importlib.import_module(module), name)
        axis = kind()
    except Exception as error:  # whatever the user's own code may raise
        raise UserError(
            f"contrast.custom_axes: no axis at {place} ({error}); write package.module:Class:distinct"
        ) from None
    if not isinstance(axis, Axis):
        raise UserError(f"contrast.custom_axes: {place} is no avssl.contrast.axes.Axis: make it a subclass")
    return axis, role
