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
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..config import SampleConfig
from ..core.atomic import read_json, write_text
from ..core.cores import available_cores
from ..core.csv_cells import quoted_row
from ..core.errors import UserError
from ..core.out_folder import OTHER_FOLDER, claim_folder
from ..core.plurals import many
from ..core.printable import note
from ..core.progress import track
from .boxes import VISIBLE, box_table, mask_path, tight_boxes, write_masks
from .pair import digit_in_half, halves
from .picture import moving_digit, render_frames, write_mp4
from .plan import ADDED, SampleVideo, Writing, as_noted, check_options, class_sizes, plan_videos, settings_of
from .sound import INSTRUMENTS, read_wav, record, speak, synthesise

COLUMNS = (
    "path", "split", "class", "digit", "sound", "direction", "voice", "source", "seconds", "seed",
    "distractor", "second", "negative",
)  # fmt: skip

HISS = 10 ** (-50 / 20)
"""RMS of silence. `avssl index` keeps it; it would reject digital silence."""


@dataclass(frozen=True)
class Climb:
    """The height of a digit, and of its pitch, over a video with a direction: in [0, 1]."""

    low: float
    high: float
    bend: float
    rises: bool

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """The height at times in [0, 1]."""
        progress = t + self.bend * t * (1 - t)
        return self.low + (self.high - self.low) * (progress if self.rises else 1 - progress)


def climb_of(video: SampleVideo) -> Climb | None:
    """How a video's digit rises or falls; None without a direction."""
    if not video.direction:
        return None
    rng = np.random.default_rng([*video.seed, 3])
    low, high, bend = rng.uniform(0.0, 0.15), rng.uniform(0.85, 1.0), rng.uniform(-0.25, 0.25)
    return Climb(low, high, bend, (video.direction == "rises") != video.backwards)


class Picture:
    """The frames of a video, and the masks of its digits. Masks alone take a small part of the time."""

    def __init__(self, video: SampleVideo, config: SampleConfig) -> None:
        self._video, self._config = video, config
        self._rng = np.random.default_rng([*video.seed, 1])
        shape = video.frames, config.size, config.fps
        self._digits: list[tuple[np.ndarray, np.random.Generator]] = []
        if video.second is None:
            if video.first_visible:
                climb = climb_of(video)
                height = None if climb is None else climb((np.arange(video.frames) + 0.5) / video.frames)
                self._digits.append((moving_digit(self._rng, video.image, *shape, height), self._rng))
            return
        places = halves(np.random.default_rng([*video.seed, 5]), config.size)
        images = (video.image, video.second.image)
        for number, visible in enumerate((video.first_visible, video.second_visible)):
            if visible:
                rng = np.random.default_rng([*video.seed, 6 + number])
                self._digits.append((digit_in_half(rng, images[number], places[number], *shape), rng))

    def masks(self) -> np.ndarray:
        """The pixels of each digit with its rim, in the order of `SampleVideo.digits`: bool [digits, n, size, size]."""
        size = self._config.size
        masks = np.zeros((len(self._digits), self._video.frames, size, size), bool)
        for mask, ((_, rim), _) in zip(masks, self._digits, strict=True):
            np.greater_equal(rim, VISIBLE, out=mask)
        return masks[:, ::-1] if self._video.backwards else masks

    def frames(self) -> np.ndarray:
        """The frames, uint8 [n, size, size, 3]. Call it once: the random numbers go on."""
        video, config = self._video, self._config
        frames = render_frames(self._rng, self._digits, video.frames, config.size, config.fps, video.background)
        return frames[::-1] if video.backwards else frames


def make_audio(video: SampleVideo, config: SampleConfig) -> np.ndarray:
    """Make the mono samples of a video, float32 [m] in [-1, 1]."""
    rng, seconds = np.random.default_rng([*video.seed, 2]), video.frames / config.fps
    n = round(seconds * config.audio_rate)
    if video.negative == "silence":
        return (HISS * rng.standard_normal(n)).astype(np.float32)
    if video.negative == "noise":
        return record(rng, rng.standard_normal(n), config.audio_rate)
    climb = climb_of(video)
    glide = None if climb is None else 18 * (climb(np.linspace(0, 1, n)) - 0.5)

    def play(sound: int, recording: Path | None) -> np.ndarray:
        if recording is None:
            return synthesise(rng, INSTRUMENTS[sound], seconds, config.audio_rate, glide)
        return speak(rng, read_wav(recording), seconds, config.audio_rate, glide)

    wave = play(video.sound, video.recording)
    if video.second is not None and video.second.sound is not None:
        pair = (wave, play(video.second.sound, video.second.recording))
        first, second = (one / (np.sqrt(np.mean(one**2)) + 1e-9) for one in pair)
        wave = first + second * 10 ** (rng.uniform(-3, 3) / 20)
    samples = record(rng, wave, config.audio_rate)
    return samples[::-1] if video.backwards else samples


def make_video(video: SampleVideo, config: SampleConfig) -> tuple[np.ndarray, np.ndarray]:
    """Make the content of a video: frames uint8 [n, size, size, 3], and mono samples float32 [m] in [-1, 1].

    With a direction, half of the videos are made in the other direction, and then their frames and samples are
    reversed. Only the direction itself can therefore distinguish a video from a reversed one.
    """
    return Picture(video, config).frames(), make_audio(video, config)


def write_video(video: SampleVideo, config: SampleConfig, root: Path, new: bool) -> np.ndarray:
    """Write a video's file and masks, if they are missing.

    Args:
        video: the video.
        config: the options.
        root: the folder of the sample.
        new: the video's file is missing.

    Returns:
        The boxes of its digits, float64 [digits, frames, 4].
    """
    picture = Picture(video, config)
    masks = picture.masks()
    if config.masks and not (path := mask_path(root, video)).is_file():
        write_masks(path, video, masks)
    if new:
        samples = make_audio(video, config)
        write_mp4(video.path, picture.frames(), samples, fps=config.fps, audio_rate=config.audio_rate)
    return tight_boxes(masks)


def write_all(videos: list[SampleVideo], new: list[bool], config: SampleConfig, root: Path) -> Iterator[np.ndarray]:
    """Write the videos that are new, in several processes if that is faster, and yield the boxes of each video."""
    workers = min(config.workers or available_cores(), 1 + len(videos) // 32)
    if workers == 1:
        for video, missing in zip(videos, new, strict=True):
            yield write_video(video, config, root, missing)
        return
    count = len(videos)
    try:
        # spawned, because a forked child of a process with threads (torch's) may hang
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(write_video, videos, [config] * count, [root] * count, new, chunksize=8)
    except BrokenProcessPool as error:
        raise UserError("a process that wrote videos has ended: repeat the command, perhaps with workers=1") from error


def claim_sample(root: Path, config: SampleConfig) -> None:
    """Make the folder, or raise UserError if it has other videos."""
    settings: dict[str, Any] = settings_of(config)
    if (root / "sample.json").is_file():
        before = read_json(root / "sample.json", f"remove {root}, or {OTHER_FOLDER}")
        # what this sample leaves out at its default, and that one has
        settings |= {key: as_noted(key, getattr(config, key)) for key in ADDED if key in before}
    claim_folder(root, "sample.json", "a sample", settings)


def label_row(root: Path, video: SampleVideo, config: SampleConfig) -> list[Any]:
    """A video's row of labels.csv. The cells of what is not seen, or not heard, are empty."""
    v, second = video, video.second
    seen = (v.digit, v.source) if v.first_visible else ("", "")
    heard = (v.sound, v.voice) if v.negative not in ("silence", "noise") else ("", "")
    beside = "" if second is None or not v.second_visible else second.kind
    source = second is not None and second.sound is not None
    return quoted_row(
        (
            v.path.relative_to(root).as_posix(), v.split, v.kind, seen[0], heard[0], v.direction, heard[1], seen[1],
            round(v.frames / config.fps, 4), "-".join(map(str, v.seed)),
            "" if source else beside, beside if source else "", v.negative,
        )
    )  # fmt: skip


def write_labels(root: Path, videos: list[SampleVideo], config: SampleConfig) -> None:
    """Write labels.csv: a row for each video, with its path relative to the folder."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(label_row(root, video, config) for video in videos)
    write_text(root / "labels.csv", table.getvalue())


def make_sample(config: SampleConfig, writing: Writing | None = None) -> Path:
    """Write `{out}/{split}/{class}/{name}.mp4`, `labels.csv`, `boxes.csv` and `sample.json`; with `masks`, masks too.

    The same options make the same videos, with any number of processes. To resume an interrupted command, repeat it:
    it keeps the existing videos, and adds the boxes and masks that are missing.

    Args:
        config: the options.
        writing: the images of digits; None for handwriting. A folder holds videos of one of them.

    Returns:
        The folder.

    Raises:
        UserError: an option is out of range, or the folder contains something else.
    """
    check_options(config)
    root = Path(config.out)
    count = sum(sum(class_sizes(config, largest)) for largest in (config.train, config.test))
    note(f"making {many(count, 'video')} in {root}")  # before planning, which may take seconds
    videos = plan_videos(config, root, writing)
    claim_sample(root, config)
    for folder in {video.path.parent for video in videos}:
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*.mp4"):  # by a command that was killed
            unfinished.unlink()
    for unfinished in (root / "masks").rglob(".*.npz"):
        unfinished.unlink()
    new = [not video.path.is_file() for video in videos]
    without_masks = [config.masks and not mask_path(root, video).is_file() for video in videos]
    boxes_missing = not (root / "boxes.csv").is_file()
    todo = [number for number in range(len(videos)) if boxes_missing or new[number] or without_masks[number]]
    started = time.monotonic()
    with box_table(root, config.fps) if boxes_missing else nullcontext() as add:
        boxes = write_all([videos[number] for number in todo], [new[number] for number in todo], config, root)
        for number, found in zip(todo, track(boxes, "sample videos", len(todo)), strict=True):
            if add is not None:
                add(videos[number], found)
    write_labels(root, videos, config)
    kept = f", {len(videos) - sum(new)} existed" if not all(new) else ""
    print(f"{many(sum(new), 'video')} written in {time.monotonic() - started:.0f} s{kept}: {root}")
    return root
