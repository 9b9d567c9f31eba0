"""Checks of the options of `avssl detect`. This file does not import torch, so that errors come quickly."""

import os
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from ..config import DetectConfig
from ..config.check_options import EXPORT_NEEDS
from ..config.check_paths import check_inside
from ..config.run_folder import read_config
from ..config.run_names import word_for
from ..core.errors import UserError
from ..core.out_folder import check_videos_of
from ..videos.index import splits, training_split
from .training_frames import check_split, read_located

LOCATED = "locate/boxes.parquet"
"""The file of boxes that `avssl locate` writes into a run's folder."""


SPLITS = pa.schema([("path", pa.string()), ("split", pa.string()), ("time", pa.float64())])
"""The columns that say whether there are boxes to train on."""

FOUND = "detections"
"""The folder below the output folder that has a folder for each `videos`."""

OTHER_NAME = "rename that folder, or train into another with out=…"


def found_folder(config: DetectConfig) -> Path:
    """The folder of the objects that are found in `videos`."""
    return Path(config.out) / FOUND / (Path(config.videos).resolve().name or "root")


def boxes_of(config: DetectConfig) -> Path:
    """The file of boxes to train on."""
    return Path(config.boxes or Path(config.run) / LOCATED)


def check_detect(config: DetectConfig) -> None:
    """Raise UserError for outputs among the videos, missing files or packages, and a run without located boxes of
    its training split."""
    trained = read_config(Path(config.run))
    check_inside("out", config.out, trained.data.root)
    if config.videos and not os.path.exists(config.videos):
        raise UserError(f"videos={config.videos} does not exist: give a folder, a picture or a video")
    if config.videos and os.path.isdir(config.videos):
        check_inside("out", config.out, config.videos)
    if config.videos:
        check_videos_of(found_folder(config), config.videos, "objects", OTHER_NAME)
    if config.truth and not os.path.exists(config.truth):
        raise UserError(f"truth={config.truth} does not exist: give a file of true boxes")
    if not (config.boxes or boxes_of(config).is_file() or (Path(config.out) / "detector.pt").is_file()):
        word = word_for(Path(config.run))
        raise UserError(f"{boxes_of(config)} does not exist: run avssl locate {word} first, or give boxes=…")
    if boxes_of(config).suffix == ".parquet" and not (Path(config.out) / "detector.pt").is_file():
        rows, _ = read_located(boxes_of(config), SPLITS)
        check_split(rows, training_split(trained.data, splits(trained.data.index)))
    missing = [package for package in EXPORT_NEEDS["onnx"] if find_spec(package) is None] if config.onnx else []
    if missing:
        raise UserError(f"onnx=true needs {' and '.join(missing)}: pip install 'avssl[export]', or set onnx=false")
