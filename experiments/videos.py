"""The data sets of the plan: the sample, typefaces with synthetic words, the sample with voices; and their parts."""

import csv
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avssl.config import DataConfig, IndexConfig, SampleConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.sample.picture import write_mp4
from avssl.sample.plan import Writing, check_options, plan_videos
from avssl.sample.videos import make_sample, make_video
from avssl.videos.index import index_videos
from experiments.options import TypefacesConfig
from experiments.typefaces import Typefaces, write_words

SAMPLE, TYPEFACES, VOICES = SETS = ("sample", "typefaces", "voices")

NOISE_DB = 10.0
"""Of the noise over the words where `noisy` makes audio the weak modality, relative to the word."""


@dataclass(frozen=True)
class Videos:
    """The videos of a training: of which set, with which options of `avssl sample`, and which part of them."""

    of: str
    options: tuple[tuple[str, Any], ...]
    seed: int
    noisy: bool = False
    """The words are drowned in noise; of typefaces."""
    digits: tuple[int, ...] = ()
    """Only these classes; empty: all."""
    few: int = 0
    """Training videos of each class; 0: all."""
    joined: bool = False
    """The training videos are one long file, cut into windows; held-out videos are as they are."""

    @property
    def whole(self) -> "Videos":
        """Those that these are a part of."""
        return replace(self, digits=(), few=0, joined=False)

    @property
    def name(self) -> str:
        """The name of their folder."""
        parts = [f"{k}-{v}" for k, v in self.options] + (["noisy"] if self.noisy else [])
        parts += [f"digits-{''.join(map(str, self.digits))}"] if self.digits else []
        parts += [f"few-{self.few}"] if self.few else []
        parts += ["joined"] if self.joined else []
        return re.sub(r"[^\w-]", "-", "_".join([self.of, *parts, f"seed{self.seed}"]))


def sample_config(videos: Videos) -> SampleConfig:
    """The options of `avssl sample`. UserError for a wrong one."""
    config = compose_config("sample", SampleConfig, [f"{k}={v}" for k, v in videos.options])
    config.seed = videos.seed
    check_options(config)
    return config


def make_videos(out: Path, videos: Videos, voices: str, workers: int) -> tuple[DataConfig, DataConfig]:
    """Make and index videos unless they are there.

    Args:
        out: the folder of the experiments.
        videos: which.
        voices: the folder of recordings, for the set `voices`.
        workers: processes; 0: one per core.

    Returns:
        What to train on, and what to evaluate on.
    """
    config = sample_config(videos)
    config.workers = workers
    root = out / "samples" / videos.whole.name
    config.out = str(root)
    writing: Writing | None = None
    if videos.of == TYPEFACES:
        writing = Typefaces(videos.seed)
        words = out / "words" / f"seed{videos.seed}{'_noisy' if videos.noisy else ''}"
        write_words(words, videos.seed, noise_db=NOISE_DB if videos.noisy else None)
        config.voices = str(words)
    elif videos.of == VOICES:
        config.voices = voices
    make_sample(config, writing)
    if videos.digits or videos.few:
        root = cut(root, out / "samples" / replace(videos, joined=False).name, videos.digits, videos.few)
    data = indexed(root, "sample", workers)
    if not videos.joined:
        return data, data
    long = out / "samples" / videos.name
    write_long(long / "train" / "long.mp4", config, root, writing)
    return indexed(long, "long", workers, config.max_seconds), data


def indexed(root: Path, name: str, workers: int, window: float | None = None) -> DataConfig:
    """The index of a folder of videos, made if it is not there."""
    data = DataConfig(root=str(root), name=name, index=f"{root}_index", window_seconds=window)
    index_videos(IndexConfig(data, workers=workers))
    return data


def cut(root: Path, to: Path, digits: tuple[int, ...], few: int) -> Path:
    """Link a part of a sample to a folder of its own: of some digits, and of the training split the first few."""
    with (root / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not digits or int(row["digit"] or -1) in digits]
    taken: dict[str, int] = {}
    for row in rows:
        folder = str(Path(row["path"]).parent)
        taken[folder] = taken.get(folder, 0) + 1
        there = to / row["path"]
        if (few and row["split"] == "train" and taken[folder] > few) or there.exists():
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(root / row["path"], there)
        except OSError:  # a file system without links
            shutil.copyfile(root / row["path"], there)
    return to


def write_long(path: Path, config: SampleConfig, root: Path, writing: Writing | None) -> None:
    """Write the training videos of a sample, in random order, as one long file, unless it is there."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    videos = [video for video in plan_videos(config, root, writing) if video.split == "train"]
    order = np.random.default_rng([config.seed, 16]).permutation(len(videos))
    made = [make_video(videos[i], config) for i in order]
    frames, samples = (np.concatenate([part[k] for part in made]) for k in (0, 1))
    write_mp4(path, frames, samples, fps=config.fps, audio_rate=config.audio_rate)


def check_videos(videos: Videos) -> None:
    """Raise UserError for options that do not fit."""
    sample_config(videos)
    if videos.noisy and videos.of != TYPEFACES:
        raise UserError(f"noisy is of {TYPEFACES} alone: only its words are synthetic")
    if videos.joined and (videos.digits or videos.few):
        raise UserError("joined takes all training videos: leave digits and few out")


def write_typefaces(config: TypefacesConfig) -> None:
    """`python -m experiments typefaces`: the second data set, and its words in `<out>_words`."""
    words = write_words(Path(f"{config.out}_words"), config.seed, noise_db=NOISE_DB if config.noisy else None)
    sample = SampleConfig(
        out=config.out, seed=config.seed, train=config.train, test=config.test, voices=str(words),
        workers=config.workers,
    )  # fmt: skip
    make_sample(sample, Typefaces(config.seed))
