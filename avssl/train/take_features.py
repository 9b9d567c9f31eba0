"""What a run on stored features adopts from them: encoders, clips, index. This file does not import torch."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ..clips.feature_store import FeatureStore, is_complete_store, is_store, open_store
from ..clips.feature_table import FeatureTable, read_feature_table
from ..config import ClipConfig, TrainConfig
from ..config.data import AUTO
from ..config.encoder_names import TABLE, is_own, learns
from ..config.model import MODALITIES
from ..config.option import shown
from ..config.start import check_start
from ..config.train import OF_AXES
from ..core.errors import UserError

Config = TypeVar("Config", bound=TrainConfig)

TABLE_INDEX = "index"
"""The subfolder of a run with the index of a table's rows, if no other index is given."""

OWN_STORE = "features"
"""The subfolder of a run with features that the run extracted."""

NO_VIDEOS = "videos"
"""A folder that does not exist, in place of the folder of videos."""

OF_READING = ("decoder", "cache_mb", "timeout", "given")
"""Options of clips that do not change a clip's contents."""

DECODED = ("reversal", "speed", "augmentation", "crop", "rotation")
"""Axes that change clips before they are encoded."""


def take_features(config: Config) -> Config:
    """The config with the options that `data.features` determines; unchanged without it.

    Raises:
        UserError: the features cannot be read, or an option that the user gave contradicts them.
    """
    if not config.data.features:
        return config
    _check_axes(config)
    if config.data.features == AUTO:
        return _of_own_store(config)
    if is_store(config.data.features):
        return _of_store(config, open_store(config.data.features))
    return _of_table(config, read_feature_table(config.data.features))


def chosen_modalities(config: TrainConfig) -> list[str]:
    """The modalities of the run's objectives."""
    return config.modalities


def index_is_given(config: TrainConfig) -> bool:
    """Whether the user named the index, or the folder of its videos."""
    data = config.data
    return bool(data.root) or data.index not in (f"index/{data.name}", f"index/{Path(data.features).stem}", "index/")


def has_own_index(config: TrainConfig) -> bool:
    """Whether a run on a table writes an index of its rows into its folder."""
    return bool(config.data.features) and Path(config.data.index) == Path(config.out) / TABLE_INDEX


def own_store(config: TrainConfig) -> Path:
    """The subfolder of a run with the features that it extracts itself."""
    return Path(config.out) / OWN_STORE


def frozen_for_features(config: Config) -> Config:
    """The config with all encoders frozen, as `data.features=auto` needs.

    Raises:
        UserError: an encoder would be trained.
    """
    chosen = chosen_modalities(config)
    for name in chosen:
        encoder = getattr(config.model, name)
        if learns(encoder) and name not in config.model.freeze:
            raise UserError(
                f"data.features=auto needs frozen encoders, but model.{name}={shown(encoder)} would be trained: set "
                f"model.freeze={','.join(chosen)}, or omit data.features"
            )
    return replace(config, model=replace(config.model, freeze=[n for n in MODALITIES.split() if n in chosen]))


def _of_own_store(config: Config) -> Config:
    config = frozen_for_features(config)
    if is_complete_store(own_store(config)):
        return take_features(replace(config, data=replace(config.data, features=str(own_store(config)))))
    check_start(config.model, chosen_modalities(config))
    return replace(config, model=replace(config.model, init=[]))  # like the run, which has the store's weights


def _check_axes(config: TrainConfig) -> None:
    if not OF_AXES & config.objectives.keys():
        return
    axes = vars(config.contrast.axes)
    used = [f"contrast.axes.{name}={axes[name]}" for name in DECODED if axes[name] != "off"]
    used += [f"contrast.custom_axes=[{axis}]" for axis in config.contrast.custom_axes]
    if used:
        raise UserError(
            f"{used[0]} changes clips before they are encoded, but data.features contains encoded clips: turn it off, "
            f"or train on the videos"
        )


def _check_modalities(config: TrainConfig, widths: dict[str, int]) -> None:
    missing = [name for name in chosen_modalities(config) if name not in widths]
    if missing:
        sections = ["labelling"] * ("labelling" in config.objectives) + ["contrast"] * ("contrast" in config.objectives)
        fix = " ".join(f"{section}.modalities=[{','.join(widths)}]" for section in sections)
        raise UserError(f"{config.data.features} has no features of {missing[0]}: set {fix}")


def _of_store(config: Config, store: FeatureStore) -> Config:
    _check_modalities(config, store.widths)
    taken: dict[str, Any] = dict(store.encoders) | {
        "temporal_pooling": store.temporal_pooling, "video_stride": store.video_stride, "init": store.init,
    }  # fmt: skip
    for name in config.model.given:
        if name in taken and getattr(config.model, name) != taken[name]:
            raise _contradicts(config, f"model.{name}", getattr(config.model, name), taken[name] or "none")
    for name, encoder in store.encoders.items():
        if is_own(encoder) and name not in config.model.given:
            raise UserError(
                f"the {name} encoder {shown(encoder)} of {store.folder} is code that would be run: if it is yours, "
                "confirm "
                f"it with model.{name}={shown(encoder)}"
            )
    for name in config.clip.given:
        if name not in OF_READING and getattr(config.clip, name) != getattr(store.clip, name):
            raise _contradicts(config, f"clip.{name}", getattr(config.clip, name), getattr(store.clip, name))
    frozen = [name for name in store.encoders if name in chosen_modalities(config)]
    # the store has the weights, even if their source no longer exists
    model = replace(config.model, **{**taken, "init": [], "freeze": frozen})
    clip = replace(store.clip, **{name: getattr(config.clip, name) for name in OF_READING})
    # the encoders must not change these options again
    clip = replace(clip, given=[f.name for f in fields(ClipConfig) if not f.metadata.get("noted")])
    data = config.data
    if not index_is_given(config):
        data = replace(data, index=store.data["index"], root=store.data["root"])
    return replace(config, model=model, clip=clip, data=data)


def _of_table(config: Config, table: FeatureTable) -> Config:
    _check_modalities(config, table.widths)
    widths = {name: width for name, width in table.widths.items() if name in chosen_modalities(config)}
    encoders: dict[str, Any] = {name: f"{TABLE}:{width}" for name, width in widths.items()}
    for name in config.model.given:
        if name in ("video", "audio", "video_stride", "init", "freeze"):
            raise UserError(
                f"model.{name}={shown(getattr(config.model, name))} has no effect, because a run on the table "
                f"{config.data.features} has no encoders: omit it"
            )
    data = config.data
    if not index_is_given(config):  # the run gets an index of the table's rows
        index = Path(config.out) / TABLE_INDEX
        data = replace(data, index=str(index), root=str(index / NO_VIDEOS))
    return replace(config, model=replace(config.model, **{**encoders, "init": [], "freeze": list(encoders)}), data=data)


def _contradicts(config: TrainConfig, option: str, given: Any, stored: Any) -> UserError:
    return UserError(
        f"{option}={shown(given)} contradicts {config.data.features}, whose features were made with "
        f"{shown(stored)}: omit it, or extract features again"
    )
