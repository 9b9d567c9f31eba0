"""The composition: the clips of a batch, and the pairs of them that are compared (GDT §3)."""

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
"""The nine hypotheses of GDT (ICCV 2021). In each, sample is distinct and modality is invariant."""

CHOICES = {
    "form": ("composed", "released"),
    "compare": ("cross_modal", "within_modal", "all"),
    "denominator": ("all", "without_positives"),
    "stop_gradient": ("none", "keys"),
    "keys": ("batch", "queue", "bank"),
}
ENCODED = ("video", "audio")
"""The modalities that have encoders; a composition may have others."""
RELEASED = ("time_shift", "reversal")
"""The axes of GDT's nine hypotheses, beside sample and modality."""
ROLES = ("distinct", "invariant", "off")
PREDICTED = "predicted"
"""The role of an axis whose levels a classifier names; it makes no clips of the composition."""
STAGES = ("decode", "augment", "free")


class Views(NamedTuple):
    """The views of a video: the clips to decode, in order, and the values of the other axes, float [levels, k] each."""

    requests: list[ClipRequest]
    values: dict[str, np.ndarray]


class Plan(NamedTuple):
    """The cost of a step: clips decoded and encoded per video, and clips encoded in the step."""

    decoded_per_video: int
    encoded_per_video: int
    encoded: int


@dataclass(frozen=True)
class Composition:
    """The transformations to which a representation is distinct or invariant (GDT §3).

    The positives of a clip T are the compared clips T' with c(T, T') = 1: the codes of all distinct axes agree.

    Args:
        axes: "distinct" or "invariant" by the name of the axis. An axis that is missing or "off" is not used.
        compare: the pairs that are compared: "cross_modal", "within_modal" or "all".
        denominator: "all" compared pairs, as in GDT, or "without_positives", which leaves out the other positives.
        stop_gradient: "none", or "keys", as in the published code.
        modalities: the modalities to encode, in this order.
        known: the existing axes, including custom ones.
        form: "composed", or "released", the terms that GDT's released code computes for its nine hypotheses
            (`avssl.contrast.released_loss`).
        keys: what a clip is compared to: the "batch", a "queue" of keys (MoCo), or a "bank" of one key for each video
            (NPID), in which a clip's own video is its positive.

    Raises:
        UserError: a name or a value is unknown, a clip has no positive, or the released form is requested for a
            composition that is not one of the nine hypotheses.
    """

    axes: Mapping[str, str]
    compare: str = "cross_modal"
    denominator: str = "all"
    stop_gradient: str = "none"
    modalities: tuple[str, ...] = ("video", "audio")
    known: tuple[Axis, ...] = AXES
    form: str = "composed"
    keys: str = "batch"

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
                    f"contrast.axes.{name}=distinct does not change {unchanged[0]}, so equal clips would be pushed "
                    f"apart: use {name}=invariant, or remove {unchanged[0]} from contrast.modalities"
                )
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise UserError(f"contrast.modalities={list(self.modalities)}: name each modality once")
        if len(self.modalities) > 1 and not self.role("modality"):
            raise UserError(
                "contrast.axes.modality=off with more than one modality: make it invariant or distinct, or set "
                f"contrast.modalities=[{self.modalities[0]}]"
            )
        self._check_positives()
        self._check_keys()
        if self.form == "released":
            self._check_hypothesis()

    def _check_hypothesis(self) -> None:
        """Raise UserError for a composition that GDT's released code does not have."""
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
                f"contrast.released=[loss] is for contrast=preset_1 to preset_9, without {wrong[0]}: choose a "
                f"preset, or remove loss from contrast.released"
            )

    def _check_keys(self) -> None:
        """Raise UserError for a composition that a queue or a bank of keys cannot have."""
        if self.keys == "batch":
            return
        if self.role("sample") != "distinct":
            raise UserError(
                f"contrast.keys={self.keys} takes other videos as negatives: set contrast.axes.sample=distinct"
            )
        distinct = [name for name in self.columns if self.role(name) == "distinct" and name != "sample"]
        if self.keys == "bank" and distinct:
            raise UserError(
                f"contrast.keys=bank has one key for each video, whatever its {distinct[0]}: set "
                f"contrast.axes.{distinct[0]}=invariant or off, or contrast.keys=queue"
            )
        for option, value in (("form", "composed"), ("stop_gradient", "none")):
            if getattr(self, option) != value:
                name = "released=[loss]" if option == "form" else f"{option}={getattr(self, option)}"
                raise UserError(f"contrast.{name} is for contrast.keys=batch: omit it")

    def _check_positives(self) -> None:
        if self.compare == "cross_modal" and len(self.modalities) == 1:
            problem = f"only {self.modalities[0]} is encoded; set contrast.compare=within_modal"
        elif self.compare == "cross_modal" and self.role("modality") == "distinct":
            problem = "positives differ in modality; set contrast.axes.modality=invariant"
        else:
            invariant = [a.name for a in self.views if self.role(a.name) == "invariant" and a.levels > 1]
            if self.compare != "within_modal" and len(self.modalities) > 1 and self.role("modality") == "invariant":
                invariant.append("modality")
            # a bank has a key of the clip's own video
            of_bank = self.keys == "bank"
            if self.compare == "cross_modal" or invariant or self.role("sample") != "distinct" or of_bank:
                return
            problem = (
                "every axis is distinct or off; make one invariant, for example contrast.axes.augmentation=invariant"
            )
        raise UserError(f"contrast.compare={self.compare} leaves a clip without a positive: {problem}")

    @classmethod
    def from_config(cls, config: "ContrastConfig") -> "Composition":
        """The composition that the options describe. Raises UserError for options that contradict each other."""
        axes = {name: _compared(str(role)) for name, role in vars(config.axes).items()}
        for modality in config.modalities:
            _check_word("contrast.modalities", modality, ENCODED)
        known, custom = configured_axes(config)
        axes |= {name: _compared(role) for name, role in custom.items()}
        if "loss" in config.released and config.block:
            raise UserError(f"contrast.block={config.block}: set it to 0, or remove loss from contrast.released")
        if "shifts" in config.released and config.min_gap:
            raise UserError(
                f"contrast.min_gap={config.min_gap:g} keeps time shifts apart: set it to 0, or remove shifts from "
                f"contrast.released"
            )
        by_name = {axis.name for axis in known}
        return cls(
            {name: role for name, role in axes.items() if name in by_name or role != "off"},
            config.compare,
            config.denominator,
            config.stop_gradient,
            tuple(config.modalities),
            known,
            "released" if "loss" in config.released else "composed",
            config.keys,
        )

    def role(self, name: str) -> str:
        """The role of an axis: "distinct", "invariant", or empty for an unused axis."""
        role = self.axes.get(name, "off")
        return "" if role == "off" else role

    @cached_property
    def views(self) -> tuple[Axis, ...]:
        """The used axes, without sample and modality, in the order of their stages."""
        named = [a for a in self.known if self.role(a.name) and a.name not in ("sample", "modality")]
        return tuple(sorted(named, key=lambda axis: STAGES.index(axis.stage)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the axes, one per column of `codes`."""
        return ("modality", "sample", *(axis.name for axis in self.views))

    @property
    def distinct_columns(self) -> list[int]:
        """The columns of `codes` that c(T, T') compares."""
        return [i for i, name in enumerate(self.columns) if self.role(name) == "distinct"]

    def _axes_at(self, *stages: str) -> list[Axis]:
        return [axis for axis in self.views if axis.stage in stages]

    def _count(self, *stages: str) -> int:
        return prod(axis.levels for axis in self._axes_at(*stages))

    def plan(self, videos: int) -> Plan:
        """The cost of a step with `videos` videos."""
        encoded = len(self.modalities) * self._count(*STAGES)
        return Plan(self._count("decode"), encoded, videos * encoded)

    def describe(self, videos: int, stored: bool = False) -> str:
        """A line with the roles of the axes, and the number of clips in a step.

        Args:
            videos: number of videos per step.
            stored: whether clips are stored features, so that none is decoded or encoded.
        """
        roles = ", ".join(f"{name} {self.role(name)}" for name in self.columns if self.role(name))
        if stored:
            return f"contrast {self.compare}: {roles}; on stored features"
        decoded, per_video, encoded = self.plan(videos)
        return (
            f"contrast {self.compare}: {roles}; {decoded * videos} clips decoded and {encoded} encoded per step "
            f"({decoded} and {per_video} for each of {videos} videos)"
        )

    def describe_views(self) -> str:
        """The axes that make several clips of a video and their roles, for messages."""
        return ", ".join(f"{axis.name} {self.role(axis.name)}" for axis in self.views) or "one clip"

    def _longest(self, clip_seconds: float) -> float:
        return clip_seconds * prod(axis.stretch for axis in self.views)

    def required_seconds(self, clip_seconds: float) -> float:
        """The shortest duration (s) of a video with room for all views, for clips of `clip_seconds` (s)."""
        clip = self._longest(clip_seconds)
        return max([clip, *(a.required(clip, self.role(a.name) == "distinct") for a in self.views)])

    def sample(self, rng: np.random.Generator, duration: float, clip_seconds: float) -> Views:
        """Draw the views of a video: its clips to decode, and the values of the other axes.

        The requests, like the clips of `expand`, are nested in the order of `views`, with the last axis fastest.

        Args:
            rng: the random numbers.
            duration: duration of the video, s.
            clip_seconds: duration of a clip, s.

        Raises:
            ClipError: the video is shorter than `required_seconds`.
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
    def decoded(self) -> int:
        """The number of clips decoded per video."""
        return self._count("decode")

    @property
    def further(self) -> int:
        """The number of decoded clips without copies."""
        return 0

    @property
    def copies(self) -> int:
        """The number of copies of each decoded clip, each with its own random augmentation."""
        return self._count("augment")

    def copy(self, frames: np.ndarray) -> list[np.ndarray]:
        """The copies of a decoded clip's frames, uint8 [T, h, w, 3] each, in order."""
        copies = [frames]
        for axis in self._axes_at("augment"):
            copies = [axis.copy(original, level) for original in copies for level in range(axis.levels)]
        return copies

    @cached_property
    def heard_as(self) -> np.ndarray:
        """For each copy of a clip, the number of the copy whose random values augment its audio: int [copies]."""
        axes = self._axes_at("augment")
        index = np.arange(self.copies).reshape([axis.levels for axis in axes])
        for dim, axis in enumerate(axes):
            if axis.keeps_sound:
                index = index.take([0], dim).repeat(axis.levels, dim)
        return index.ravel()

    @property
    def plain(self) -> torch.Tensor:
        """A mask of the encoded clips of a video that no axis has changed after decoding: bool [clips].

        They are at level 0 of every axis, except axes of the stage "decode" and the axis `augmentation`.
        """
        clips = self._count(*STAGES)
        return torch.arange(clips) % self.turns == 0

    @property
    def turns(self) -> int:
        """The number of clips made from each `plain` one, which comes first, because the axes that change it come last
        in `views`."""
        return prod(axis.levels for axis in self.views if axis.stage != "decode" and axis.name != "augmentation")

    @cached_property
    def alike(self) -> int:
        """The number of clips of a video and modality that differ along invariant axes alone."""
        return prod(axis.levels for axis in self.views if self.role(axis.name) != "distinct")

    def take_alike(self, x: torch.Tensor, videos: int) -> torch.Tensor:
        """The clips that differ along invariant axes alone, at level 0 of every distinct one.

        Args:
            x: of all clips of a modality, [B · V, D], video by video.
            videos: B.

        Returns:
            [B, alike, D].
        """
        by_level = x.unflatten(0, (videos, *(axis.levels for axis in self.views)))
        for dim in reversed(range(len(self.views))):
            if self.role(self.views[dim].name) == "distinct":
                by_level = by_level.select(dim + 1, 0)
        return by_level.reshape(videos, -1, x.shape[1])

    def expand(self, clips: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Apply the free axes to augmented clips, on their device.

        Args:
            clips: by modality, "video" float [N, C, T, H, W] and "audio" float [N, samples] or [N, 1, mels, T], for
                N = B · clips decoded · copies, video by video, in the order of `sample`.
            values: the values from `sample`, stacked over the batch: float [B, levels, k] by axis.

        Returns:
            All clips to encode, [N · levels of the free axes, …] by modality.

        Raises:
            UserError: a custom axis changes the shape of clips.
        """
        expanded = self._change_kept_audio(dict(clips), values)
        for axis in self._axes_at("free"):
            drawn, count = values[axis.name], len(next(iter(expanded.values())))
            drawn = drawn.repeat_interleave(count // drawn.shape[0], 0)
            by_level = [axis.apply_to(expanded, level, drawn[:, level]) for level in range(axis.levels)]
            for name, x in expanded.items():
                if any(name not in clips or clips[name].shape != x.shape for clips in by_level):
                    raise UserError(f"the axis {axis.name}: apply() must keep the clips' shape, at every level")
            # [N, …] of each level → [N · levels, …], the level fastest
            expanded = {name: torch.stack([clips[name] for clips in by_level], 1).flatten(0, 1) for name in expanded}
        return expanded

    def _change_kept_audio(
        self, clips: dict[str, torch.Tensor], values: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Apply the axes with `keeps_sound` to the augmented audio of the copies, [N, …]."""
        inner = self.copies
        for axis in self._axes_at("augment"):
            inner //= axis.levels
            if not axis.keeps_sound or "audio" not in clips:
                continue
            audio, drawn = clips["audio"].clone(), values[axis.name]
            drawn = drawn.repeat_interleave(len(audio) // len(drawn), 0)
            # the levels are a dimension: positions of each would have to be sent to the device
            by_level, drawn = (x.unflatten(0, (-1, axis.levels, inner)) for x in (audio, drawn))
            for level in range(axis.levels):
                at_level = {"audio": by_level[:, level].flatten(0, 1)}
                changed = axis.apply_to(at_level, level, drawn[:, level].flatten(0, 1)[:, level])["audio"]
                by_level[:, level] = changed.unflatten(0, (-1, inner))
            clips["audio"] = audio
        return clips

    def codes(self, videos: torch.Tensor) -> torch.Tensor:
        """The codes of all embeddings of a batch, int64 [M, A], with the columns `columns`.

        The rows are nested as modality, video, then `views` in order with the last one fastest. With the default
        modalities, the embeddings of `expand`'s video are followed by those of its audio.

        Args:
            videos: numbers that identify the videos in the batch of all processes, int64 [B]: their numbers in the
                data set, or rank · B + 0 … B − 1. Clips with the same number are the same sample.
        """
        levels = [
            torch.arange(len(self.modalities)),
            videos.cpu().long(),
            *(torch.arange(a.levels) for a in self.views),
        ]
        return torch.cartesian_prod(*levels).view(-1, len(levels))


def _compared(role: str) -> str:
    """The role of an axis among the clips that are compared."""
    return "off" if role == PREDICTED else role


def configured_axes(config: "ContrastConfig") -> tuple[tuple[Axis, ...], dict[str, str]]:
    """All axes as the options configure them, the user's own last, and the roles of these by name.

    Raises:
        UserError: the speeds are not different playback speeds, or an own axis is missing or has a used name.
    """
    speeds = list(config.speeds)
    if not speeds or len(set(speeds)) < len(speeds) or not all(0.1 <= speed <= 10 for speed in speeds):
        raise UserError(f"contrast.speeds={speeds}: give different playback speeds, from 0.1 to 10")
    custom = [_load(text) for text in config.custom_axes]
    taken = {*vars(config.axes), "small"}  # the clips of a predicted axis have its name, beside the small clips
    for axis, _ in custom:
        if axis.name in taken:
            raise UserError(f"contrast.custom_axes: the name {axis.name} is taken: give your axis another one")
        taken.add(axis.name)
    configured = (
        TimeShift(min_gap=config.min_gap, independent="shifts" in config.released),
        Speed(speeds=tuple(config.speeds)),
        Crop(side=config.crop_side),
        Reversal(stage="augment" if "reversal" in config.released else "free"),
    )
    settings = {axis.name: axis for axis in configured}
    known = (*(settings.get(axis.name, axis) for axis in AXES), *(axis for axis, _ in custom))
    return known, {axis.name: role for axis, role in custom}


def preset(number: int) -> dict[str, Any]:
    """The arguments of the `Composition` of GDT's hypothesis `number`, 1 to 9."""
    axes = {"sample": "distinct", "modality": "invariant", "time_shift": "off", "reversal": "off"}
    return {"axes": axes | PRESETS[number], "compare": "cross_modal"}


def _check_word(what: str, word: str, choices: Iterable[str]) -> None:
    choices = list(choices)
    if word not in choices:
        close = difflib.get_close_matches(str(word), choices, 1, 0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"{what} {word} is unknown{hint} ({', '.join(choices)})")


def _load(text: str) -> tuple[Axis, str]:
    """A custom axis and its role, from package.module:Class:role. Modules in the working folder can be imported."""
    place, _, role = text.rpartition(":")
    module, _, name = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        kind: Callable[[], Axis] = getattr(importlib.import_module(module), name)
        axis = kind()
    except Exception as error:  # the user's code may raise anything
        raise UserError(
            f"contrast.custom_axes: there is no axis at {place} ({error}): write package.module:Class:distinct"
        ) from None
    if not isinstance(axis, Axis):
        raise UserError(f"contrast.custom_axes: {place} is not an avssl.contrast.axes.Axis: make it a subclass")
    return axis, role
