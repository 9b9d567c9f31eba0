"""The pictures in which objects are found: picture files, and frames of videos that may be silent."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ..clips.decode import read_clips
from ..config import FilesConfig
from ..core.errors import ClipError, UserError
from ..videos.files import list_files
from ..videos.probe import ProbeRequest, probe
from ..videos.source import Source
from ..videos.storage import open_storage
from .frame_reader import STILL, TIMEOUT

PICTURES = ("jpg", "jpeg", "png", "webp")

EVERY = 1.0
"""Time between two frames of a video in which objects are found, s."""

FRAMES = 4, 60
"""Fewest and most frames of a video."""

MOST_PIXELS = 1 << 27
"""Pictures with more pixels are left out: they would fill the memory."""

NARROWEST = 64
"""Pictures whose long side is more than this many times the short one are left out: scaled to the sides that a detector
takes, they would have no pixel across."""

WHOLE = float("nan")
"""The time of a picture."""


class Shown(NamedTuple):
    """A picture or a frame: its file, its time (s; NaN for a picture), pixels uint8 [h, w, 3], and size (px)."""

    path: str
    time: float
    pixels: np.ndarray
    width: int
    height: int


class Media(NamedTuple):
    """A file in which objects are found: its name in the tables, and its source."""

    name: str
    source: Source


def find_media(path: str, extensions: Sequence[str]) -> list[Media]:
    """The pictures and videos of a folder or of its tar shards, sorted by path, or the single file.

    Raises:
        UserError: the folder contains none, or the file is neither.
    """
    endings = [*PICTURES, *extensions]
    if os.path.isdir(path):
        try:
            files = list_files(FilesConfig(root=path, name="", extensions=endings))
        except UserError as error:
            if "there are no videos" not in str(error):
                raise UserError(str(error).replace("data.root=", "videos=")) from None
            raise UserError(
                f"there are no pictures or videos in {path}: no file ends in {', '.join('.' + x for x in endings)}"
            ) from None
        storage = open_storage(path)
        return [Media(file.path, storage.locate(file.path)) for file in files]
    if Path(path).suffix.lower().lstrip(".") not in {x.lower().lstrip(".") for x in endings}:
        raise UserError(
            f"videos={path} is neither a picture ({', '.join(PICTURES)}) nor a video ({', '.join(extensions)})"
        )
    return [Media(Path(path).name, Path(path))]


def read_media(media: Media, side: int) -> Iterator[Shown]:
    """The picture, or evenly spaced frames of the video, scaled to the short side `side` (px).

    Raises:
        ClipError: the file cannot be read; the message gives the reason.
    """
    if Path(media.name).suffix.lower().lstrip(".") in PICTURES:
        yield _picture(media, side)
        return
    times, size = _times(media)
    try:
        for start in range(0, len(times), 16):
            block = times[start : start + 16]
            clips = read_clips(media.source, block, STILL, side, limit=TIMEOUT)
            for time, clip in zip(block, clips, strict=True):
                yield Shown(media.name, time, np.ascontiguousarray(clip.frames[0]), *size)
    except OSError as error:
        raise ClipError(f"unreadable: {error.strerror or error}") from None


def _times(media: Media) -> tuple[list[float], tuple[int, int]]:
    """The times of the frames of a video (s), and its width and height (px)."""
    probed = probe(ProbeRequest(media.source, False, -60.0))
    if "reason" in probed:
        raise ClipError(f"{probed['reason']}: {probed.get('detail') or ''}".rstrip(": "))
    first, last = probed["video_start"], probed["video_end"]
    number = min(max(round((last - first) / EVERY), FRAMES[0]), FRAMES[1], max(1, int(probed["frames"])))
    times = [first + (k + 0.5) / number * (last - first) for k in range(number)]
    return times, (int(probed["width"]), int(probed["height"]))


def _picture(media: Media, side: int) -> Shown:
    try:
        if not isinstance(media.source, Path):
            raise ClipError("unreadable: a picture in a tar file")
        with Image.open(media.source, formats=("JPEG", "PNG", "WEBP")) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ClipError(f"unreadable: {width} × {height} pixels are too many")
            if max(width, height) > NARROWEST * min(width, height):
                raise ClipError(f"unreadable: {width} × {height} pixels are too narrow")
            image.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except ClipError:
        raise
    except Exception as error:  # PIL raises anything on a damaged file
        raise ClipError(f"unreadable: {(str(error).splitlines() or [type(error).__name__])[0][:200]}") from None
    if (upright.width > upright.height) != (width > height):
        width, height = height, width
    scale = side / min(upright.size)
    if scale < 1:
        size = [max(1, round(x * scale)) for x in upright.size]
        upright = upright.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    return Shown(media.name, WHOLE, np.array(upright), width, height)
