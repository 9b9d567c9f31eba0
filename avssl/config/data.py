"""The videos: where they are, how they are indexed, and which index a command reads."""

from dataclasses import dataclass
from typing import Any

from .dataset_card import DatasetCard
from .option import DAY, MISSING, description, option, section

NO_INDEX = "index/"
"""`data.index` where neither an index nor a folder of videos is given."""

AUTO = "auto"
"""`data.features` of a run that extracts the features itself."""

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
    """Video files, and the meaning of their folders."""

    root: str = option(
        MISSING, "folder of videos: {split}/{class}/{video}, {class}/{video}, or {video} at any depth", path="folder"
    )
    layout: str = option("auto", "meaning of the folders below the root", choices="auto split_class class flat")
    keep_classes: list[str] = option([], "use only these classes; empty: all", unique=True)


@dataclass
class ReadingConfig:
    """How a video is probed, and when it is rejected. New videos are read with the options of the run's index."""

    extensions: list[str] = _extensions()
    window_seconds: float | None = option(
        None, "cut each video into windows of this length; each is a training item", "s", minimum=0.01, maximum=DAY
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
    """All options of `avssl index` about the videos."""

    index: str = option("index/${data.name}", "folder to write the index to", path="folder")
    require_sound: bool = option(
        True, "reject videos that are silent or have no audio; use false to train a video encoder alone"
    )
    annotations: str | None = option(
        None,
        "official split files: their folder, or one file; none: splits and classes come from the folders",
        path="either",
    )
    format: str = option(
        "none", "format of the split files; data=<data set> sets it",
        choices="none ucf101 hmdb51 vggsound kinetics ave audioset",
    )  # fmt: skip
    fold: int = option(1, "number of the official split, for data=ucf101 and data=hmdb51", minimum=1, maximum=100)
    trimmed: str = option(
        "auto",
        "are files already cut to their annotated segment? auto: decided by name and length; never: files are whole "
        "videos",
        choices="auto always never",
    )
    card: DatasetCard = description(DatasetCard)


@dataclass
class ExaminedDataConfig:
    """The index that `avssl doctor` examines."""

    root: str = option("", "folder of videos, indexed first; empty: use the index as it is", path="folder")
    name: str = option("${name_of:${data.root}}", "name of the data set", empty=True)
    index: str = option("index/${data.name}", "folder that `avssl index` writes", path="folder")


@dataclass
class PlacedDataConfig:
    """An index. All else about the videos is stored in it."""

    root: str = option("", "folder of the videos; empty: the folder that the index names", path="folder")
    name: str = option("${name_of:${data.root}}", "name of the data set, used in output folders", empty=True)
    index: str = option("index/${data.name}", "folder that `avssl index` wrote", path="folder")


@dataclass
class IndexedDataConfig(PlacedDataConfig):
    """An index and the names of its splits."""

    train_split: str = option("train", "split to train on; an index without splits is used in full")
    test_split: str = option(
        "test", "split to report on; if it is missing, the validation split, else the training split"
    )


@dataclass
class TrainedDataConfig(IndexedDataConfig):
    """The same for a run, whose config.yaml also records how the index read the videos."""

    features: str = option(
        "",
        "train heads and adapters on features, not on videos: a folder that `avssl features` wrote; auto: the run "
        "extracts them first, into its own folder; or a table made elsewhere, .parquet or .npz, with `path` and a "
        "column for each modality",
        path="either",
    )
    views: int = option(
        3, "clips of each video, evenly spaced, for data.features=auto", "clips", minimum=1, maximum=1000
    )
    augmented: int = option(
        2, "augmented clips of each video beside these, for data.features=auto", "clips", minimum=0, maximum=1000
    )
    reading: ReadingConfig = section(ReadingConfig, "how the index read the videos", noted=True)
