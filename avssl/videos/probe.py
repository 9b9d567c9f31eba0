"""What one file holds, as far as a clip needs to know."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import ClipError
from .media import Media, check_file, media_errors
from .source import Source, size

PROBE_VERSION = 2
"""Of what a probe finds: what another version found in a file is found anew."""

BLOCK = 0.4
"""Loudness is measured over blocks of this length (s)."""

PROBED_SECONDS = 30.0
"""Sound is decoded this far (s), and further where it is silent so far or the whole profile is asked for."""

TIMES = 2000
"""Frames whose times are looked at for a variable rate."""

SETTLED = 0.06
"""What begins less than this (s) after the start of presentation begins with it: encoders of sound need as long."""

SAME = 0.02
"""A file's own rate of frames is taken where it is this near, as a share of it, to what is counted."""

RESTART = 1.0
"""Time stamps that go back by more than this (s) are those of another recording, which is joined to the first."""

QUIETEST = -120.0
"""Level of digital silence (dBFS)."""


@dataclass(frozen=True)
class ProbeRequest:
    """A file, and whether its whole loudness profile is wanted (for windows)."""

    path: Source
    whole: bool
    silence_db: float


def probe(request: ProbeRequest) -> dict[str, Any]:
    """start and duration (s, of the stretch that has both video and audio), fps (frames shown over time), frames (those
    shown), width and height (px, as shown: upright, with square pixels), audio_rate, channels, loudness (dBFS, RMS of
    the loudest block), profile (dBFS of each block; whole only if asked for), where video and audio begin and end (s:
    video_start, video_end, audio_start, audio_end), variable_rate (do frames come at uneven times?), video_codec and
    audio_codec (FFmpeg's names). Without sound audio_rate and channels are 0, and audio_codec is None.

    Or {"reason", "detail"} for a file that gives no clips. Raises nothing. The first frame, the last key frame and the
    sound are decoded, so that what passes can be read.
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
    except Exception as error:  # whatever a damaged file provokes costs that file alone
        return {"reason": "unreadable", "detail": f"{type(error).__name__}: {error}"[:200]}


class _Probe:
    def __init__(self, media: Media, request: ProbeRequest):
        self.media, self.request = media, request
        self.video_end = self.audio_end = 0.0
        self.video_start = self.audio_start = float("inf")
        self.times: list[float] = []  # of the first frames that are shown, as they come in the file
        self.size: tuple[int, int] | None = None
        self.frames = 0  # that are shown, of those counted
        self.concealed = 0  # those that are not
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
        """Through the file from its start. True where it was left early, enough being known."""
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
        """The ends of the streams and the last key frame of a long file."""
        media = self.media
        header = float(media.container.duration or 0) / 1e6
        if header > self.video_end + 5 and not media.joinable:  # of what can be joined, all is read
            self.clock.clear()
            if not media.seek(header - 5):
                return
        for packet in media.packets():
            self._ends(packet)
            if packet.stream.type == "video" and packet.is_keyframe and not packet.is_discard:
                self.last_key = packet

    def _rate(self) -> float:
        """Frames shown over time (1/s), of those counted so far; the file's own rate where they agree."""
        if not self.frames or not np.isfinite(self.video_start):
            return 0.0
        usual = (self.newest - self.video_start) / (self.frames - 1) if self.frames > 1 else 0.0
        seconds = max(self.video_end, self.newest + usual) - self.video_start
        counted = self.frames / seconds if seconds > 0 else 0.0
        own = float(self.media.video.average_rate or 0)
        return own if abs(own - counted) <= SAME * own else counted

    def _all_frames(self) -> int:
        """Frames shown of a file that was not read through."""
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
        """ClipError where the clock starts anew: of two pictures at one time, a clip would show one or the other."""
        if packet.dts is None:
            return
        time = float(packet.dts * packet.time_base)
        before = self.clock.get(packet.stream_index, time)
        self.clock[packet.stream_index] = max(time, before)
        if time < before - RESTART:
            raise ClipError(
                f"unreadable: its time stamps go back by {before - time:.1f} s, as in recordings that are joined: "
                "ffmpeg -i FILE -c copy NEW.mkv mends that"
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
            return  # a time stamp gone wild
        grow = block + 1 - len(self.count)
        if grow > 0:
            if self.count and not self.loud:
                level = 10 * np.log10(max(self.energy[-1] / max(1, self.count[-1]), 1e-30))
                self.loud = bool(level >= self.request.silence_db)
            self.energy += [0.0] * grow
            self.count += [0] * grow
        energy = float(np.dot(samples, samples))
        if not np.isfinite(energy):  # float PCM can hold anything
            good = np.clip(np.nan_to_num(samples), -1, 1)
            energy = float(np.dot(good, good))
        self.energy[block] += energy
        self.count[block] += len(samples)


def usable_stretch(start: float, end: float) -> tuple[float, float]:
    """Start and end (s) of what is usable from `start` to `end`, which may be none at all."""
    start = _seconds(start)
    start = 0.0 if start < SETTLED else start
    return start, max(start, end)


def _seconds(time: float) -> float:
    """To the millisecond; what has no time stamps begins at 0, and so does what is cut from an edit list."""
    return round(max(0.0, time), 3) if np.isfinite(time) else 0.0


def _uneven(times: list[float]) -> bool:
    """Do more than one in twenty of the gaps between frames stray from the others? Matroska rounds to 1 ms."""
    gaps = np.diff(np.sort(times))
    if len(gaps) < 5:
        return False
    usual = float(np.median(gaps))
    return bool(np.mean(np.abs(gaps - usual) > max(0.0025, 0.1 * usual)) > 0.05)


def promised_seconds(media: Media) -> float:
    """How long the file says it is (s); 0 where it does not say."""
    container, streams = media.container, media.streams
    if container.duration is None:
        return 0.0
    if container.format.name == "avi":  # FFmpeg shortens its duration to what is left, but not its count of frames
        return float(media.video.frames / (media.video.average_rate or 25))
    contexts = [s.codec_context for s in container.streams if s.codec_context is not None]
    if container.bit_rate == sum(context.bit_rate or 0 for context in contexts):
        return 0.0  # FFmpeg has guessed it from the codecs' bit rates, which are not those of the packets
    known = [float(s.duration * s.time_base) for s in streams if s.duration is not None]
    if len(known) == len(streams):
        return max(known)
    # Matroska counts from 0, wherever its streams start
    return float(container.duration / 1e6) - (media.origin if "matroska" in container.format.name else 0.0)
