"""An open video file: its two streams, its clock, and its sound as mono runs placed by presentation time."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import gcd
from time import monotonic
from typing import Any

import av
import numpy as np
import soxr
from av.video.reformatter import VideoReformatter

from ..errors import ClipError
from .source import Source, url

MEDIA_ERRORS = (av.error.FFmpegError, OSError, ValueError, EOFError, OverflowError, RuntimeError, MemoryError)
"""What PyAV raises on bad data."""

MOST_PIXELS = 67_000_000
"""Pictures of more pixels than this are refused (8K video has half): decoders keep a dozen of them."""

LONGEST_SIDE = 32
"""Pictures longer than this many times their short side are refused: scaled to a short side they fill the memory."""

JITTER = 0.005
"""Sound whose time stamps stray less than this (s) from the count of samples is one run: Matroska rounds to 1 ms."""


@contextmanager
def media_errors() -> Iterator[None]:
    """Errors of FFmpeg, the file system and bad data become ClipError("unreadable: why")."""
    try:
        yield
    except MEDIA_ERRORS as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ClipError(f"unreadable: {str(why).splitlines()[0]}") from None


class Media:
    """A video file, open at its beginning. Close it, or use it as a context.

    Times are seconds since the container's start of presentation, the earliest of its streams' starts. Without
    `need_sound`, `audio` is None where there is no sound. With `limit`, reading and decoding end with a ClipError once
    the file has been open for that long (s).

    Raises:
        ClipError: "unreadable: why", "no video" or "no sound". Later reads raise PyAV's own errors: see `media_errors`.
    """

    def __init__(self, path: Source, need_sound: bool = True, limit: float | None = None):
        self.url, self.need_sound, self.limit = url(path), need_sound, limit
        self._deadline = monotonic() + (limit or float("inf"))
        self.origin = 0.0
        with media_errors():
            self._open()

    def _open(self) -> None:
        try:
            self.container = av.open(self.url, metadata_errors="replace", timeout=self.limit)
        except av.error.ExitError:
            raise ClipError(f"took longer than {self.limit:g} s") from None
        self.at_start = True
        try:
            self.video: Any = _pick(self.container.streams.video, "no video")
            there = self.need_sound or len(self.container.streams.audio) > 0
            self.audio: Any = _pick(self.container.streams.audio, "no sound") if there else None
        except ClipError:
            self.container.close()
            raise
        check_picture(self.video.codec_context.width, self.video.codec_context.height)
        self.video.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # the stream's own headers may differ
        self.streams = [stream for stream in (self.video, self.audio) if stream is not None]
        for stream in self.streams:
            stream.codec_context.thread_count = 1  # the callers run one process per core
            stream.codec_context.thread_type = "NONE"
        start = self.container.start_time
        if start is None:
            starts = [s.start_time * s.time_base for s in self.streams if s.start_time is not None]
            self.origin = float(min(starts, default=0))
        else:
            self.origin = start / av.time_base
        self._tick = {stream.index: float(stream.time_base) for stream in self.streams}
        self.period = 1 / float(self.video.average_rate or self.video.guessed_rate or 25)

    def __enter__(self) -> "Media":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.container.close()

    def seek(self, time: float) -> bool:
        """Go to the video key frame at or before `time` (s), as far as the format can. False: to the beginning."""
        if time > 0:
            try:
                self.container.seek(int((time + self.origin) / self._tick[self.video.index]), stream=self.video)
                self.at_start = False
                return True
            except MEDIA_ERRORS:
                self.at_start = False
        if not self.at_start:
            self.close()
            self._open()
        return False

    def key_between(self, after: float, until: float) -> bool:
        """Is there a video key frame after `after` and not after `until` (s)? True where the file does not say."""
        entries = getattr(self.video, "index_entries", None)  # an older PyAV has none
        tick = self._tick[self.video.index]
        if not entries or entries[len(entries) - 1].timestamp * tick - self.origin < until:
            return True  # the index may be of what has been read so far
        place = entries.search_timestamp(int((until + self.origin) / tick))
        return place >= 0 and entries[place].timestamp * tick - self.origin > after

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Packets of `streams` (default: both) in file order; data that breaks off ends them."""
        self.at_start = False
        demuxed: Any = self.container.demux(*(streams or self.streams))
        try:
            while True:
                self._check_time()
                try:
                    packet = next(demuxed)
                except (StopIteration, *MEDIA_ERRORS):
                    self._check_time()
                    return
                if packet.size:
                    yield packet
        finally:
            demuxed.close()  # PyAV frees its packet there, and not where a generator is let go half-way

    def decode(self, packet: Any | None, stream: Any) -> list[Any]:
        """Frames of a packet, or with None what the decoder still holds. A packet that is broken gives none."""
        self._check_time()
        try:
            return stream.codec_context.decode(packet)
        except MEDIA_ERRORS:
            return []

    def _check_time(self) -> None:
        if monotonic() > self._deadline:
            raise ClipError(f"took longer than {self.limit:g} s")

    def time(self, packet: Any) -> float | None:
        """Presentation time of a packet of either stream (s); the decoding time where the file has no other."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        return None if stamp is None else stamp * self._tick[packet.stream.index] - self.origin

    def end(self, packet: Any) -> float | None:
        """Presentation time at which a packet ends (s)."""
        start = self.time(packet)
        return None if start is None else start + (packet.duration or 0) * self._tick[packet.stream.index]

    def frame_time(self, frame: Any, stream: Any) -> float | None:
        """Presentation time of a decoded frame of `stream` (s)."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        return None if stamp is None else stamp * self._tick[stream.index] - self.origin


def check_picture(width: int, height: int) -> None:
    """ClipError for a picture that is too large, or too narrow, to be decoded and scaled in a sane amount of memory."""
    if width * height > MOST_PIXELS:
        raise ClipError(f"unreadable: its picture is {width}×{height}, more than {MOST_PIXELS // 10**6} million pixels")
    if max(width, height) > LONGEST_SIDE * max(1, min(width, height)) and min(width, height) > 0:
        raise ClipError(f"unreadable: its picture is {width}×{height}, longer than {LONGEST_SIDE} to 1")


def _pick(streams: Any, missing: str) -> Any:
    """The default stream, else the first; never cover art, nor one that FFmpeg has no decoder for."""
    disposition = av.stream.Disposition
    real = [s for s in streams if not s.disposition & disposition.attached_pic]
    if not real:
        raise ClipError(missing)
    usable = [s for s in real if s.codec_context is not None]
    if not usable:
        raise ClipError(f"unreadable: no decoder for its {'video' if missing == 'no video' else 'sound'}")
    return next((s for s in usable if s.disposition & disposition.default), usable[0])


def mono(frame: Any) -> np.ndarray:
    """Samples of an audio frame of any format and layout as float32 [n]: the mean of its channels but the subwoofer."""
    count = frame.layout.nb_channels
    if (
        frame.format.name == "fltp" and count == 2
    ):  # the most frequent: the same to the bit as below, in a third of the time
        left, right = (np.frombuffer(plane, np.float32, frame.samples) for plane in frame.planes)
        return (left + right) * np.float32(0.5)
    data = frame.to_ndarray()
    if data.shape[0] != count:
        data = data.reshape(-1, count).T
    if count > 2:
        keep = [i for i, channel in enumerate(frame.layout.channels) if not channel.name.startswith("LFE")]
        if 0 < len(keep) < count:
            data = data[keep]
    kind = data.dtype
    samples = data[0] if len(data) == 1 else data.mean(axis=0, dtype=np.float32 if kind.itemsize < 4 else np.float64)
    if kind.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * kind.itemsize - 1)
    if kind.kind == "u":
        samples = samples.astype(np.float32) - half
    return (samples * np.float64(1 / half)).astype(np.float32)


class Sound:
    """Decoded sound as runs without a gap, each at its time and rate."""

    def __init__(self) -> None:
        self.runs: list[tuple[float, int, list[np.ndarray]]] = []
        self.end: float | None = None

    def add(self, time: float | None, rate: int, samples: np.ndarray) -> None:
        """Samples float32 [n] at `time` (s), or with None right after those before."""
        if self.end is not None and rate == self.runs[-1][1] and (time is None or abs(time - self.end) < JITTER):
            self.runs[-1][2].append(samples)
            self.end += len(samples) / rate
            return
        start = (self.end or 0.0) if time is None else time
        self.runs.append((start, rate, [samples]))
        self.end = start + len(samples) / rate

    def join(self) -> None:
        """Make each run one array, once nothing is added any more."""
        self.runs = [(time, rate, [np.concatenate(blocks)]) for time, rate, blocks in self.runs]

    def stretch(self, start: float, length: int, rate: int) -> tuple[np.ndarray, int]:
        """`length` samples from `start` (s) on at `rate` (Hz), float32 in [-1, 1], zeros where there is no sound, and
        how many of them there is sound for. Call `join` first."""
        out = np.zeros(length, np.float32)
        covered = np.zeros(length, bool)
        margin = 0.01  # s, more than the resampling filter reaches
        for time, own_rate, (samples,) in self.runs:
            first = max(0, int((start - margin - time) * own_rate))
            last = int((start + length / rate + margin - time) * own_rate) + 1
            part = samples[first:last] if last > first else samples[:0]
            if len(part) == 0:
                continue
            if own_rate != rate:
                if first > 0:  # begin where the two rates' samples coincide, so that the phase is the file's
                    steps = np.arange(min(own_rate // gcd(own_rate, rate), first + 1))
                    phase = (time + (first - steps) / own_rate - start) * rate
                    first -= int(np.abs(phase - np.round(phase)).round(6).argmin())
                    part = samples[first:last]
                part = resample(part, own_rate, rate)
            at = round((time + first / own_rate - start) * rate)
            low, high = max(0, at), min(length, at + len(part))
            if high > low:
                out[low:high] = part[low - at : high - at]
                covered[low:high] = True
        return np.clip(np.nan_to_num(out, copy=False), -1, 1, out=out), int(covered.sum())


def quarter_turns(frame: Any) -> int:
    """By how many quarters, counter-clockwise, a frame is to be turned to stand upright: 0 to 3."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


class Resizer:
    """Frames to a size and pixel format, in one thread: the callers run one process per core."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.options: dict[str, int] = {"threads": 1}

    def __call__(self, frame: Any, size: tuple[int, int], pixels: str, interpolation: Any = None) -> Any:
        """The frame at `size` (width, height, px), in FFmpeg's pixel format `pixels`."""
        try:
            return self.reformatter.reformat(frame, *size, pixels, interpolation=interpolation, **self.options)
        except TypeError:  # an older PyAV, without that option
            if not self.options:
                raise
            self.options = {}
            return self(frame, size, pixels, interpolation)


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Mono samples float32 [n] at `rate` (Hz) as float32 [m] at `new_rate`; the first sample keeps its time."""
    return soxr.resample(samples, rate, new_rate)
