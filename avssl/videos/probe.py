"""Probe a video file: the properties of its streams that clips need, and whether it can be decoded."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ClipError
from .media import Media, check_file, media_errors
from .source import Source, size

PROBE_VERSION = 2
"""Raise it when probes change: files that another version probed are probed again."""

BLOCK = 0.4
"""Length of the blocks over which loudness is measured (s)."""

PROBED_SECONDS = 30.0
"""Audio is decoded up to this time (s), and further if it is silent until then or the whole profile is needed."""

TIMES = 2000
"""Number of frames checked for a variable rate."""

SETTLED = 0.06
"""A stream that begins less than this (s) after the start counts as beginning there; audio encoders add such delays."""

SAME = 0.02
"""The frame rate in a file's header is used if it differs from the counted one by at most this fraction."""

RESTART = 1.0
"""Time stamps that go back by more than this (s) belong to another recording that was appended."""

QUIETEST = -120.0
"""Level of digital silence (dBFS)."""


@dataclass(frozen=True)
class ProbeRequest:
    """A file to probe, and whether its whole loudness profile is needed (for windows)."""

    path: Source
    whole: bool
    silence_db: float


def probe(request: ProbeRequest) -> dict[str, Any]:
    """Probe a file. Its first frame, its last key frame and its audio are decoded; no exception is raised.

    Returns:
        For a readable file: start and duration (s, of the span with both video and audio), fps and frames (of the
        frames that are shown), width and height (px, upright, with square pixels), audio_rate (Hz), channels, loudness
        (dBFS, RMS of the loudest block), profile (dBFS of each block, if requested), video_start, video_end,
        audio_start and audio_end (s), variable_rate (whether frames are unevenly spaced), video_codec and audio_codec
        (FFmpeg's names). Without audio, audio_rate and channels are 0, and audio_codec is None.

        For a file that cannot be used: reason and detail.
    """
    try:
        with media_errors():
            check_file(request.path)
            if size(request.path) == 0:
                return {"reason": "unreadable", "detail": "the file is empty"}
        with media_errors(), Media(request.path, need_sound=False) as media:
            return _Probe(media, request).run()
    except ClipError as error:
        text = str(error)
        reason, _, detail = text.partition(": ")
        return {
            "reason": reason if reason in ("unreadable", "no video", "no sound") else "unreadable",
            "detail": detail,
        }
    except Exception as error:  # no error of a damaged file may affect other files
        return {"reason": "unreadable", "detail": f"{type(error).__name__}: {error}"[:200]}


class _Probe:
    def __init__(self, media: Media, request: ProbeRequest):
        self.media, self.request = media, request
        self.video_end = self.audio_end = 0.0
        self.video_start = self.audio_start = float("inf")
        self.times: list[float] = []  # of the first shown frames, in the file's order
        self.size: tuple[int, int] | None = None
        self.frames = 0  # shown frames so far
        self.concealed = 0  # frames that are not shown
        self.newest = 0.0  # time of the latest frame counted (s)
        self.fps = 0.0
        self.clock: dict[int, float] = {}  # decoding time (s) of the latest packet of each stream
        self.last_key: Any = None
        self.loud = False
        self.heard_until = 0.0  # s
        self.energy: list[float] = []  # sum of squares of each block
        self.count: list[int] = []

    def run(self) -> dict[str, Any]:
        media = self.media
        cut = self._scan()
        self.fps = self._rate()
        if cut:
            self._tail()
        if self.size is None:
            raise ClipError("unreadable: no frame can be decoded")
        if not self.count and media.audio is not None:
            raise ClipError("unreadable: no sound can be decoded")
        if self.last_key is not None:
            media.flush()
            if not [*media.decode(self.last_key, media.video), *media.decode(None, media.video)]:
                raise ClipError("unreadable: its last key frame cannot be decoded")
        there, promised = max(self.video_end, self.audio_end), promised_seconds(media)
        if there < 0.9 * promised - 0.5:
            raise ClipError(f"unreadable: breaks off at {there:.1f} of {promised:.1f} s")
        start, end = usable_stretch(self.video_start, self.video_end)
        if media.audio is not None:
            start, end = usable_stretch(max(self.video_start, self.audio_start), min(self.video_end, self.audio_end))
        mean = np.array(self.energy) / np.maximum(1, np.array(self.count))
        profile = np.maximum(QUIETEST, 10 * np.log10(np.maximum(mean, 1e-30)))
        context = None if media.audio is None else media.audio.codec_context
        return {
            "start": start,
            "duration": end - start,
            "fps": self.fps,
            "frames": self._all_frames() if cut else self.frames,
            "width": self.size[0],
            "height": self.size[1],
            "audio_rate": 0 if context is None else int(context.sample_rate),
            "channels": 0 if context is None else int(context.layout.nb_channels),
            "loudness": round(float(profile.max(initial=QUIETEST)), 2),
            "video_start": _seconds(self.video_start),
            "video_end": _seconds(self.video_end),
            "audio_start": _seconds(self.audio_start),
            "audio_end": _seconds(self.audio_end),
            "variable_rate": _uneven(self.times),
            "video_codec": media.video.codec_context.name,
            "audio_codec": None if context is None else context.name,
            "profile": [round(float(x), 1) for x in profile] if self.request.whole else [],
        }

    def _scan(self) -> bool:
        """Read the file from its start. Returns True if it stopped early because enough is known."""
        media = self.media
        for packet in media.packets():
            self._ends(packet)
            if packet.stream.type == "video":
                if self.size is None:
                    self._picture(media.decode(packet, media.video))
                elif packet.is_keyframe and not packet.is_discard:
                    self.last_key = packet
                continue
            self._sound(packet)
            if (
                self.loud
                and not self.request.whole
                and self.audio_end > PROBED_SECONDS
                and self.video_end > PROBED_SECONDS
            ):
                return True
        if self.size is None:
            self._picture(media.decode(None, media.video))
        if media.audio is not None:
            self._sound(None)
        return False

    def _tail(self) -> None:
        """Read the ends of the streams and the last key frame of a long file."""
        media = self.media
        header = float(media.container.duration or 0) / 1e6
        if header > self.video_end + 5 and not media.joinable:  # formats that can be concatenated are read completely
            self.clock.clear()
            if not media.seek(header - 5):
                return
        for packet in media.packets():
            self._ends(packet)
            if packet.stream.type == "video" and packet.is_keyframe and not packet.is_discard:
                self.last_key = packet

    def _rate(self) -> float:
        """The rate of shown frames so far (1/s); the rate in the file's header if the two agree."""
        if not self.frames or not np.isfinite(self.video_start):
            return 0.0
        usual = (self.newest - self.video_start) / (self.frames - 1) if self.frames > 1 else 0.0
        seconds = max(self.video_end, self.newest + usual) - self.video_start
        counted = self.frames / seconds if seconds > 0 else 0.0
        own = float(self.media.video.average_rate or 0)
        return own if abs(own - counted) <= SAME * own else counted

    def _all_frames(self) -> int:
        """The number of shown frames of a file that was not read completely."""
        own = int(self.media.video.frames)
        return own - self.concealed if own else round((self.video_end - self.video_start) * self.fps)

    def _ends(self, packet: Any) -> None:
        video = packet.stream.type == "video"
        self._tick(packet)
        if packet.is_discard or (video and not self.media.shown(packet)):
            self.concealed += video
            return
        self.frames += video
        start, end = self.media.span(packet)
        end = end or 0.0
        if video:
            if start is not None:
                self.video_start, self.newest = min(self.video_start, start), max(self.newest, start)
                if len(self.times) < TIMES:
                    self.times.append(start)
            self.video_end = max(self.video_end, end)
        else:
            if start is not None:
                self.audio_start = min(self.audio_start, start)
            self.audio_end = max(self.audio_end, end)

    def _tick(self, packet: Any) -> None:
        """Raise ClipError if the clock restarts, because two frames at the same time would make clips ambiguous."""
        if packet.dts is None:
            return
        time = float(packet.dts * packet.time_base)
        before = self.clock.get(packet.stream_index, time)
        self.clock[packet.stream_index] = max(time, before)
        if time < before - RESTART:
            raise ClipError(
                f"unreadable: its time stamps go back by {before - time:.1f} s, as in concatenated recordings: "
                "ffmpeg -i FILE -c copy NEW.mkv repairs it"
            )

    def _picture(self, frames: list[Any]) -> None:
        if frames:
            self.size = self.media.display(frames[0]).size(frames[0].width, frames[0].height)

    def _sound(self, packet: Any | None) -> None:
        for time, rate, samples in self.media.decode_sound(packet):
            at = self.heard_until if time is None else time
            self.heard_until = at + len(samples) / rate
            self._loudness(max(0.0, at), samples)
            if time is None:
                self.audio_end = max(self.audio_end, self.heard_until)

    def _loudness(self, at: float, samples: np.ndarray) -> None:
        block = int(at / BLOCK)
        if block > len(self.count) + 1_000_000:
            return  # the time stamp is wrong
        grow = block + 1 - len(self.count)
        if grow > 0:
            if self.count and not self.loud:
                level = 10 * np.log10(max(self.energy[-1] / max(1, self.count[-1]), 1e-30))
                self.loud = bool(level >= self.request.silence_db)
            self.energy += [0.0] * grow
            self.count += [0] * grow
        energy = float(np.dot(samples, samples))
        if not np.isfinite(energy):  # float PCM may contain NaN and infinite samples
            good = np.clip(np.nan_to_num(samples), -1, 1)
            energy = float(np.dot(good, good))
        self.energy[block] += energy
        self.count[block] += len(samples)


def usable_stretch(start: float, end: float) -> tuple[float, float]:
    """The usable span from `start` to `end` (s); it may be empty."""
    start = _seconds(start)
    start = 0.0 if start < SETTLED else start
    return start, max(start, end)


def _seconds(time: float) -> float:
    """A time rounded to 1 ms and at least 0; 0 for a stream without time stamps."""
    return round(max(0.0, time), 3) if np.isfinite(time) else 0.0


def _uneven(times: list[float]) -> bool:
    """Whether over 5 % of the gaps between frames differ from the median by more than Matroska's rounding to 1 ms."""
    gaps = np.diff(np.sort(times))
    if len(gaps) < 5:
        return False
    usual = float(np.median(gaps))
    return bool(np.mean(np.abs(gaps - usual) > max(0.0025, 0.1 * usual)) > 0.05)


def promised_seconds(media: Media) -> float:
    """The duration in the file's header (s); 0 if there is none."""
    container, streams = media.container, media.streams
    if container.duration is None:
        return 0.0
    if container.format.name == "avi":  # for a truncated file FFmpeg reduces the duration, but not the count of frames
        return float(media.video.frames / (media.video.average_rate or 25))
    contexts = [s.codec_context for s in container.streams if s.codec_context is not None]
    if container.bit_rate == sum(context.bit_rate or 0 for context in contexts):
        return 0.0  # FFmpeg has guessed it from the codecs' bit rates, which may be wrong
    durations = [float(s.duration * s.time_base) for s in streams if s.duration is not None]
    if len(durations) == len(streams):
        return max(durations)
    # in Matroska the duration counts from 0, not from the streams' start
    return float(container.duration / 1e6) - (media.origin if "matroska" in container.format.name else 0.0)
