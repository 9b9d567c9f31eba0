"""One file written anew for training: small H.264 pictures in short groups, mono AAC, the same clock."""

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..core.errors import ClipError
from .audio_samples import JITTER, LONGEST_GAP
from .media import MEDIA_ERRORS, Media, media_errors
from .orientation import AS_CODED, Display, Orientation, Resizer
from .probe import promised_seconds
from .source import Source

CLOCK = Fraction(1, 90000)
"""Tick of the pictures' time stamps (s)."""

PRESET = "veryfast"


@dataclass(frozen=True)
class TranscodeRequest:
    """`source` to `target`, which is written in place: see `avssl prepare` for the options."""

    source: Source
    target: str
    short_side: int
    gop: int
    crf: int
    audio_rate: int
    audio_bitrate: int


def transcode(request: TranscodeRequest) -> dict[str, Any]:
    """Write `target` as mp4: {"seconds", "bytes"} of it, or {"reason", "detail"} where it could not be written
    ("errno" too, where the target is at fault).

    Both streams keep their times since the source's start of presentation, whatever its container's offsets, and
    frames keep their own, variable or not. Frames are turned upright, get square pixels, and are scaled to `short_side`
    (px) where they are larger; sound is mixed as the decoder of clips does. Raises nothing. Of the file, a few frames
    are in memory.
    """
    try:
        with media_errors(), Media(request.source) as media:
            seconds = _write(media, request)
        return {"seconds": round(seconds, 3), "bytes": Path(request.target).stat().st_size}
    except _Unwritable as error:
        return {"reason": "unwritable", "detail": str(error), "errno": error.number}
    except ClipError as error:
        reason, _, detail = str(error).partition(": ")
        return {"reason": reason, "detail": detail}
    except Exception as error:  # whatever a damaged file provokes costs that file alone
        return {"reason": "unreadable", "detail": f"{type(error).__name__}: {error}"[:200]}


class _Unwritable(Exception):
    """The target's folder is at fault, not the source."""

    def __init__(self, error: BaseException):
        self.number = getattr(error, "errno", None)
        super().__init__(getattr(error, "strerror", None) or str(error) or type(error).__name__)


class _Target:
    """The container that is written. Its errors are `_Unwritable`, apart from the source's."""

    def __init__(self, request: TranscodeRequest):
        ticks = lcm(CLOCK.denominator, request.audio_rate)  # or the streams' starts would be rounded to milliseconds
        options = {"movflags": "faststart", "movie_timescale": str(ticks if ticks < 2**31 else CLOCK.denominator)}
        self.held: list[Any] | None = []  # sound before the first picture, whose size the header needs
        try:
            self.container = av.open("file:" + request.target, "w", format="mp4", options=options)
        except MEDIA_ERRORS as error:
            raise _Unwritable(error) from None

    def begin(self) -> None:
        """All is known that the header tells."""
        held, self.held = self.held or [], None
        self.mux(held)

    def mux(self, packets: list[Any]) -> None:
        if self.held is not None:
            self.held += packets
            return
        try:
            self.container.mux(packets)
        except MEDIA_ERRORS as error:
            raise _Unwritable(error) from None

    def close(self) -> None:
        try:
            self.container.close()
        except MEDIA_ERRORS as error:
            raise _Unwritable(error) from None


def _write(media: Media, request: TranscodeRequest) -> float:
    """Seconds written."""
    target = _Target(request)
    done = False
    try:
        picture, sound = _Picture(media, target, request), _Sound(media, target, request)
        for packet in media.packets():
            if packet.stream.type == "video":
                if media.shown(packet):
                    picture.end = max(picture.end, media.span(packet)[1] or 0.0)
                picture.add(media.decode(packet, media.video))
            else:
                sound.add(media.decode_sound(packet))
        picture.add(media.decode(None, media.video))
        sound.add(media.decode_sound(None))
        picture.finish()
        sound.finish()
        done = True
    finally:
        try:
            target.close()
        except _Unwritable:
            if done:
                raise
    there, expected = max(picture.end, sound.end), promised_seconds(media)
    if there < 0.9 * expected - 0.5:
        raise ClipError(f"unreadable: breaks off at {there:.1f} of {expected:.1f} s")
    return there


class _Picture:
    """Decoded frames to packets of H.264, each presented when it was."""

    def __init__(self, media: Media, target: _Target, request: TranscodeRequest):
        self.media, self.target, self.request = media, target, request
        rate = Fraction(1 / media.period).limit_denominator(1001)
        options = {"crf": str(request.crf), "preset": PRESET, "tune": "fastdecode", "sc_threshold": "0", "bf": "0"}
        self.stream: Any = target.container.add_stream("libx264", rate=rate, options=options)
        self.stream.codec_context.time_base = CLOCK
        self.stream.codec_context.thread_count = 1  # the callers run one process per core
        self.stream.gop_size, self.stream.pix_fmt = request.gop, "yuv420p"
        self.display: Display | None = None
        self.size = (0, 0)  # of the frames, before they are turned
        self.resize = Resizer()
        self.last = -1  # time of the newest frame (ticks)
        self.waiting: Any = None  # a packet, until it is known how long it is shown
        self.end = 0.0

    def add(self, frames: list[Any]) -> None:
        for frame in frames:
            time = self.media.frame_time(frame, self.media.video)
            if time is None:
                time = self.last * float(CLOCK) + self.media.period if self.last >= 0 else 0.0
                self.end = time + self.media.period
            ticks = max(0, round(time / CLOCK))
            if ticks <= self.last:
                continue
            self.last = ticks
            packets = self.stream.encode(self._upright(frame, ticks))
            if self.target.held is not None:
                self.target.begin()
            self._put(packets)

    def finish(self) -> None:
        if self.last < 0:
            raise ClipError("unreadable: no frame can be decoded")
        self._put(self.stream.encode(None))
        self.waiting.duration = max(1, round(self.end / CLOCK) - self.last)
        self.target.mux([self.waiting])

    def _put(self, packets: list[Any]) -> None:
        for packet in packets:
            if self.waiting is not None:
                self.waiting.duration = packet.pts - self.waiting.pts
                self.target.mux([self.waiting])
            self.waiting = packet

    def _upright(self, frame: Any, ticks: int) -> Any:
        if self.display is None:
            self.display = self.media.display(frame)
            sides = self.display.unturned(frame.width, frame.height)
            scale = min(1.0, self.request.short_side / min(sides))
            width, height = (2 * max(1, round(side * scale / 2 - 0.01)) for side in sides)
            self.size = (width, height)
            context = self.stream.codec_context
            context.width, context.height = self.display.orientation.size(width, height)
            for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
                setattr(context, tag, getattr(frame, tag))
        small = self.resize(frame, self.size, "yuv420p")
        if self.display.orientation != AS_CODED:
            small = _oriented(small, self.display.orientation)
        small.pts, small.time_base, small.pict_type = ticks, CLOCK, 0
        return small


def _oriented(frame: Any, orientation: Orientation) -> Any:
    """A frame of yuv420p with even sides, as shown: plane by plane, so that its colours stay."""
    turned = av.VideoFrame(*orientation.size(frame.width, frame.height), "yuv420p")
    for source, target in zip(frame.planes, turned.planes, strict=True):
        plane = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)[: source.height, : source.width]
        image = np.zeros((target.height, target.line_size), np.uint8)
        image[:, : target.width] = orientation.apply(plane)
        target.update(image.tobytes())
    return turned


class _Sound:
    """Decoded sound to packets of AAC, without a hole: silence where there is none, the later of what overlaps cut."""

    def __init__(self, media: Media, target: _Target, request: TranscodeRequest):
        self.media, self.target, self.rate = media, target, request.audio_rate
        options = {"aac_pns": "0"}  # noise that the decoder makes up is not the recording's
        self.stream: Any = target.container.add_stream("aac", rate=self.rate, layout="mono", options=options)
        self.stream.bit_rate = request.audio_bitrate
        self.resampler: Any = None
        self.own_rate = 0
        self.run_end = 0.0  # where the run's next sample is due (s)
        self.skip = 0  # samples to be dropped, which are there already
        self.start: int | None = None  # time of the first sample written (samples)
        self.written = 0

    @property
    def end(self) -> float:
        """Where the next sample is due (s)."""
        return ((self.start or 0) + self.written) / self.rate

    def add(self, sound: list[tuple[float | None, int, np.ndarray]]) -> None:
        for time, rate, samples in sound:
            samples = np.clip(np.nan_to_num(samples), -1, 1)  # float PCM can hold anything
            if time is None:
                time = self.run_end
            if self.resampler is None or rate != self.own_rate or abs(time - self.run_end) >= JITTER:
                self._begin(time, rate)
            self.run_end += len(samples) / self.own_rate
            part = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            part.sample_rate = self.own_rate
            self._put(self.resampler.resample(part))

    def _begin(self, time: float, rate: int) -> None:
        """A run that starts at `time` (s), silence before it, or its start dropped where sound is there already."""
        self._flush()
        at = round(time * self.rate)
        if self.start is None:
            self.start = max(0, at)
        gap = at - self.start - self.written
        if gap > LONGEST_GAP * self.rate:
            raise ClipError(f"unreadable: its sound has a hole of {gap / self.rate:.0f} s")
        self.skip = max(0, -gap)
        while gap > 0:
            gap -= self._encode(np.zeros(min(gap, self.rate), np.float32))
        self.resampler = av.AudioResampler(format="flt", layout="mono", rate=self.rate)
        self.own_rate, self.run_end = rate, time

    def _flush(self) -> None:
        if self.resampler is not None:
            self._put(self.resampler.resample(None))
            self.resampler = None

    def _put(self, frames: list[Any]) -> None:
        for frame in frames:
            samples = frame.to_ndarray()[0]
            dropped = min(self.skip, len(samples))
            self.skip -= dropped
            if dropped < len(samples):
                self._encode(samples[dropped:])

    def _encode(self, samples: np.ndarray) -> int:
        """How many samples: all of float32 [n]."""
        assert self.start is not None
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "fltp", "mono")
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        frame.pts = self.start + self.written
        self.written += len(samples)
        self.target.mux(self.stream.encode(frame))
        return len(samples)

    def finish(self) -> None:
        self._flush()
        if not self.written:
            raise ClipError("unreadable: no sound can be decoded")
        self.target.mux(self.stream.encode(None))


def header_seconds(source: Source) -> float:
    """How long a file says it is (s); 0 where it does not say, or cannot be opened. Raises nothing."""
    try:
        with media_errors(), Media(source) as media:
            return max(0.0, promised_seconds(media))
    except Exception:
        return 0.0
