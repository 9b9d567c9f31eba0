"""The properties of every video of the sample, decided before any is made."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..config import SampleConfig
from ..config.option import check_config
from ..core.errors import UserError
from .sound import Voices, find_voices

SPLITS = ("train", "test")
DIRECTIONS = ("falls", "rises")
NEGATIVES = ("silence", "noise", "offscreen")
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
VERSION = 1  # of the videos' content; a folder with another version is an error
NOT_OF_VIDEOS = ("out", "masks", "workers")
"""Options that do not change the videos."""

ADDED = ("distractors", "sources", "negatives")
"""Options that older samples lack: `sample.json` leaves out their defaults."""

WHOLE = ("distractors", "sources")
"""Options that were whole numbers in older samples: `sample.json` writes them so where they still are."""


@dataclass(frozen=True)
class SecondDigit:
    """The digit beside a video's first one: a distractor, or a second source."""

    kind: str  # name of the class
    digit: int
    source: int  # the row of the handwritten digit in scikit-learn's load_digits
    image: np.ndarray  # [8, 8], 0 to 16
    sound: int | None  # None: a distractor
    recording: Path | None


@dataclass(frozen=True)
class SampleVideo:
    """The properties that determine a video."""

    path: Path
    split: str
    kind: str  # name of the class
    digit: int
    sound: int
    direction: str  # "rises", "falls", or "" for a free path
    backwards: bool  # made in the other direction, then reversed
    voice: str
    recording: Path | None
    source: int  # the row of the handwritten digit in scikit-learn's load_digits
    image: np.ndarray  # [8, 8], or another square whose side divides 48, 0 to 16
    frames: int
    seed: tuple[int, ...]
    second: SecondDigit | None = None
    background: str = "shapes"  # one of picture.BACKGROUNDS
    negative: str = ""  # one of NEGATIVES, or "" if the digit is seen and heard

    @property
    def first_visible(self) -> bool:
        """Whether the digit of the class is in the picture."""
        return self.negative != "offscreen"

    @property
    def second_visible(self) -> bool:
        """Whether there is a second digit in the picture. A second source is off screen together with the first."""
        return self.second is not None and (self.second.sound is None or self.first_visible)

    @property
    def digits(self) -> list[tuple[int, str, bool]]:
        """The digits in the picture: their digit, the name of their class, and whether they sound."""
        heard = not self.negative
        first = [(self.digit, self.kind, heard)] if self.first_visible else []
        if self.second is None or not self.second_visible:
            return first
        return [*first, (self.second.digit, self.second.kind, heard and self.second.sound is not None)]


def class_pairs(config: SampleConfig) -> list[tuple[int, int]]:
    """The (digit, sound) of every class, where a sound is the number of an instrument or a spoken digit.

    With `ambiguous`, classes 0 and 1 share a sound, 2 and 3 a digit, 4 and 5 a sound, and so on.
    """
    pairs = [(k, k) for k in range(config.classes)]
    if config.ambiguous:
        for first in range(0, config.classes - 1, 2):
            shared = pairs[first]
            by_sound = first % 4 == 0
            pairs[first + 1] = (first + 1, shared[1]) if by_sound else (shared[0], first + 1)
    return pairs


def class_sizes(config: SampleConfig, largest: int) -> list[int]:
    """The number of videos of every class: largest * rank ** -longtail, at least 2."""
    smallest = min(2, largest)
    return [max(smallest, round(largest * rank**-config.longtail)) for rank in range(1, config.classes + 1)]


def check_options(config: SampleConfig) -> None:
    """Raise UserError for options that are out of bounds, contradict each other, or do not fit the file formats."""
    check_config(config)
    beside = f"distractors={config.distractors:g}" if config.distractors else f"sources={config.sources:g}"
    two = config.distractors + config.sources > 1
    rules: list[tuple[bool, str]] = [
        (
            not config.ambiguous or config.classes >= 4,
            f"classes={config.classes} with ambiguous=true: two pairs of classes are needed; choose 4 to 10",
        ),
        (
            round(config.distractors + config.sources, 9) <= 2,
            f"distractors={config.distractors:g} with sources={config.sources:g}: a picture has room for two digits; "
            "leave one of them out, or mix videos of both with distractors=0.5 sources=1.5",
        ),
        (
            not two or config.classes >= 3,
            f"{beside} with classes={config.classes}: every video would show the same two classes; choose 3 to 10",
        ),
        (
            not two or not config.ambiguous,
            f"{beside} with ambiguous=true: two digits may then have one sound; leave one of them out",
        ),
        (
            not two or not config.direction,
            f"{beside} with direction=true: a picture of two digits has no room to rise or fall; leave one of them out",
        ),
        (config.size % 2 == 0, f"size={config.size}: H.264 needs an even side; choose an even number"),
        (
            config.min_seconds <= config.max_seconds,
            f"min_seconds={config.min_seconds:g} is above max_seconds={config.max_seconds:g}: make it smaller",
        ),
        (
            config.min_seconds * config.fps >= 1,
            f"fps={config.fps:g} leaves no frame in min_seconds={config.min_seconds:g}: make either larger",
        ),
        (config.audio_rate in RATES, f"audio_rate={config.audio_rate}: choose one of {', '.join(map(str, RATES))}"),
    ]
    for holds, message in rules:
        if not holds:
            raise UserError(message)


def settings_of(config: SampleConfig) -> dict[str, Any]:
    """The settings that determine a sample's videos. Options that older samples lack are left out at their defaults."""
    default = SampleConfig()
    options = {
        key: as_noted(key, value)
        for key, value in asdict(config).items()
        if key not in NOT_OF_VIDEOS and not (key in ADDED and value == getattr(default, key))
    }
    return {"version": VERSION, **options}


def as_noted(key: str, value: Any) -> Any:
    """The value of an option as `sample.json` writes it."""
    return int(value) if key in WHOLE and value == int(value) else value


class Writing(Protocol):
    """Images of digits, each written for one of the two splits."""

    background: str

    def image(self, row: int) -> np.ndarray:
        """The image of a row: [8, 8] or another square whose side divides 48, 0 to 16."""
        ...

    def pool(self, digit: int, split: str) -> np.ndarray:
        """The rows of a digit for a split: int [n]."""
        ...


class Handwriting:
    """scikit-learn's handwritten digits. The two splits have different ones."""

    background = "shapes"

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        self.images, self._targets, self._seed = data.images, data.target, seed

    def image(self, row: int) -> np.ndarray:
        """The image of a row, [8, 8]."""
        return self.images[row]

    def pool(self, digit: int, split: str) -> np.ndarray:
        """The rows of a digit for a split, shuffled: int [n]."""
        pool = np.flatnonzero(self._targets == digit)
        np.random.default_rng([self._seed, digit]).shuffle(pool)
        held_out = len(pool) * 3 // 10
        return pool[held_out:] if split == "train" else pool[:held_out]


def second_digit(
    rng: np.random.Generator, config: SampleConfig, kind: int, split: str, writing: Writing,
    voices: Voices | None, sounds: bool,
) -> SecondDigit:  # fmt: skip
    """Choose the digit beside the first one: of another class, and as frequent as that class is in the sample.

    Args:
        rng: the random numbers.
        config: the options.
        kind: the number of the first digit's class.
        split: "train" or "test".
        writing: the images of digits.
        voices: the spoken digits, if digits are spoken.
        sounds: whether it is a second source, not a distractor.
    """
    weights = np.arange(1, config.classes + 1) ** -config.longtail
    weights[kind] = 0
    digit = int(rng.choice(config.classes, p=weights / weights.sum()))
    source = int(rng.choice(writing.pool(digit, split)))
    recording = voices.choose(rng, digit, split)[1] if voices and sounds else None
    return SecondDigit(f"digit_{digit}", digit, source, writing.image(source), digit if sounds else None, recording)


def plan_videos(config: SampleConfig, root: Path, writing: Writing | None = None) -> list[SampleVideo]:
    """Plan every video of the sample. The two splits have different handwritten digits, and different voices.

    Args:
        config: the options.
        root: the folder of the sample.
        writing: the images of digits; None for handwriting.
    """
    writing = writing or Handwriting(config.seed)
    pairs = class_pairs(config)
    voices: Voices | None = None
    if config.voices is not None:
        voices = find_voices(config.voices, sorted({sound for _, sound in pairs}))
    beside = round(config.distractors + config.sources - 1, 9)
    videos = []
    for part, split in enumerate(SPLITS):
        for kind, size in enumerate(class_sizes(config, (config.train, config.test)[part])):
            digit, sound = pairs[kind]
            name = f"digit_{digit}" + (f"_sound_{sound}" if config.ambiguous else "")
            pool = writing.pool(digit, split)
            for i in range(size):
                seed = (config.seed, part, kind, i)
                rng, scene_rng = (np.random.default_rng([*seed, stream]) for stream in (0, 4))
                # two classes that share a digit begin at different ends of its handwriting
                source = int(pool[i % len(pool)] if (digit, sound) == (digit, digit) else pool[-1 - i % len(pool)])
                second = None
                drawn = (
                    np.random.default_rng([*seed, 8]).random() if beside else 1.0
                )  # the other streams stay as they were
                if drawn < beside:
                    # both digits are drawn from the same handwriting, so that it does not tell which one sounds
                    source = int(scene_rng.choice(pool))
                    second = second_digit(scene_rng, config, kind, split, writing, voices, drawn >= config.distractors)
                negative = ""
                if config.negatives and scene_rng.random() < config.negatives:
                    negative = NEGATIVES[scene_rng.integers(len(NEGATIVES))]
                voice, recording = voices.choose(rng, sound, split) if voices else ("", None)
                videos.append(
                    SampleVideo(
                        path=root / split / name / f"{name}_{i:04d}.mp4",
                        split=split,
                        kind=name,
                        digit=digit,
                        sound=sound,
                        direction=DIRECTIONS[i % 2] if config.direction else "",
                        backwards=bool(rng.random() < 0.5) if config.direction else False,
                        voice=voice,
                        recording=recording,
                        source=source,
                        image=writing.image(source),
                        frames=round(rng.uniform(config.min_seconds, config.max_seconds) * config.fps),
                        seed=seed,
                        second=second,
                        background=writing.background,
                        negative=negative,
                    )
                )
    return videos
