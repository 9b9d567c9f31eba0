"""Clips by presentation time: frames and sound that start at the same instant, from one file, by any decoder."""

from collections.abc import Callable, Sequence
from importlib import import_module

from ..core.errors import UserError
from ..videos.source import Source
from .decoders import pyav
from .decoders.cache import process_cache
from .decoders.span import Clip, ClipSpan, ClipSpec

__all__ = ["DECODERS", "Clip", "ClipSpec", "choose_decoder", "read_clips"]

Read = Callable[[Source, list[ClipSpan], int, float | None], list[Clip]]
"""A decoder's `read`: (path, wanted, short_side, limit in s) → the clips, in the order wanted; raises ClipError."""

DECODERS = {
    "pyav": "it needs the package: pip install av",
    "torchcodec": "it needs torch 2.11 or later and FFmpeg's shared libraries: pip install 'avssl[torchcodec]' and, on "
    "Debian or Ubuntu, apt-get install ffmpeg",
    "decord": "it needs the package: pip install 'avssl[decord]'",
}
"""What to do where a decoder cannot be loaded."""


def choose_decoder(name: str) -> str:
    """The decoder that the option `clip.decoder` stands for, loaded and able to decode.

    `auto` is pyav: it is always there, was the fastest measured (docs/decoding.md), and the same choice on every
    machine makes the same pixels.

    Raises:
        UserError: no such decoder, or its package or libraries are missing.
    """
    name = "pyav" if name == "auto" else name
    _reader(name)
    return name


def read_clips(
    path: Source,
    starts: Sequence[float],
    spec: ClipSpec,
    short_side: int,
    speeds: Sequence[float] | None = None,
    decoder: str = "pyav",
    limit: float | None = None,
    cache_mb: float = 0.0,
) -> list[Clip]:
    """Clips of a file that start at `starts` (s since its start of presentation), in that order.

    Frame k of a clip is the one that the file shows at start + k / fps, whatever the file's rate: of frames that follow
    each other closely, the nearest in time. It is turned upright, given square pixels and scaled to `short_side` (px).
    Sound is placed by its time stamps, mixed to mono and resampled. With `speeds`, clip i plays `speeds[i]` times as
    fast, its sound that much higher: it takes as much more of the file. A clip that runs past the end by a quarter of
    its frames or half of its sound at most holds the last frame, and zeros for the sound.

    `decoder` is one of `DECODERS` or auto. All give the same frames, but for rounding in scaling and colour, and the
    same sound; a file that one cannot do correctly is done by pyav. With `cache_mb`, pyav decodes whole files and keeps
    them, up to as much memory in this process, for the next clips of them.

    Raises:
        ClipError: the file cannot be read, lacks video or sound, ends too early for a clip, or takes longer than
            `limit` (s).
        UserError: no such decoder, or it is not installed.
    """
    wanted = [
        ClipSpan(start, spec.played(speed)) for start, speed in zip(starts, speeds or [1.0] * len(starts), strict=True)
    ]
    if cache_mb and decoder in ("auto", "pyav"):
        return process_cache(cache_mb).read(path, wanted, short_side, limit) if wanted else []
    read = _reader("pyav" if decoder == "auto" else decoder)
    return read(path, wanted, short_side, limit) if wanted else []


def _reader(name: str) -> Read:
    if name == "pyav":
        return pyav.read
    if name not in DECODERS:
        raise UserError(f"no decoder {name!r}: choose auto, {', '.join(DECODERS)}")
    try:
        return import_module(f"{__package__}.decoders.{name}").read
    except Exception as error:  # whatever a library of another build, or without its own libraries, raises
        why = (str(error).splitlines() or [type(error).__name__])[0]
        fix = f"{DECODERS[name]}; or use clip.decoder=auto"
        raise UserError(f"decoder {name} cannot be loaded ({why}): {fix}") from None
