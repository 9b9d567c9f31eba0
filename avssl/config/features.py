"""The options of `avssl features`."""

from dataclasses import dataclass

from .clip import ClipConfig
from .data import PlacedDataConfig
from .model import MODALITIES, ModelConfig, trusted
from .option import DAY, DEVICE, MAX_SEED, option, section


@dataclass
class FeaturesConfig:
    """avssl features"""

    data: PlacedDataConfig = section(PlacedDataConfig, "the index; none: the run's own")
    clip: ClipConfig = section(ClipConfig, "the frames and audio of a clip")
    model: ModelConfig = section(ModelConfig, "the encoders and their weights")
    run: str = option("", "instead of model.* and clip.*: the encoders and clips of a run", path="run")
    trust: list[str] = trusted()
    modalities: list[str] = option(["video", "audio"], "modalities to encode", choices=MODALITIES, unique=True)
    views: int = option(
        1, "clips of each video, evenly spaced; an odd number has the middle one", "clips", minimum=1, maximum=1000
    )
    every: float = option(
        0.0, "instead of views: a clip each so many seconds, with its time; 0: views", "s", minimum=0, maximum=DAY
    )
    augmented: int = option(
        0, "random clips of each video beside these, augmented as in training", "clips", minimum=0, maximum=1000
    )
    out: str = option(
        "", "folder to write; empty: features/<name of the data>; repeat the command to resume", path="new folder"
    )
    seed: int = option(
        0, "random seed of augmented clips, and of encoders without a start", minimum=0, maximum=MAX_SEED
    )
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    precision: str = option(
        "auto", "number format; auto: bfloat16 autocast on GPUs that support it", choices="auto float32 bfloat16"
    )
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0: the cores that decoding leaves free", minimum=0, maximum=1024
    )
