"""A cache of decoded files, because training on small files spends most of its time decoding the same files again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from ...core.errors import ClipError
from ...videos.audio_samples import Sound
from ...videos.media import Media, media_errors
from ...videos.orientation import Display
from ...videos.source import Member, Source, file_of
from . import pyav
from .span import Clip, ClipSpan

Key = tuple[Source, int, int, bool, bool]


@dataclass
class Decoded:
    """All frames and all audio of a file.

    Args:
        times: times of the frames, ascending, s.
        frames: the frames as FFmpeg decoded them.
        sound: the audio.
        period: duration of a frame, s.
        bytes: memory that frames and audio take.
        until: end of the last frame, s.
        shown: how the frames are displayed.
    """

    times: list[float]
    frames: list[Any]
    sound: Sound
    period: float
    bytes: float
    until: float = 0.0
    shown: Display | None = None
    video: None = None
    audio: None = None

    def display(self, frame: Any) -> Display | None:
        """How a frame is displayed, like `Media.display`."""
        return self.shown


class DecodedCache:
    """The decoded files of one process, up to `megabytes`.

    The first files stay. Each pass has another order, so replacing the oldest files by the newest would remove most
    files before they are read again.
    """

    def __init__(self, megabytes: float):
        self.left = megabytes * 1e6
        self.files: dict[Key, Decoded | None] = {}

    def read(self, source: Source, spans: list[ClipSpan], short_side: int, limit: float | None = None) -> list[Clip]:
        """The clips of a file, with the frames of `pyav.read`. Audio may differ by rounding, because its decoder
        starts at another place."""
        key = _key(source, spans)
        if key is None:
            return pyav.read(source, spans, short_side, limit)
        if key not in self.files:
            self.files[key] = new = self._decode(source, key, limit)
            self.left -= new.bytes if new else 0
        decoded = self.files[key]
        if decoded is None:
            return pyav.read(source, spans, short_side, limit)
        return pyav.replay(decoded, spans, short_side)

    def _decode(self, source: Source, key: Key, limit: float | None) -> Decoded | None:
        """The decoded file; None if it does not fit, has no duration, or cannot be read."""
        *_, with_frames, with_audio = key
        try:
            with media_errors(), Media(source, with_audio, limit) as media:
                if not _bytes(media) <= self.left:
                    return None
                return _decoded(media, with_frames, with_audio)
        except ClipError:
            return None  # `pyav.read` will raise the error again


def _key(source: Source, spans: list[ClipSpan]) -> Key | None:
    """The file with its size and time, and the needed streams; None if there is no such file."""
    try:
        status = Path(file_of(source)).stat()
    except OSError:
        return None
    needs = (any(span.spec.frames for span in spans), any(span.spec.samples for span in spans))
    return source if isinstance(source, Member) else str(source), status.st_size, status.st_mtime_ns, *needs


def _bytes(media: Media) -> float:
    """An estimate of a decoded file's size; infinite without a duration."""
    if media.container.duration is None:
        return float("inf")
    frame_bytes = 1.5 * media.video.codec_context.width * media.video.codec_context.height
    rate = media.audio.codec_context.sample_rate if media.audio is not None else 0
    return media.container.duration / av.time_base * (frame_bytes / media.period + 4 * rate)


def _decoded(media: Media, with_frames: bool, with_audio: bool) -> Decoded:
    result = Decoded([], [], media.sound(), media.period, 0)

    def add_frames(packet: Any | None) -> None:
        for frame in media.decode(packet, media.video):
            time = media.frame_time(frame, media.video)
            if time is None:
                time = result.times[-1] + media.period if result.times else 0.0
            if not result.times or time > result.times[-1]:
                result.times.append(time)
                result.frames.append(frame)
                result.bytes += sum(plane.buffer_size for plane in frame.planes)

    streams = ([media.video] if with_frames else []) + ([media.audio] if with_audio else [])
    for packet in media.packets(*streams):
        if packet.stream is media.video:
            if media.shown(packet):
                result.until = max(result.until, media.span(packet)[1] or 0.0)
            add_frames(packet)
        else:
            media.hear(packet, result.sound, media.span(packet))
    if with_frames:
        add_frames(None)
        result.shown = media.display(result.frames[0]) if result.frames else None
    if with_audio:
        media.hear(None, result.sound)
    result.sound.join()
    result.bytes += sum(samples.nbytes for _, _, (samples,) in result.sound.runs)
    return result


_cache: DecodedCache | None = None


def process_cache(megabytes: float, reset: bool = False) -> DecodedCache:
    """The cache of this process, which all its data sets share. The first call, or a call with `reset`, creates it and
    sets its size."""
    global _cache
    if _cache is None or reset:
        _cache = DecodedCache(megabytes)
    return _cache
