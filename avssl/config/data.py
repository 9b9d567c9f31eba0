"""The options `data.*`: where the videos are, how they are indexed, and which index a command reads."""

from dataclasses import dataclass
from typing import Any

from .dataset_card import DatasetCard
from .option import DAY, MISSING, description, option, section

NO_INDEX = "index/"
"""The value of `data.index` if the user gives neither an index nor a folder of videos."""

AUTO = "auto"
"""The value of `data.features` for a run that extracts the features itself."""

EXTENSIONS = ["mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "ts", "flv", "3gp", "wmv"]


def _extensions() -> Any:
    return option(EXTENSIONS, "endings of the names of video files; other files are ignored", unique=True)


@dataclass
class FilesConfig:
    """Video files below a folder."""

    root: str = option(
        MISSING, "folder of videos, at any depth; or a folder of tar files that `avssl shard` wrote", path="folder"
    )
    name: str = option("${basename:${data.root}}", "name of the data set, used in the names of output folders")
    extensions: list[str] = _extensions()


@dataclass
class FoldersConfig(FilesConfig):
    """Video files, and what their folders mean."""

    root: str = option(
        MISSING, "folder of videos: {split}/{class}/{video}, {class}/{video}, or {video} at any depth", path="folder"
    )
    layout: str = option(
        "auto",
        "what the folders below the root mean; auto: recognised from their names and depth",
        choices="auto split_class class flat",
    )
    keep_classes: list[str] = option([], "index only these classes; empty: all", unique=True)


@dataclass
class ReadingConfig:
    """How a video is probed, and when it is rejected. `avssl label` probes new videos as the run's index did."""

    extensions: list[str] = _extensions()
    window_seconds: float | None = option(
        None,
        "cut each video into windows of this length, each with a row and a cluster of its own; none: whole videos",
        "s",
        minimum=0.01,
        maximum=DAY,
    )
    min_seconds: float = option(1.0, "shorter videos (and windows) are rejected", "s", minimum=0, maximum=DAY)
    silence_db: float = option(
        -60.0,
        "a video is rejected as silent if its audio never exceeds this RMS level",
        "dBFS",
        minimum=-200,
        maximum=0,
    )
    probe_timeout: float = option(
        20.0, "a file is rejected if probing it takes longer; raise this for slow disks", "s", minimum=0.1, maximum=DAY
    )


@dataclass
class DataConfig(ReadingConfig, FoldersConfig):
    """All options of `avssl index` about the videos."""

    index: str = option("index/${data.name}", "folder to write the index to", path="folder")
    require_sound: bool = option(
        True, "reject videos that are silent or have no audio; false: keep them, and train on the frames alone"
    )
    annotations: str | None = option(
        None,
        "official split files: their folder, or one file; none: take splits and classes from the folders of videos",
        path="either",
    )
    format: str = option(
        "none", "format of the split files; data=<data set> sets it",
        choices="none ucf101 hmdb51 vggsound kinetics ave audioset",
    )  # fmt: skip
    fold: int = option(1, "number of the official split, for data=ucf101 and data=hmdb51", minimum=1, maximum=100)
    trimmed: str = option(
        "auto",
        "whether the files are already cut to their annotated segments; auto: decided by name and duration; never: "
        "the files are whole videos",
        choices="auto always never",
    )
    card: DatasetCard = description(DatasetCard)


@dataclass
class ExaminedDataConfig:
    """The index that `avssl doctor` examines."""

    root: str = option("", "folder of videos, which is indexed first; empty: examine the index as it is", path="folder")
    name: str = option("${name_of:${data.root}}", "name of the data set", empty=True)
    index: str = option("index/${data.name}", "folder that `avssl index` writes", path="folder")


@dataclass
class PlacedDataConfig:
    """An index. It stores everything else about the videos."""

    root: str = option(
        "",
        "folder of videos that `avssl index` was given; beside data.index: where they are now, if they have moved",
        path="folder",
    )
    name: str = option(
        "${name_of:${data.root}}", "name of the data set, used in the names of output folders", empty=True
    )
    index: str = option("index/${data.name}", "folder that `avssl index` wrote", path="folder")


@dataclass
class IndexedDataConfig(PlacedDataConfig):
    """An index and the names of its splits."""

    train_split: str = option("train", "split to train on; an index without splits is used as a whole")
    test_split: str = option(
        "test",
        "split to report results on; if it is missing, `avssl clusters` uses the validation split, or else the "
        "training split",
    )


@dataclass
class TrainedDataConfig(IndexedDataConfig):
    """The same for a run. Its config.yaml also records how the index probed the videos."""

    features: str = option(
        "",
        "train heads and adapters on stored features, not on videos: a folder that `avssl features` wrote; auto: the "
        "run first extracts them into its own folder; or your own table, .parquet or .npz, with `path` and a column "
        "for each modality",
        path="either",
    )
    views: int = option(
        3, "evenly spaced clips of each video to extract, for data.features=auto", "clips", minimum=1, maximum=1000
    )
    augmented: int = option(
        2, "further clips of each video to extract, augmented, for data.features=auto", "clips", minimum=0, maximum=1000
    )
    reading: ReadingConfig = section(ReadingConfig, "how the index probed the videos", noted=True)
