"""The videos: where they are, and what an index is made with."""

from dataclasses import dataclass

from omegaconf import MISSING

from .dataset_card import DatasetCard
from .option import DAY, description, option


@dataclass
class DataConfig:
    root: str = option(
        MISSING, "folder of videos: {split}/{class}/{video}, {class}/{video}, or {video} at any depth", path="folder"
    )
    name: str = option("${basename:${data.root}}", "name of the data set, used in output folders")
    index: str = option(
        "index/${data.name}", "folder that `avssl index` writes and the other commands read", path="folder"
    )
    layout: str = option("auto", "what the folders below the root mean", choices="auto split_class class flat")
    storage: str = option(
        "auto", "files below the root, or members of the tar files that `avssl shard` wrote there",
        choices="auto files tar",
    )  # fmt: skip
    extensions: list[str] = option(
        ["mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "ts", "flv", "3gp", "wmv"],
        "files with these endings are videos",
        unique=True,
    )
    window_seconds: float | None = option(
        None, "cut each video into windows this long, each a training item", "s", minimum=0.01, maximum=DAY
    )
    min_seconds: float = option(1.0, "videos (and windows) shorter than this are rejected", "s", minimum=0, maximum=DAY)
    silence_db: float = option(
        -60.0, "videos whose sound never exceeds this RMS level are rejected", "dBFS", minimum=-200, maximum=0
    )
    probe_timeout: float = option(
        20.0, "a file that takes longer than this to probe is rejected", "s", minimum=0.1, maximum=DAY
    )
    train_split: str = option("train", "split to train on; all videos where there are no splits")
    test_split: str = option(
        "test", "split to report on; without it the validation split, and the training split without that too"
    )
    annotations: str | None = option(
        None,
        "the data set's official split files, their folder or one file; none is splits and classes by folders alone",
        path="either",
    )
    format: str = option(
        "none", "what the split files look like; data=<the data set> sets it",
        choices="none ucf101 hmdb51 vggsound kinetics ave audioset",
    )  # fmt: skip
    fold: int = option(1, "which of the official splits, for data=ucf101 and data=hmdb51", minimum=1, maximum=100)
    trimmed: str = option(
        "auto",
        "are files cut to their annotated stretch? auto: told by name and length; never: all are whole videos",
        choices="auto always never",
    )
    keep_classes: list[str] = option([], "index these classes alone; none is all", unique=True)
    require_sound: bool = option(True, "reject videos without sound, or silent ones; false is for video encoders alone")
    card: DatasetCard = description(DatasetCard)


@dataclass
class PlannedDataConfig(DataConfig):
    root: str = option("", "folder of videos; empty is the one that the index was made of", path="folder")


@dataclass
class EvaluatedDataConfig(DataConfig):
    root: str = option("", "folder of the videos to evaluate on; empty is the run's own data", path="folder")


@dataclass
class ExaminedDataConfig(DataConfig):
    root: str = option("", "folder of videos, indexed first; empty takes the index as it is", path="folder")
