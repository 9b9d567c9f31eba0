"""The videos: where they are, what an index is made with, and which index a command reads."""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from .dataset_card import DatasetCard
from .option import DAY, description, option, section

NO_INDEX = "index/"
"""`data.index` where neither an index nor a folder of videos is given."""

EXTENSIONS = ["mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "ts", "flv", "3gp", "wmv"]


def _extensions() -> Any:
    return option(EXTENSIONS, "files with these endings are videos", unique=True)


@dataclass
class FilesConfig:
    """Video files below a folder."""

    root: str = option(
        MISSING, "folder of videos, at any depth; or of the tar files that `avssl shard` wrote", path="folder"
    )
    name: str = option("${basename:${data.root}}", "name of the data set, used in output folders")
    extensions: list[str] = _extensions()


@dataclass
class FoldersConfig(FilesConfig):
    """Video files, and what their folders mean."""

    root: str = option(
        MISSING, "folder of videos: {split}/{class}/{video}, {class}/{video}, or {video} at any depth", path="folder"
    )
    layout: str = option("auto", "what the folders below the root mean", choices="auto split_class class flat")
    keep_classes: list[str] = option([], "take these classes alone; none is all", unique=True)


@dataclass
class ReadingConfig:
    """How a video is read and judged. An index is made with it, and new videos are read as the index's were."""

    extensions: list[str] = _extensions()
    window_seconds: float | None = option(
        None, "cut each video into windows this long, each a training item", "s", minimum=0.01, maximum=DAY
    )
    min_seconds: float = option(1.0, "videos (and windows) shorter than this are rejected", "s", minimum=0, maximum=DAY)
    silence_db: float = option(
        -60.0, "videos whose audio never exceeds this RMS level are rejected", "dBFS", minimum=-200, maximum=0
    )
    probe_timeout: float = option(
        20.0, "a file that takes longer than this to probe is rejected", "s", minimum=0.1, maximum=DAY
    )


@dataclass
class DataConfig(ReadingConfig, FoldersConfig):
    """All that `avssl index` makes an index with."""

    index: str = option("index/${data.name}", "folder to write the index to", path="folder")
    require_sound: bool = option(True, "reject videos without audio, or silent ones; false is for video encoders alone")
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
    card: DatasetCard = description(DatasetCard)


@dataclass
class ExaminedDataConfig:
    """The index that `avssl doctor` examines."""

    root: str = option("", "folder of videos, indexed first; empty takes the index as it is", path="folder")
    name: str = option("${name_of:${data.root}}", "name of the data set", empty=True)
    index: str = option("index/${data.name}", "folder that `avssl index` writes", path="folder")


@dataclass
class IndexedDataConfig:
    """An index, and its splits: the index says what its videos are."""

    root: str = option("", "folder of the videos; empty is where the index says that they are", path="folder")
    name: str = option("${name_of:${data.root}}", "name of the data set, used in output folders", empty=True)
    index: str = option("index/${data.name}", "folder that `avssl index` wrote", path="folder")
    train_split: str = option("train", "split to train on; all videos where there are no splits")
    test_split: str = option(
        "test", "split to report on; without it the validation split, and the training split without that too"
    )


@dataclass
class TrainedDataConfig(IndexedDataConfig):
    """The same of a run, which also notes how its index read the videos."""

    reading: ReadingConfig = section(ReadingConfig, "how its index read the videos", noted=True)
