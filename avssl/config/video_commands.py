"""The options of the commands that index, examine, transcode and pack a folder of videos."""

from dataclasses import dataclass

from .data import DataConfig, ExaminedDataConfig, FilesConfig, FoldersConfig
from .launch import PartsConfig, parts_section
from .option import DAY, MAX_SEED, json_option, option, section


@dataclass
class IndexConfig:
    """avssl index"""

    data: DataConfig = section(DataConfig, "the videos")
    clip_seconds: float = option(
        1.0,
        "duration of a clip; the index counts the videos that are too short for two clips at distinct times",
        "s",
        minimum=0,
        maximum=DAY,
    )
    workers: int = option(0, "processes that probe videos; 0: one per core", minimum=0, maximum=1024)
    json: bool = json_option()
    launch: PartsConfig = parts_section()


@dataclass
class DoctorConfig:
    """avssl doctor"""

    data: ExaminedDataConfig = section(ExaminedDataConfig, "the videos")
    duplicates: bool = option(True, "find duplicates, by comparing the contents of files of equal size")
    clip_seconds: float = option(
        1.0,
        "duration of a clip; the report lists videos that are too short for two clips at distinct times",
        "s",
        minimum=0,
        maximum=DAY,
    )
    workers: int = option(0, "processes that probe videos; 0: one per core", minimum=0, maximum=1024)
    json: bool = json_option()


@dataclass
class PrepareConfig:
    """avssl prepare"""

    data: FilesConfig = section(FilesConfig, "the videos")
    out: str = option(
        "prepared/${data.name}", "folder for the smaller copies; repeat the command to resume", path="new folder"
    )
    short_side: int = option(160, "scale larger frames down to this short side", "px", minimum=16, maximum=4096)
    gop: int = option(
        12,
        "frames from one key frame to the next, which a seek decodes at most; fewer make seeks faster and files larger",
        "frames",
        minimum=1,
        maximum=10_000,
    )
    crf: int = option(23, "quality of the frames (CRF): 0 is lossless, 51 is the worst", minimum=0, maximum=51)
    audio_rate: int = option(24000, "sampling rate of the audio, mono", "Hz", minimum=7350, maximum=96_000)
    audio_bitrate: int = option(64000, "bit rate of the audio (AAC)", "bit/s", minimum=8000, maximum=512_000)
    overwrite: bool = option(False, "write every file again; needed after a change of options")
    workers: int = option(0, "processes that transcode videos; 0: one per core", minimum=0, maximum=1024)
    launch: PartsConfig = parts_section()


@dataclass
class ShardConfig:
    """avssl shard"""

    data: FoldersConfig = section(FoldersConfig, "the videos: those that `avssl prepare` wrote, or any others")
    out: str = option(
        "shards/${data.name}", "folder for the tar files; repeat the command to resume", path="new folder"
    )
    shard_mb: float = option(512.0, "size at which the next tar file begins", "MB", minimum=0.001, maximum=1_000_000)
    seed: int = option(0, "random seed of the order of the videos within a split", minimum=0, maximum=MAX_SEED)
    launch: PartsConfig = parts_section()
