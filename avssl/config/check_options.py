"""Checks of a command's options that run before any work and before torch is imported.

The checks of `avssl train` are in `avssl.train.check_options`.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import config as configs
from ..core.device import check_device
from ..core.errors import UserError
from . import ClipConfig, DataConfig
from .check_paths import check_inside, check_new, check_paths
from .data import NO_INDEX
from .option import shown

EXPORT_NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch_export": (), "safetensors": ("safetensors",)}
"""Packages that each format of `avssl export` needs."""


def check_command(config: Any) -> None:
    """Check a command's config: its paths, its data, its device, then options that exclude each other.

    Raises:
        UserError: it names the first invalid option, in one line.
    """
    if hasattr(type(config), "one_of"):
        one_of(config)
    check_paths(config)
    data = getattr(config, "data", None)
    if isinstance(data, DataConfig):
        check_data(data)
    launch = getattr(config, "launch", None)
    if hasattr(config, "device") and (launch is None or launch.where == "local"):
        check_device(config.device)
    check = CHECKS.get(type(config))
    if check is not None:
        check(config)


def check_data(data: DataConfig) -> None:
    """Raise UserError for `data.format` without split files, because it would have no effect."""
    if data.format != "none" and data.annotations is None and not data.card.files:
        raise UserError(f"data.format={data.format} describes split files, but none are given: add data.annotations=…")


def check_index(config: configs.IndexConfig | configs.DoctorConfig) -> None:
    """Raise UserError if the index would lie among the videos, or cannot be written."""
    data = config.data
    if not data.root:
        return
    if not os.path.isdir(data.root):
        raise UserError(f"data.root={data.root} does not exist: give the folder of your videos")
    check_inside("data.index", data.index, data.root)
    check_new(f"data.index={shown(data.index)}", Path(data.index))


def check_clusters_command(config: configs.ClustersConfig) -> None:
    """Raise UserError if the outputs would lie among the run's videos, because previews and links are videos too."""
    from .run_folder import read_config

    root = read_config(Path(config.run)).data.root
    check_inside("out", config.out, root)
    if config.names:
        check_inside("labelled", config.labelled, root)


def check_evaluate(config: configs.EvaluateConfig) -> None:
    """Raise UserError if the crop of the finetuning's clips is larger than the frame."""
    if config.finetune.frames:
        check_sides(config.finetune, "finetune")


def one_of(config: Any) -> None:
    """Raise UserError unless exactly one of the options in the schema's `one_of` is given."""
    names = type(config).one_of
    forms = {"run": "run=<folder of avssl train>", "checkpoint": "checkpoint=<file>", "features": "features=<file>"}
    given = [name for name in names if getattr(config, name)]
    if len(given) != 1:
        what = f"{' and '.join(given)} are given" if given else f"one of {', '.join(names)} is needed"
        *most, last = [forms[name] for name in names]
        raise UserError(f"{what}: give {', '.join(most)}, or {last}")


def check_export(config: configs.ExportConfig) -> None:
    """Raise UserError if the format needs a package that is not installed."""
    missing = [package for package in EXPORT_NEEDS[config.format] if find_spec(package) is None]
    if missing:
        raise UserError(f"format={config.format} needs {', '.join(missing)}: pip install 'avssl[export]'")


def check_runs(config: configs.RunsConfig) -> None:
    """Raise UserError if the folder of runs does not exist."""
    if not os.path.isdir(config.folder):
        raise UserError(
            f"the folder {config.folder} does not exist: give the folder that contains run folders, or train one "
            "first: avssl train my_videos"
        )


def check_sides(clip: ClipConfig | configs.FinetuneConfig, section: str) -> None:
    """Raise UserError for a crop that is larger than the frame."""
    if not clip.crop <= clip.short_side_min <= clip.short_side_max:
        raise UserError(
            f"{section}.crop={clip.crop}, {section}.short_side_min={clip.short_side_min} and "
            f"{section}.short_side_max={clip.short_side_max} must satisfy crop ≤ short_side_min ≤ short_side_max"
        )


def check_clip(clip: ClipConfig) -> None:
    """Raise UserError for a crop larger than the frame, or a spectrogram window longer than the audio."""
    check_sides(clip, "clip")
    if 0 < clip.short_side_eval < clip.crop:
        raise UserError(
            f"clip.short_side_eval={clip.short_side_eval} is smaller than clip.crop={clip.crop}: give at least that, "
            "or 0"
        )
    if clip.hop_ms > clip.window_ms:
        raise UserError(
            f"clip.hop_ms={clip.hop_ms:g} is longer than clip.window_ms={clip.window_ms:g}: the audio between two "
            "windows would be ignored"
        )
    if round(clip.audio_rate * clip.hop_ms / 1000) < 1:
        raise UserError(
            f"clip.hop_ms={clip.hop_ms:g} is shorter than one sample at clip.audio_rate={clip.audio_rate}: raise it"
        )
    if round(clip.audio_seconds * clip.audio_rate) < round(clip.audio_rate * clip.window_ms / 1000):
        raise UserError(
            f"clip.window_ms={clip.window_ms:g} is longer than clip.audio_seconds={clip.audio_seconds:g} s: shorten it"
        )


def check_features(config: configs.FeaturesConfig) -> None:
    """Raise UserError for options of `avssl features` that contradict each other."""
    given = [f"clip.{x}" for x in config.clip.given] + [f"model.{x}" for x in config.model.given]
    if config.run and given:
        raise UserError(f"{given[0]} has no effect with run=…, which sets encoders and clips: omit it")
    check_clip(config.clip)
    if config.every and config.views != 1:
        raise UserError(f"views={config.views} and every={config.every:g} exclude each other: give one of them")
    if config.data.index == NO_INDEX and not config.run:
        raise UserError("the videos are needed: give the folder that was indexed, such as `avssl features my_videos`")


CHECKS: dict[type, Any] = {
    configs.FeaturesConfig: check_features,
    configs.IndexConfig: check_index,
    configs.DoctorConfig: check_index,
    configs.ClustersConfig: check_clusters_command,
    configs.EvaluateConfig: check_evaluate,
    configs.ExportConfig: check_export,
    configs.RunsConfig: check_runs,
}
"""The check of each command. The table of commands names a check that needs another room."""
