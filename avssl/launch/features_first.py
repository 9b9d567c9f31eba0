"""`data.features=auto`: the processes of a run first extract its features together, and then train on them."""

import os
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from ..clips.feature_store import is_complete_store
from ..config import FeaturesConfig, PlacedDataConfig, TrainConfig
from ..config.data import AUTO
from ..config.model import MODALITIES
from ..train.take_features import chosen_modalities, frozen_for_features, own_store
from .ending import TRAINING


def train(config: TrainConfig, training: str = TRAINING) -> None:
    """Train in this process, after extracting features if `data.features` asks for it."""
    if training == TRAINING and config.data.features == AUTO:
        config = with_features(config)
    resolve_name(training)(config)
    if training == TRAINING and os.environ.get("RANK", "0") == "0":
        from ..runs.model_card import update_card

        update_card(Path(config.out))


def with_features(config: TrainConfig) -> TrainConfig:
    """Extract the features of a run, and return its config on them. An interrupted extraction is resumed.

    Raises:
        UserError: the videos or the encoders cannot be read, or an encoder would be trained.
    """
    store = own_store(config)
    if not ((Path(config.out) / "config.yaml").is_file() and is_complete_store(store)):
        from ..evaluate.features_command import run  # imports torch

        run(extraction_of(config), hint=False)
    return replace(config, data=replace(config.data, features=str(store)))


def extraction_of(config: TrainConfig) -> FeaturesConfig:
    """The options of `avssl features` for the features of a run."""
    model, data = frozen_for_features(config).model, config.data
    modalities = [name for name in MODALITIES.split() if name in chosen_modalities(config)]
    return FeaturesConfig(
        data=PlacedDataConfig(data.root, data.name, data.index), clip=config.clip, model=model, modalities=modalities,
        views=data.views, augmented=data.augmented, out=os.fspath(own_store(config)), seed=config.seed,
        device=config.device, precision=config.precision, workers=config.workers, threads=config.threads,
    )  # fmt: skip
