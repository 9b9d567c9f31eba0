"""Clips by presentation time: frames and sound that start at the same instant, from one open file."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from ..errors import ClipError
from .media import Media, Sound, media_errors, mono
from .source import Source

PREROLL = 0.2
"""Sound decoded and thrown away before a clip (s): Opus needs 80 ms to settle, AAC and MP3 a few frames."""

APART = 2.0
"""Clips further apart than this (s) are worth a seek."""

BACK = (PREROLL, 2.0, 10.0, float("inf"))
"""How far before a clip (s) to seek, in turn, until the seek lands early enough: not every format has an index."""

LONGEST_GROUP = 2000
"""Packets kept undecoded while looking for the last key frame before a clip."""


@dataclass(frozen=True)
class ClipSpec:
    """What a clip is: `frames` at `fps` (1/s), and `audio_seconds` (s) of sound at `audio_rate` (Hz).

    Without frames (0), or without sound (0 s), that stream of the file is not decoded.
    """

    frames: int
    fps: float
    audio_rate: int
    audio_seconds: float

    @property
    def seconds(self) -> float:
        """The stretch of the file that a clip takes (s)."""
        return max(self.frames / self.fps, self.audio_seconds)

    @property
    def samples(self) -> int:
        """Samples of its sound."""
        return round(self.audio_seconds * self.audio_rate)

    def played(self, speed: float) -> "ClipSpec":
        """What to take of the file for a clip that plays `speed` times as fast, with as many frames and samples."""
        rate = round(self.audio_rate / speed)
        return replace(self, fps=self.fps / speed, audio_rate=rate, audio_seconds=self.samples / rate)


class Clip(NamedTuple):
    """`frames` uint8 [T, h, w, 3] RGB, `samples` float32 [round(audio_seconds * audio_rate)] mono in [-1, 1]."""

    frames: np.ndarray
    samples: np.ndarray


class Wanted(NamedTuple):
    """A clip to take from the file: its start (s), and how much of it at which rates."""

    start: float
    spec: ClipSpec


def read_clips(
    path: Source, starts: Sequence[float], spec: ClipSpec, short_side: int, speeds: Sequence[float] | None = None
) -> list[Clip]:
    """Clips of a file that start at `starts` (s since its start of presentation), in that order.

    Frame k of a clip is the file's frame nearest in presentation time to start + k / fps, whatever the file's rate,
    scaled to `short_side` (px) and turned upright. Sound is placed by its time stamps, mixed to mono and resampled.
    With `speeds`, clip i plays `speeds[i]` times as fast, its sound that much higher: it takes as much more of the
    file. A clip that runs past the end by a quarter of its frames or half of its sound at most holds the last frame,
    and zeros for the sound.

    Raises:
        ClipError: the file cannot be read, lacks video or sound, or ends too early for a clip.
    """
    wanted = [
        Wanted(start, spec.played(speed)) for start, speed in zip(starts, speeds or [1.0] * len(starts), strict=True)
    ]
    groups: list[list[int]] = []
    end = -np.inf
    for i in sorted(range(len(wanted)), key=lambda i: starts[i]):
        if groups and starts[i] < end + APART:
            groups[-1].append(i)
        else:
            groups.append([i])
        end = max(end, starts[i] + wanted[i].spec.seconds)
    clips: dict[int, Clip] = {}
    if not groups:
        return []
    with media_errors(), Media(path) as media:
        scaler = _Scaler(short_side)
        for group in groups:
            clips.update(zip(group, _read(media, [wanted[i] for i in group], scaler), strict=True))
    return [clips[i] for i in range(len(starts))]


def _read(media: Media, wanted: list[Wanted], scaler: "_Scaler") -> list[Clip]:
    """Clips at ascending, near starts."""
    for back in BACK:
        sought = media.seek(wanted[0].start - back)
        reader = _Reader(media, wanted, scaler)
        if reader.read(sought) or not sought:
            break
        if back == BACK[-2] and not reader.late_video:
            break  # sound that is not there 10 s earlier is not there
    return reader.clips()


class _Scaler:
    """Frames to RGB arrays of one size, the first frame's: a stream may change its size half-way."""

    def __init__(self, short_side: int):
        self.short_side = short_side
        self.size: tuple[int, int] | None = None
        self.reformatter = VideoReformatter()
        self.options: dict[str, int] = {"threads": 1}

    def __call__(self, frame: Any) -> np.ndarray:
        """uint8 [h, w, 3]"""
        if self.size is None:
            scale = self.short_side / min(frame.width, frame.height)
            self.size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
        width, height = self.size
        try:
            scaled = self._reformat(frame, width, height)
        except TypeError:  # an older PyAV, without that option
            self.options = {}
            scaled = self._reformat(frame, width, height)
        image = scaled.to_ndarray()
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        return np.rot90(image, turns) if turns else image

    def _reformat(self, frame: Any, width: int, height: int) -> Any:
        return self.reformatter.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, **self.options
        )


class _Reader:
    """One pass over a stretch of the file: the frames nearest to the targets, and the sound of the clips."""

    def __init__(self, media: Media, wanted: list[Wanted], scaler: _Scaler):
        self.media, self.wanted, self.scaler = media, wanted, scaler
        self.video, self.audio = media.video, media.audio
        self.targets = sorted({start + k / spec.fps for start, spec in wanted for k in range(spec.frames)})
        self.images: list[np.ndarray] = []  # the chosen frames
        self.chosen: list[int] = []  # for each target so far, which of the images
        self.last: Any = None  # the frame before the newest, not yet known to be needed
        self.last_time = self.first_time = -np.inf
        self.last_chosen = False
        self.waiting: list[Any] | None = []  # packets since the last key frame before the first target
        self.sound = Sound()
        self.sound_end = max(start + spec.audio_seconds for start, spec in wanted) + 0.02
        self.sound_done = wanted[0].spec.samples == 0
        self.late_video = False

    def read(self, sought: bool) -> bool:
        """Read until all that the clips need is there. False: the seek went too far, and all is to be read again."""
        key_missing = sought and not self._video_done
        for packet in self.media.packets():
            if packet.stream.type == "audio":
                self._audio_packet(packet)
            elif not self._video_done:
                if key_missing:
                    if not packet.is_keyframe:
                        continue
                    key_missing = False
                    time = self.media.time(packet)
                    if time is None or time > self.targets[0]:
                        self.late_video = True
                        return False
                self._video_packet(packet)
            if self._video_done and self.sound_done:
                break
        else:
            self._finish()
        self.sound.join()
        self.late_video = key_missing
        late_sound = not self.sound.runs or self.sound.runs[0][0] > self.wanted[0].start + 1e-3
        return not (key_missing or (late_sound and self.wanted[0].spec.samples > 0))

    @property
    def _video_done(self) -> bool:
        return len(self.chosen) == len(self.targets)

    def _video_packet(self, packet: Any) -> None:
        """Hold packets back until one is due after the first target, so that decoding starts at the last key frame."""
        if self.waiting is None:
            self._frames(self.media.decode(packet, self.video))
            return
        time = self.media.time(packet)
        if packet.is_keyframe and time is not None and time <= self.targets[0]:
            self.waiting.clear()
        self.waiting.append(packet)
        if time is None or time > self.targets[0] or len(self.waiting) >= LONGEST_GROUP:
            self._release()

    def _release(self) -> None:
        """Decode what was held back; frames that nothing refers to only from the last one before the first target."""
        packets, self.waiting = self.waiting or [], None
        times = [self.media.time(packet) for packet in packets]
        needed = max((t for t in times if t is not None and t <= self.targets[0]), default=-np.inf)
        codec = self.video.codec_context
        for packet, time in zip(packets, times, strict=True):
            codec.skip_frame = "NONREF" if time is not None and time < needed else "DEFAULT"
            self._frames(self.media.decode(packet, self.video))
        codec.skip_frame = "DEFAULT"

    def _frames(self, frames: list[Any]) -> None:
        for frame in frames:
            time = self.media.frame_time(frame, self.video)
            if time is None:
                time = self.last_time + self.media.period if self.last is not None else 0.0
            if self.last is None:
                self.first_time = time
            elif time <= self.last_time:
                continue
            else:
                self._choose((self.last_time + time) / 2)
            self.last, self.last_time, self.last_chosen = frame, time, False

    def _choose(self, until: float) -> None:
        """The last frame is nearest to the targets up to `until`."""
        while not self._video_done and self.targets[len(self.chosen)] <= until + 1e-6:
            if not self.last_chosen:
                self.images.append(self.scaler(self.last))
                self.last_chosen = True
            self.chosen.append(len(self.images) - 1)

    def _audio_packet(self, packet: Any) -> None:
        if self.sound_done:
            return
        time, end = self.media.time(packet), self.media.end(packet)
        if time is not None and end is not None and not self._heard(time, end):
            self.sound_done = time > self.sound_end + 0.5
            return
        self._sound(self.media.decode(packet, self.audio))

    def _heard(self, time: float, end: float) -> bool:
        """Does a packet from `time` to `end` (s) reach into any clip's sound?"""
        return any(s - PREROLL <= end and time <= s + spec.audio_seconds + 0.02 for s, spec in self.wanted)

    def _sound(self, frames: list[Any]) -> None:
        for frame in frames:
            self.sound.add(self.media.frame_time(frame, self.audio), frame.sample_rate, mono(frame))
        self.sound_done = self.sound.end is not None and self.sound.end >= self.sound_end

    def _finish(self) -> None:
        """The file has ended: take what the decoders hold."""
        if self.waiting:
            self._release()
        if not self._video_done:
            self._frames(self.media.decode(None, self.video))
            if self.last is not None:
                self._choose(np.inf)
        if not self.sound_done:
            self._sound(self.media.decode(None, self.audio))

    def clips(self) -> list[Clip]:
        """Raises ClipError for a clip with too little under it."""
        return [self._clip(start, spec) for start, spec in self.wanted]

    def _clip(self, start: float, spec: ClipSpec) -> Clip:
        times = [start + k / spec.fps for k in range(spec.frames)]
        shown_until = self.last_time + max(self.media.period, 1 / spec.fps)
        missing = sum(t > shown_until or t < self.first_time - self.media.period for t in times)
        if times and not self.images:
            raise ClipError(f"no frames at {start:.2f} s")
        if spec.samples and not self.sound.runs:
            raise ClipError(f"no sound at {start:.2f} s")
        samples, heard = self.sound.stretch(start, spec.samples, spec.audio_rate)
        if missing > spec.frames / 4:
            raise ClipError(f"{missing} of {spec.frames} frames missing at {start:.2f} s")
        if heard < spec.samples / 2:
            raise ClipError(f"{spec.samples - heard} of {spec.samples} samples missing at {start:.2f} s")
        chosen = [self.images[self.chosen[bisect_left(self.targets, t)]] for t in times]
        return Clip(np.stack(chosen) if chosen else np.empty((0, 0, 0, 3), np.uint8), samples)
