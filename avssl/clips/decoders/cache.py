"""Short videos decoded once and kept in memory: most of the time of training on small files is decoding them anew."""

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
    """All frames of a file, ascending in time (s), as FFmpeg decoded them, how they are shown, until when (s) the last
    one is, and all its sound."""

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
        """How the frames are shown."""
        return self.shown


class DecodedCache:
    """What one process keeps, up to `megabytes`. The first files stay: files come in another order in each pass, and
    dropping the oldest for the newest would seldom leave one where it is asked for again."""

    def __init__(self, megabytes: float):
        self.left = megabytes * 1e6
        self.files: dict[Key, Decoded | None] = {}

    def read(self, source: Source, wanted: list[ClipSpan], short_side: int, limit: float | None = None) -> list[Clip]:
        """As `pyav.read`, with the same frames; sound is equal but for the rounding of its decoder, which begins
        elsewhere."""
        key = _key(source, wanted)
        if key is None:
            return pyav.read(source, wanted, short_side, limit)
        if key not in self.files:
            self.files[key] = found = self._decode(source, key, limit)
            self.left -= found.bytes if found else 0
        decoded = self.files[key]
        if decoded is None:
            return pyav.read(source, wanted, short_side, limit)
        return pyav.replay(decoded, wanted, short_side)

    def _decode(self, source: Source, key: Key, limit: float | None) -> Decoded | None:
        """None for a file that does not fit, does not say how long it is, or cannot be read."""
        *_, pictures, sound = key
        try:
            with media_errors(), Media(source, sound, limit) as media:
                if not _bytes(media) <= self.left:
                    return None
                return _decoded(media, pictures, sound)
        except ClipError:
            return None  # reading the clip tells what is wrong


def _key(source: Source, wanted: list[ClipSpan]) -> Key | None:
    """The file as it is now, and which of its streams are needed; None where it is not there."""
    try:
        now = Path(file_of(source)).stat()
    except OSError:
        return None
    needs = (any(w.spec.frames for w in wanted), any(w.spec.samples for w in wanted))
    return source if isinstance(source, Member) else str(source), now.st_size, now.st_mtime_ns, *needs


def _bytes(media: Media) -> float:
    """About what a file takes when it is decoded."""
    if media.container.duration is None:
        return float("inf")
    picture = 1.5 * media.video.codec_context.width * media.video.codec_context.height
    rate = media.audio.codec_context.sample_rate if media.audio is not None else 0
    return media.container.duration / av.time_base * (picture / media.period + 4 * rate)


def _decoded(media: Media, pictures: bool, heard: bool) -> Decoded:
    found = Decoded([], [], media.sound(), media.period, 0)

    def take(packet: Any | None) -> None:
        for frame in media.decode(packet, media.video):
            time = media.frame_time(frame, media.video)
            if time is None:
                time = found.times[-1] + media.period if found.times else 0.0
            if not found.times or time > found.times[-1]:
                found.times.append(time)
                found.frames.append(frame)
                found.bytes += sum(plane.buffer_size for plane in frame.planes)

    streams = ([media.video] if pictures else []) + ([media.audio] if heard else [])
    for packet in media.packets(*streams):
        if packet.stream is media.video:
            if media.shown(packet):
                found.until = max(found.until, media.span(packet)[1] or 0.0)
            take(packet)
        else:
            media.hear(packet, found.sound, media.span(packet))
    if pictures:
        take(None)
        found.shown = media.display(found.frames[0]) if found.frames else None
    if heard:
        media.hear(None, found.sound)
    found.sound.join()
    found.bytes += sum(samples.nbytes for _, _, (samples,) in found.sound.runs)
    return found


_here: DecodedCache | None = None


def process_cache(megabytes: float, anew: bool = False) -> DecodedCache:
    """This process's, of all its data sets; the first to ask, or who asks for it `anew`, sets how much is kept."""
    global _here
    if _here is None or anew:
        _here = DecodedCache(megabytes)
    return _here
