"""Checks of the options of `avssl locate`. This file does not import torch, so that errors come quickly."""

import os
import re
from pathlib import Path

from ..config import LocateConfig
from ..config.check_paths import check_inside
from ..config.encoder_names import FOREIGN, OURS, TABLE, check_encoder_name
from ..config.option import nearest, shown
from ..config.run_folder import read_config
from ..core.errors import UserError
from ..core.out_folder import OTHER_FOLDER, VIDEOS, check_videos_of
from ..videos.index import existing_split, splits

COMPARING = "localisation", "contrast", "jepa"
"""The objectives whose heads compare frames with audio."""


OWN_FOLDER = "locate"
"""The output folder in a run folder, unless `out` names another."""


BOXES = "boxes.parquet"
"""The file of boxes in the output folder."""


def is_own(config: LocateConfig) -> bool:
    """Whether the output folder is the run's own, for the videos of its index."""
    return not config.videos and _is_default(config)


def _is_default(config: LocateConfig) -> bool:
    return Path(config.out).resolve() == (Path(config.run) / OWN_FOLDER).resolve()


def folder_of(config: LocateConfig) -> Path:
    """The output folder: for new videos a folder of their name, unless the user gave `out`."""
    if config.videos and _is_default(config):
        return Path(config.out) / "videos" / (Path(config.videos).resolve().name or "root")
    return Path(config.out)


def check_locate(config: LocateConfig) -> None:
    """Raise UserError for a run that cannot locate sounds, an unknown split, or a prior that is no encoder."""
    trained = read_config(Path(config.run))
    check_inside("out", config.out, trained.data.root)
    check_contents(config)
    if config.videos:
        check_new_videos(config)
    for modality in ("video", "audio"):
        if modality not in trained.modalities:
            raise UserError(
                f"{config.run} does not encode {modality}, but locating sounds needs both frames and audio: train with "
                "objective=localisation"
            )
    if trained.model.video.startswith(f"{TABLE}:"):
        raise UserError(
            f"{config.run} was trained on a table of features and has no encoders, so it cannot locate sounds: train "
            "on videos, with objective=localisation"
        )
    if not trained.objectives.keys() & {*COMPARING}:
        raise UserError(
            f"{config.run} has no heads that compare frames with audio, because it was trained with "
            f"{' and '.join(trained.objectives)} alone: train with objective=localisation"
        )
    if config.split and not config.videos and splits(trained.data.index, missing_ok=True):
        existing_split(trained.data.index, config.split)
    if config.prior:
        check_prior(config.prior)


def check_contents(config: LocateConfig) -> None:
    """Raise UserError if boxes of the run's index would replace those of new videos, or the other way round."""
    folder = folder_of(config)
    of_new = (folder / VIDEOS).is_file()
    if config.videos and (folder / BOXES).is_file() and not of_new:
        raise UserError(f"{folder} contains the boxes of the videos of an index: {OTHER_FOLDER}")
    if of_new and not config.videos:
        raise UserError(f"{folder} contains the boxes of new videos, not of the run's index: {OTHER_FOLDER}")


def check_new_videos(config: LocateConfig) -> None:
    """Raise UserError for new videos that do not exist, with a split, or that contain the output folder."""
    if not os.path.exists(config.videos):
        raise UserError(f"videos={config.videos} does not exist: give a folder or a video")
    if config.split:
        raise UserError(
            f"split={config.split} is a split of the run's index; new videos have none: leave out split or videos"
        )
    folder = config.videos if os.path.isdir(config.videos) else os.path.dirname(config.videos) or "."
    if os.path.isdir(config.videos):
        check_inside("out", folder_of(config), folder)
    check_videos_of(folder_of(config), config.videos, "boxes")


def check_prior(name: str) -> None:
    """Raise UserError for a prior that is no encoder of frames, or whose package is missing."""
    if name not in OURS["video"] and not re.fullmatch(FOREIGN, name):
        raise UserError(
            f"prior={shown(name)} is no encoder{nearest(name, list(OURS['video']))}: give {', '.join(OURS['video'])}, "
            "torchvision:NAME, timm:NAME, or your own package.module:callable"
        )
    if name.startswith((f"{TABLE}:", "onnx:")):
        raise UserError(f"prior={shown(name)} has no feature map: give an encoder such as torchvision:resnet18")
    check_encoder_name("prior", name)
