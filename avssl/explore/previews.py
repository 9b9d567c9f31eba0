"""Previews of videos for the explorer: a short loop with audio, a frame and a spectrogram."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from PIL import Image

from ..clips.decode import ClipSpec, read_clips
from ..clips.spectrogram import LogMel
from ..config import ClipConfig
from ..core.atomic import atomic_path
from ..core.errors import ClipError
from ..core.journal import Journal
from ..core.progress import track
from ..core.safe_paths import below
from ..sample.picture import write_mp4
from ..videos.journal_entries import is_preview
from ..videos.source import Source
from ..videos.workers import Lost, run_isolated

VERSION = 2  # raise it when the decoding of previews changes: all are then made again
JOURNAL = "previews.jsonl"
FPS, RATE, SIDE, SECONDS = 15, 24000, 144, 2.0
TIMEOUT = 60.0  # s
PICTURE, SOUND, FILE = {"crf": "30", "preset": "veryfast"}, {"b": "48k"}, {"movflags": "faststart"}
KINDS = (".mp4", ".jpg", ".png")


class Preview(NamedTuple):
    """A preview to make: `seconds` of a video from `start` (s), written to `target` with each of the `KINDS`."""

    source: Source
    start: float
    seconds: float
    sound: bool
    target: str


class Stretch(NamedTuple):
    """What a preview shows: `seconds` from `start` (s) of the video at `path` in the index, with its file's stamp."""

    path: str
    size: int  # bytes
    mtime_ns: int
    start: float
    seconds: float


def stretch(start: float, length: float, clip_seconds: float) -> tuple[float, float]:
    """Start and length of the preview of a window, s.

    The preview is in the middle of the window, like the labelled clip. It lasts two seconds, or as long as the clip if
    that is longer, but at most as long as the window.
    """
    seconds = min(max(SECONDS, clip_seconds), length)
    return start + (length - seconds) / 2, seconds


def make_preview(preview: Preview) -> str:
    """Write the preview's files. Returns the reason if they cannot be made, else an empty text."""
    seconds = max(preview.seconds, 1 / FPS)
    spec = ClipSpec(max(1, int(seconds * FPS)), FPS, RATE, seconds if preview.sound else 0.0)
    try:
        (clip,) = read_clips(preview.source, [preview.start], spec, SIDE)
        target = Path(preview.target)
        height, width = (n - n % 2 for n in clip.frames.shape[1:3])
        frames = np.ascontiguousarray(clip.frames[:, :height, :width])
        samples = clip.samples if preview.sound else None
        write_mp4(target.with_suffix(".mp4"), frames, samples, FPS, RATE, PICTURE, SOUND, FILE)
        _write_image(target.with_suffix(".jpg"), Image.fromarray(frames[len(frames) // 2]), quality=82)
        if preview.sound:
            _write_image(target.with_suffix(".png"), spectrogram_image(clip.samples), optimize=True)
    except (ClipError, av.FFmpegError, OSError, ValueError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return ""


def _write_image(path: Path, image: Image.Image, **options: object) -> None:
    with io.BytesIO() as buffer, atomic_path(path) as part:
        image.save(buffer, "PNG" if path.suffix == ".png" else "JPEG", **options)
        part.write_bytes(buffer.getvalue())


COLOURS = np.array([(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)], float)
"""Dark to bright in perceptually even steps, also for colour-blind users."""


def spectrogram_image(samples: np.ndarray) -> Image.Image:
    """The log-mel spectrogram of samples float32 [n] at `RATE`: 64 bands, low ones at the bottom, a pixel per 10 ms."""
    bands = LogMel(ClipConfig(audio_rate=RATE, mels=64))(torch.from_numpy(samples)[None])[0, 0].numpy()
    low, high = np.percentile(bands, [2, 99.5])
    level = np.clip((bands[::-1] - low) / max(high - low, 1e-6), 0, 1) * (len(COLOURS) - 1)
    rgb = np.stack([np.interp(level, np.arange(len(COLOURS)), COLOURS[:, c]) for c in range(3)], -1)
    return Image.fromarray(rgb.astype(np.uint8)).quantize(64)


def make_previews(
    folder: Path,
    wanted: dict[str, Preview],
    stamps: dict[str, list],
    workers: int,
    tell: Callable[[str, str], None] = lambda name, why: None,
) -> dict[str, str]:
    """Make missing previews, and remove those that are no longer needed.

    A file that hangs or crashes a process loses only its own preview.

    Args:
        folder: the folder of previews.
        wanted: the previews, by name below `folder`.
        stamps: path, size and modification time of each preview's file, by name; if they change, it is made again.
        workers: number of decoding processes.
        tell: called with the name of each preview and an empty text, or the reason why it is missing.

    Returns:
        The reason for each missing preview, by name.
    """
    below(folder.parent, f"{folder.name}/x", writing=True)  # a link there must not lead the removal elsewhere
    folder.mkdir(parents=True, exist_ok=True)
    with Journal(folder / JOURNAL, VERSION, is_preview) as journal:
        todo: dict[Preview, str] = {}
        keys = {name: [*stamps[name], preview.start, preview.seconds] for name, preview in wanted.items()}
        for name, preview in wanted.items():
            entry = journal.get(name) or {}
            done = entry.get("why") or (folder / name).with_suffix(".mp4").is_file()
            if entry.get("of") != keys[name] or not done:
                todo[preview] = name
            else:
                tell(name, entry.get("why") or "")
        _remove(folder, set(wanted))
        for preview in todo:
            Path(preview.target).parent.mkdir(exist_ok=True)
        # Ctrl-C in a terminal also stops the processes; unfinished previews are made the next time
        results = run_isolated(make_preview, todo, min(max(1, workers), max(1, len(todo))), TIMEOUT)
        for preview, result in track(results, "previews", len(todo)) if todo else ():
            why = result.reason if isinstance(result, Lost) else result
            name = todo[preview]
            journal.add(name, {"of": keys[name], "why": why})
            tell(name, why)
        return {name: failed for name in wanted if (failed := (journal.get(name) or {}).get("why"))}


def _remove(folder: Path, wanted: Iterable[str]) -> None:
    keep = set(wanted)
    for path in folder.glob("*/*"):
        name = f"{path.parent.name}/{path.stem}"
        if path.suffix in KINDS and name not in keep:
            path.unlink()


def read_previews(folder: Path) -> dict[str, Stretch]:
    """What each existing preview shows, by its name below `folder`; nothing changes there."""
    path = folder / JOURNAL
    if not path.is_file():
        return {}
    with Journal(path, VERSION, is_preview, read_only=True) as journal:
        entries = {name: journal.get(name) for name in journal.paths() if (folder / name).with_suffix(".mp4").is_file()}
    return {
        name: Stretch(*entry["of"]) for name, entry in entries.items() if entry and not entry["why"] and _whole(entry)
    }


def _whole(entry: dict) -> bool:
    """Does an entry have what a `Stretch` has?"""
    of = entry["of"]
    numbers = all(isinstance(value, int | float) for value in of[1:])
    return len(of) == len(Stretch._fields) and isinstance(of[0], str) and numbers
