"""Decode clips by presentation time, with any decoder: frames and audio that start at the same instant."""

from collections.abc import Callable, Sequence
from importlib import import_module

from ..core.errors import UserError
from ..videos.source import Source
from .decoders import pyav
from .decoders.cache import process_cache
from .decoders.span import Clip, ClipSpan, ClipSpec

__all__ = ["DECODERS", "Clip", "ClipSpec", "choose_decoder", "read_clips"]

Read = Callable[[Source, list[ClipSpan], int, float | None], list[Clip]]
"""The type of a decoder's `read`: (path, spans, short_side, limit in s) → clips in the order of `spans`."""

DECODERS = {
    "pyav": "it needs the package: pip install av",
    "torchcodec": "it needs torch 2.11 or later and FFmpeg's shared libraries: pip install 'avssl[torchcodec]' and, on "
    "Debian or Ubuntu, apt-get install ffmpeg",
    "decord": "it needs the package: pip install 'avssl[decord]'",
}
"""The decoders, each with advice if it cannot be loaded."""


def choose_decoder(name: str) -> str:
    """The decoder that the option `clip.decoder` names, checked to be loadable.

    `auto` is pyav: it is always installed, was the fastest in our measurements (docs/results/speed.md), and gives the
    same pixels on every machine.

    Raises:
        UserError: there is no such decoder, or its package or libraries are missing.
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
    """Decode clips of a file.

    Frame k of a clip is the frame that the file shows at start + k / fps, whatever the file's rate; of frames that
    follow closely, the nearest in time. It is turned upright, given square pixels and scaled to `short_side`. Audio is
    placed by its time stamps, mixed to mono and resampled. A clip may extend past the end of the file by a quarter of
    its frames or half of its audio; it then repeats the last frame, and its audio is zero there.

    All decoders give the same frames, except for rounding in scaling and colour, and the same audio. pyav decodes the
    files that another decoder cannot decode correctly.

    Args:
        path: the file.
        starts: starts of the clips, s since the file's start of presentation.
        spec: length and rates of the clips.
        short_side: short side of the frames, px.
        speeds: clip i plays `speeds[i]` times as fast, with its pitch raised, and covers that much more of the file.
        decoder: one of `DECODERS`, or auto.
        limit: time limit of reading, s.
        cache_mb: memory of this process in which pyav keeps whole decoded files for later clips, MB.

    Returns:
        The clips, in the order of `starts`.

    Raises:
        ClipError: the file cannot be read, lacks video or audio, ends too early for a clip, or takes longer than
            `limit`.
        UserError: there is no such decoder, or it is not installed.
    """
    spans = [
        ClipSpan(start, spec.played(speed)) for start, speed in zip(starts, speeds or [1.0] * len(starts), strict=True)
    ]
    if cache_mb and decoder in ("auto", "pyav"):
        return process_cache(cache_mb).read(path, spans, short_side, limit) if spans else []
    read = _reader("pyav" if decoder == "auto" else decoder)
    return read(path, spans, short_side, limit) if spans else []


def _reader(name: str) -> Read:
    if name == "pyav":
        return pyav.read
    if name not in DECODERS:
        raise UserError(f"there is no decoder {name!r}: choose auto, {', '.join(DECODERS)}")
    try:
        return import_module(f"{__package__}.decoders.{name}").read
    except Exception as error:  # a library with missing or incompatible dependencies may raise anything
        why = (str(error).splitlines() or [type(error).__name__])[0]
        fix = f"{DECODERS[name]}; or use clip.decoder=auto"
        raise UserError(f"the decoder {name} cannot be loaded ({why}): {fix}") from None
