"""`avssl sample`: write a small labelled data set of real video files, to try everything without other data.

The properties of video (handwriting, place, size, colours, background) and of audio (pitch, tempo, loudness, noise)
vary independently. Only the class is common to both.
"""

import csv
import io
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..config import SampleConfig
from ..config.option import check_config
from ..core.atomic import write_text
from ..core.cores import available_cores
from ..core.csv_cells import quoted_row
from ..core.errors import UserError
from ..core.out_folder import claim_folder
from ..core.plurals import many
from ..core.printable import note
from ..core.progress import track
from .picture import render_frames, write_mp4
from .sound import INSTRUMENTS, Voices, find_voices, read_wav, record, speak, synthesise

SPLITS = ("train", "test")
DIRECTIONS = ("falls", "rises")
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
COLUMNS = ("path", "split", "class", "digit", "sound", "direction", "voice", "source", "seconds", "seed")
VERSION = 1  # of the videos' content; a folder with another version is an error


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
    image: np.ndarray  # [8, 8], 0 to 16
    frames: int
    seed: tuple[int, ...]


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
    rules: list[tuple[bool, str]] = [
        (
            not config.ambiguous or config.classes >= 4,
            f"classes={config.classes} with ambiguous=true: two pairs of classes are needed; choose 4 to 10",
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


def plan_videos(config: SampleConfig, root: Path) -> list[SampleVideo]:
    """Plan every video of the sample. The two splits have different handwritten digits, and different voices."""
    from sklearn.datasets import load_digits

    handwriting = load_digits()
    pairs = class_pairs(config)
    voices: Voices | None = None
    if config.voices is not None:
        voices = find_voices(config.voices, sorted({sound for _, sound in pairs}))
    videos = []
    for part, split in enumerate(SPLITS):
        for kind, size in enumerate(class_sizes(config, (config.train, config.test)[part])):
            digit, sound = pairs[kind]
            name = f"digit_{digit}" + (f"_sound_{sound}" if config.ambiguous else "")
            pool = np.flatnonzero(handwriting.target == digit)
            np.random.default_rng([config.seed, digit]).shuffle(pool)
            held_out = len(pool) * 3 // 10
            pool = pool[held_out:] if split == "train" else pool[:held_out]
            for i in range(size):
                seed = (config.seed, part, kind, i)
                rng = np.random.default_rng([*seed, 0])
                # two classes that share a digit begin at different ends of its handwriting
                source = int(pool[i % len(pool)] if (digit, sound) == (digit, digit) else pool[-1 - i % len(pool)])
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
                        image=handwriting.images[source],
                        frames=round(rng.uniform(config.min_seconds, config.max_seconds) * config.fps),
                        seed=seed,
                    )
                )
    return videos


def make_video(video: SampleVideo, config: SampleConfig) -> tuple[np.ndarray, np.ndarray]:
    """Make the content of a video: frames uint8 [n, size, size, 3], and mono samples float32 [m] in [-1, 1].

    With a direction, half of the videos are made in the other direction, and then their frames and samples are
    reversed. Only the direction itself can therefore distinguish a video from a reversed one.
    """
    video_rng, audio_rng, path_rng = (np.random.default_rng([*video.seed, stream]) for stream in (1, 2, 3))
    seconds = video.frames / config.fps
    height = glide = None
    if video.direction:
        low, high, bend = path_rng.uniform(0.0, 0.15), path_rng.uniform(0.85, 1.0), path_rng.uniform(-0.25, 0.25)
        rises = (video.direction == "rises") != video.backwards

        def climb(t: np.ndarray) -> np.ndarray:
            progress = t + bend * t * (1 - t)
            return low + (high - low) * (progress if rises else 1 - progress)

        height = climb((np.arange(video.frames) + 0.5) / video.frames)
        glide = 18 * (climb(np.linspace(0, 1, round(seconds * config.audio_rate))) - 0.5)
    frames = render_frames(video_rng, video.image, video.frames, config.size, config.fps, height)
    if video.recording is None:
        wave = synthesise(audio_rng, INSTRUMENTS[video.sound], seconds, config.audio_rate, glide)
    else:
        wave = speak(audio_rng, read_wav(video.recording), seconds, config.audio_rate, glide)
    samples = record(audio_rng, wave, config.audio_rate)
    return (frames[::-1], samples[::-1]) if video.backwards else (frames, samples)


def write_video(video: SampleVideo, config: SampleConfig) -> None:
    """Make a video and write its file."""
    write_mp4(video.path, *make_video(video, config), fps=config.fps, audio_rate=config.audio_rate)


def write_all(videos: list[SampleVideo], config: SampleConfig) -> Iterator[None]:
    """Write the videos, in several processes if that is faster, and yield after each."""
    workers = min(config.workers or available_cores(), 1 + len(videos) // 32)
    if workers == 1:
        for video in videos:
            write_video(video, config)
            yield
        return
    try:
        # spawned, because a forked child of a process with threads (torch's) may hang
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(write_video, videos, [config] * len(videos), chunksize=8)
    except BrokenProcessPool as error:
        raise UserError("a process that wrote videos has ended: repeat the command, perhaps with workers=1") from error


def settings_of(config: SampleConfig) -> dict[str, Any]:
    """The settings that determine a sample's videos."""
    options = {key: value for key, value in asdict(config).items() if key not in ("out", "workers")}
    return {"version": VERSION, **options}


def write_labels(root: Path, videos: list[SampleVideo], config: SampleConfig) -> None:
    """Write labels.csv: a row for each video, with its path relative to the folder."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    for v in videos:
        seconds, seed = round(v.frames / config.fps, 4), "-".join(map(str, v.seed))
        path = v.path.relative_to(root).as_posix()
        rows.writerow(
            quoted_row((path, v.split, v.kind, v.digit, v.sound, v.direction, v.voice, v.source, seconds, seed))
        )
    write_text(root / "labels.csv", table.getvalue())


def make_sample(config: SampleConfig) -> Path:
    """Write `{out}/{split}/{class}/{name}.mp4`, `labels.csv` and `sample.json`.

    The same options make the same videos, with any number of processes. To resume an interrupted command, repeat it:
    it keeps the existing videos.

    Returns:
        The folder.

    Raises:
        UserError: an option is out of range, or the folder contains something else.
    """
    check_options(config)
    root = Path(config.out)
    count = sum(sum(class_sizes(config, largest)) for largest in (config.train, config.test))
    note(f"making {many(count, 'video')} in {root}")  # before planning, which may take seconds
    videos = plan_videos(config, root)
    claim_folder(root, "sample.json", "a sample", settings_of(config))
    for folder in {video.path.parent for video in videos}:
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*.mp4"):  # by a command that was killed
            unfinished.unlink()
    missing = [video for video in videos if not video.path.is_file()]
    started = time.monotonic()
    for _ in track(write_all(missing, config), "sample videos", len(missing)):
        pass
    write_labels(root, videos, config)
    kept = f", {len(videos) - len(missing)} existed" if len(missing) < len(videos) else ""
    print(f"{many(len(missing), 'video')} written in {time.monotonic() - started:.0f} s{kept}: {root}")
    return root
