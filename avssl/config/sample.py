"""The options of the labelled sample."""

from dataclasses import dataclass

from .option import MAX_SEED, option


@dataclass
class SampleConfig:
    """avssl sample"""

    out: str = option("sample", "folder for the videos", path="new folder")
    seed: int = option(0, "random seed: the same seed makes the same videos", minimum=0, maximum=MAX_SEED)
    classes: int = option(10, "number of classes", minimum=2, maximum=10)
    train: int = option(80, "training videos per class", "videos", minimum=1, maximum=10_000)
    test: int = option(30, "test videos per class", "videos", minimum=0, maximum=10_000)
    size: int = option(64, "width and height of the videos", "px", minimum=32, maximum=1024)
    fps: float = option(15.0, "frame rate of the files", "1/s", minimum=1, maximum=120)
    min_seconds: float = option(1.5, "duration of the shortest video", "s", minimum=0.1, maximum=60)
    max_seconds: float = option(2.0, "duration of the longest video", "s", minimum=0.1, maximum=60)
    audio_rate: int = option(24000, "sampling rate of the files", "Hz", minimum=8000, maximum=48_000)
    longtail: float = option(
        0.0, "make class sizes proportional to rank ** -longtail; 0: equal sizes", minimum=0, maximum=10
    )
    ambiguous: bool = option(
        False,
        "some pairs of classes share their sound, others their digit, so that only both modalities together separate "
        "them",
    )
    direction: bool = option(
        False, "digits move up or down, and their pitch rises or falls; this direction is a second label"
    )
    voices: str | None = option(
        None, "folder of <digit>_<voice>.wav files: spoken digits as audio; none: synthesised audio", path="folder"
    )
    distractors: float = option(
        0.0,
        "silent digits of another class beside the one that sounds. Only the audio says which digit sounds. With 0.5, "
        "half of the videos have one",
        "digits",
        minimum=0,
        maximum=1,
    )
    sources: float = option(
        1.0,
        "digits that sound; 2: side by side, of different classes, with their sounds mixed; 1.5: two in half of the "
        "videos",
        "digits",
        minimum=1,
        maximum=2,
    )
    negatives: float = option(
        0.0,
        "share of videos in which nothing visible sounds: a third each with silence (a faint hiss), noise, or the "
        "sound of a digit that is not in the picture",
        minimum=0,
        maximum=1,
    )
    masks: bool = option(False, "also write the pixels of each digit in each frame, in masks/{video}.npz")
    workers: int = option(0, "processes that write videos; 0: one per core", minimum=0, maximum=1024)
