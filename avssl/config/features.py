"""The options of `avssl features`."""

from dataclasses import dataclass

from .clip import ClipConfig
from .data import PlacedDataConfig
from .launch import PartsConfig, parts_section
from .model import MODALITIES, ModelConfig, trusted
from .option import DAY, MAX_SEED, device_option, option, section, threads_option, workers_option


@dataclass
class FeaturesConfig:
    """avssl features"""

    data: PlacedDataConfig = section(PlacedDataConfig, "the index; by default that of the run")
    clip: ClipConfig = section(ClipConfig, "the frames and the audio of a clip, their augmentation and decoding")
    model: ModelConfig = section(ModelConfig, "the encoders and their weights")
    run: str = option("", "instead of model.* and clip.*: a run folder, whose encoders and clips are used", path="run")
    trust: list[str] = trusted()
    modalities: list[str] = option(["video", "audio"], "modalities to encode", choices=MODALITIES, unique=True)
    views: int = option(
        1, "evenly spaced clips per video; an odd number includes the middle clip", "clips", minimum=1, maximum=1000
    )
    every: float = option(
        0.0,
        "instead of views: time from one clip to the next, each stored with its time; 0: use views",
        "s",
        minimum=0,
        maximum=DAY,
    )
    augmented: int = option(
        0, "further clips per video, at random times and augmented as in training", "clips", minimum=0, maximum=1000
    )
    out: str = option(
        "",
        "folder for the features; empty: features/<name of the data>; repeat the command to resume",
        path="new folder",
    )
    seed: int = option(
        0, "random seed of augmented clips, and of encoders without starting weights", minimum=0, maximum=MAX_SEED
    )
    device: str = device_option()
    precision: str = option(
        "auto",
        "number format of the encoders' arithmetic; auto: bfloat16 autocast on GPUs that support it, else float32",
        choices="auto float32 bfloat16",
    )
    workers: int = workers_option()
    threads: int = threads_option()
    launch: PartsConfig = parts_section()
