"""The clip that an encoder was trained with, which a run adopts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pkgutil import resolve_name
from typing import Any, TypeVar

import torch

from ..config import ClipConfig, ModelConfig, TrainConfig
from ..config.encoder_names import LIBRARIES, OUR_CLIPS, check_encoder_name
from ..config.option import check_value, keys_of, nearest
from ..core.errors import UserError
from .build import modalities_of
from .by_name import MODULES, build_encoder
from .encoder import clip_options

Config = TypeVar("Config", bound=TrainConfig)

SIDES = 8 / 7, 10 / 7
"""Smallest and largest short side over the crop, if an encoder gives only its crop; as in the published clips."""


def take_over(config: Config) -> Config:
    """The config with the clips that its encoders were trained with, except for the options in `clip.given`.

    Raises:
        UserError: an encoder is missing, or its `clip` names an unknown option or has an invalid value.
    """
    return replace(config, clip=taken_over(config.clip, config.model, modalities_of(config)))


def taken_over(clip: ClipConfig, model: ModelConfig, modalities: Sequence[str]) -> ClipConfig:
    """The clips that the encoders of some modalities were trained with, as in `take_over`."""
    for modality in modalities:
        found = encoder_clip(modality, getattr(model, modality))
        values = {name: value for name, value in found.items() if name not in clip.given}
        clip = replace(clip, **values)
    return clip


def encoder_clip(modality: str, name: str) -> dict[str, Any]:
    """The checked options of clips that the encoder `name` of a modality was trained with; empty if it gives none.

    Raises:
        UserError: as in `take_over`.
    """
    if ":" not in name:
        return completed(modality, OUR_CLIPS.get((modality, name), {}))
    check_encoder_name(f"model.{modality}", name)
    prefix, _, rest = name.partition(":")
    if prefix in LIBRARIES:
        found = resolve_name(f"{MODULES[prefix]}:clip")(modality, rest)
    else:
        with torch.random.fork_rng([]):  # the run's own weights are drawn later
            found = getattr(build_encoder(modality, name), "clip", {})
    return completed(modality, checked(modality, name, found))


def completed(modality: str, clip: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those that follow from them: short sides from a crop, and the same clips for retrieval."""
    found = dict(clip)
    if crop := found.get("crop"):
        smallest, largest = (ceil(crop * factor) for factor in SIDES)
        found.setdefault("short_side_min", smallest)
        found.setdefault("short_side_max", max(largest, found["short_side_min"]))
        found.setdefault("short_side_eval", 0)
    if "frames" in found:
        found["retrieval_frames"] = 0
    return found


def checked(modality: str, name: str, clip: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an encoder's `clip`, converted to the types of the options.

    Raises:
        UserError: a name is not an option of the modality's clips, or a value is invalid.
    """
    option = f"model.{modality}={name}"
    allowed = clip_options.get(modality, ())
    keys = {key.name: key for key in keys_of(ClipConfig, noted=True)}
    found: dict[str, Any] = {}
    for key, value in clip.items():
        if key not in allowed:
            raise UserError(
                f"{option}: its clip has the unknown option {key}{nearest(str(key), [*allowed])} ({', '.join(allowed)})"
            )
        kind, many = keys[key].kind, keys[key].many
        try:
            found[key] = [kind(x) for x in value] if many else kind(value)
        except (TypeError, ValueError):
            form = "three numbers, one per channel" if many else "one value"
            raise UserError(f"{option}: its clip has {key}={value!r}: give {form}") from None
        try:
            check_value(keys[key], found[key])
        except UserError as error:
            raise UserError(f"{option}: its clip is invalid: {error}") from None
    return found
