"""Transcode a file for training: small H.264 frames with frequent key frames, mono AAC, and the same times."""

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
"""Tick of the frames' time stamps (s)."""

PRESET = "veryfast"


@dataclass(frozen=True)
class TranscodeRequest:
    """The file `source` to transcode to the file `target`; the options are those of `avssl prepare`."""

    source: Source
    target: str
    short_side: int
    gop: int
    crf: int
    audio_rate: int
    audio_bitrate: int


def transcode(request: TranscodeRequest) -> dict[str, Any]:
    """Write `target` as mp4. It raises no exception, and keeps only a few frames in memory.

    Both streams keep their times since the source's start of presentation, even if its frame rate is variable. Frames
    are turned upright, get square pixels, and are scaled down to `short_side` (px); audio is mixed as for clips.

    Returns:
        seconds and bytes of the target; or reason and detail if the source cannot be read; or reason "unwritable",
        detail and errno if the target cannot be written.
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
    except Exception as error:  # a damaged file must not affect other files
        return {"reason": "unreadable", "detail": f"{type(error).__name__}: {error}"[:200]}


class _Unwritable(Exception):
    """The target cannot be written; the source is not the cause."""

    def __init__(self, error: BaseException):
        self.number = getattr(error, "errno", None)
        super().__init__(getattr(error, "strerror", None) or str(error) or type(error).__name__)


class _Target:
    """The output container. Its errors become `_Unwritable`, to distinguish them from errors of the source."""

    def __init__(self, request: TranscodeRequest):
        ticks = lcm(CLOCK.denominator, request.audio_rate)  # otherwise the streams' starts are rounded to milliseconds
        options = {"movflags": "faststart", "movie_timescale": str(ticks if ticks < 2**31 else CLOCK.denominator)}
        self.held: list[Any] | None = []  # audio before the first frame, whose size the header needs
        try:
            self.container = av.open("file:" + request.target, "w", format="mp4", options=options)
        except MEDIA_ERRORS as error:
            raise _Unwritable(error) from None

    def begin(self) -> None:
        """Write the packets so far; call this once everything in the header is known."""
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
    """Transcode the open file, and return the seconds written."""
    target = _Target(request)
    done = False
    try:
        video, audio = _VideoEncoder(media, target, request), _AudioEncoder(media, target, request)
        for packet in media.packets():
            if packet.stream.type == "video":
                if media.shown(packet):
                    video.end = max(video.end, media.span(packet)[1] or 0.0)
                video.add(media.decode(packet, media.video))
            else:
                audio.add(media.decode_sound(packet))
        video.add(media.decode(None, media.video))
        audio.add(media.decode_sound(None))
        video.finish()
        audio.finish()
        done = True
    finally:
        try:
            target.close()
        except _Unwritable:
            if done:
                raise
    written, expected = max(video.end, audio.end), promised_seconds(media)
    if written < 0.9 * expected - 0.5:
        raise ClipError(f"unreadable: breaks off at {written:.1f} of {expected:.1f} s")
    return written


class _VideoEncoder:
    """Encodes frames to H.264 with the same presentation times."""

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
        self.waiting: Any = None  # a packet whose duration is not known yet
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
    """A frame of yuv420p with even sides, turned plane by plane, so that its colours do not change."""
    turned = av.VideoFrame(*orientation.size(frame.width, frame.height), "yuv420p")
    for source, target in zip(frame.planes, turned.planes, strict=True):
        plane = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)[: source.height, : source.width]
        image = np.zeros((target.height, target.line_size), np.uint8)
        image[:, : target.width] = orientation.apply(plane)
        target.update(image.tobytes())
    return turned


class _AudioEncoder:
    """Encodes audio to AAC without gaps: gaps become silence, and of overlapping audio the later part is cut."""

    def __init__(self, media: Media, target: _Target, request: TranscodeRequest):
        self.media, self.target, self.rate = media, target, request.audio_rate
        options = {"aac_pns": "0"}  # without noise substitution, which replaces the recording's noise
        self.stream: Any = target.container.add_stream("aac", rate=self.rate, layout="mono", options=options)
        self.stream.bit_rate = request.audio_bitrate
        self.resampler: Any = None
        self.own_rate = 0
        self.run_end = 0.0  # time of the run's next sample (s)
        self.skip = 0  # samples to drop, because audio for their time was written already
        self.start: int | None = None  # time of the first sample written (samples)
        self.written = 0

    @property
    def end(self) -> float:
        """Time of the next sample (s)."""
        return ((self.start or 0) + self.written) / self.rate

    def add(self, sound: list[tuple[float | None, int, np.ndarray]]) -> None:
        for time, rate, samples in sound:
            samples = np.clip(np.nan_to_num(samples), -1, 1)  # float PCM may contain NaN and infinite samples
            if time is None:
                time = self.run_end
            if self.resampler is None or rate != self.own_rate or abs(time - self.run_end) >= JITTER:
                self._begin(time, rate)
            self.run_end += len(samples) / self.own_rate
            part = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            part.sample_rate = self.own_rate
            self._put(self.resampler.resample(part))

    def _begin(self, time: float, rate: int) -> None:
        """Begin a run at `time` (s), with silence before it, or without its first samples if it overlaps."""
        self._flush()
        at = round(time * self.rate)
        if self.start is None:
            self.start = max(0, at)
        gap = at - self.start - self.written
        if gap > LONGEST_GAP * self.rate:
            raise ClipError(f"unreadable: its audio has a gap of {gap / self.rate:.0f} s")
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
        """Encode samples float32 [n], and return their number."""
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
    """The duration in a file's header (s); 0 if there is none, or the file cannot be opened. It raises no exception."""
    try:
        with media_errors(), Media(source) as media:
            return max(0.0, promised_seconds(media))
    except Exception:
        return 0.0
