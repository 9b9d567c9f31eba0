"""Clips from PyAV: one pass over each part of the file, for frames and audio together."""

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation

from ...core.errors import ClipError
from ...videos.audio_samples import Sound
from ...videos.media import Media, media_errors
from ...videos.orientation import Display, Resizer
from ...videos.source import Source
from .span import Clip, ClipSpan, check_frames, scaled_size, targets, turn

PREROLL = 0.2
"""Audio decoded before a clip and dropped, s, because Opus needs 80 ms to settle, AAC and MP3 a few frames."""

NEW_SEEK_GAP = 2.0
"""Smallest gap between two clips at which the reader seeks, if a key frame lies between them, s."""

DECODE_MARGIN = 0.25
"""Packets at least this far before the next needed frame wait undecoded until it is known which are needed, s."""

SEEK_BACK_STEPS = (PREROLL, 2.0, 10.0, float("inf"))
"""Distances before a clip to seek to, tried until one is early enough, because some formats have no index, s."""

MAX_WAITING = 2000
"""Most packets that wait undecoded for the last key frame before a clip."""

BILINEAR = int(Interpolation.BILINEAR)
"""As a number, because PyAV takes microseconds to look up a name, for every frame."""


def read(path: Source, spans: list[ClipSpan], short_side: int, limit: float | None = None) -> list[Clip]:
    """The clips, in the order of `spans`. Raises ClipError, also if reading takes longer than `limit` (s)."""
    with media_errors(), Media(path, any(clip.spec.samples for clip in spans), limit, quick=True) as media:
        return read_media(media, spans, short_side)


def read_media(media: Media, spans: list[ClipSpan], short_side: int) -> list[Clip]:
    """The clips of an open file, in the order of `spans`. Raises ClipError and PyAV's own errors."""
    groups: list[list[int]] = []
    end = -np.inf
    for i in sorted(range(len(spans)), key=lambda i: spans[i].start):
        start, spec = spans[i]
        if groups and (start < end + NEW_SEEK_GAP or not media.key_between(end, start)):
            groups[-1].append(i)
        else:
            groups.append([i])
        end = max(end, start + spec.seconds)
    clips: dict[int, Clip] = {}
    scaler = _Scaler(short_side)
    for group in groups:
        clips.update(zip(group, _read(media, [spans[i] for i in group], scaler), strict=True))
    return [clips[i] for i in range(len(spans))]


def _read(media: Media, spans: list[ClipSpan], scaler: "_Scaler") -> list[Clip]:
    """Clips whose starts ascend and are close together."""
    for back in SEEK_BACK_STEPS:
        sought = media.seek(spans[0].start - back)
        reader = _Reader(media, spans, scaler)
        trusted = not media.counts_on
        complete = reader.read(sought)
        if trusted and media.doubted(reader.heard_all()):
            continue  # now with all audio before the clips
        if complete or not sought:
            break
        if back == SEEK_BACK_STEPS[-2] and not reader.late_video:
            break  # if it is still missing when reading from 10 s earlier, it does not exist
    return reader.clips()


def replay(decoded: Any, spans: list[ClipSpan], short_side: int) -> list[Clip]:
    """The clips of a decoded file (`cache.Decoded`), in the order of `spans`. Raises ClipError."""
    order = sorted(range(len(spans)), key=lambda i: spans[i].start)
    reader = _Reader(decoded, [spans[i] for i in order], _Scaler(short_side))
    reader.replay(decoded)
    clips = dict(zip(order, reader.clips(), strict=True))
    return [clips[i] for i in range(len(spans))]


class _Scaler:
    """Scales frames to RGB planes of the first frame's size, because a stream may change its size."""

    def __init__(self, short_side: int):
        self.short_side = short_side
        self.size: tuple[int, int] | None = None
        self.resize = Resizer()

    def __call__(self, frame: Any, display: Display) -> tuple[Any, Any, Any]:
        """The red, green and blue planes of a frame as coded, before it is turned, with padding after each row."""
        if self.size is None:
            self.size = scaled_size(*display.unturned(frame.width, frame.height), self.short_side)
        # FFmpeg 8 converts the last columns of some widths to planes wrongly, if it need not scale; to triples rightly
        if self.size == (frame.width, frame.height) and frame.width % 16:
            frame = self.resize(frame, self.size, "rgb24", BILINEAR)
        # gbrp gives the pixels of rgb24 in half the time, because FFmpeg's scaler writes planes faster than triples
        green, blue, red = self.resize(frame, self.size, "gbrp", BILINEAR).planes
        return red, green, blue


class _Reader:
    """One pass over a part of the file, which collects the frames nearest to the targets and the clips' audio."""

    def __init__(self, media: Media, spans: list[ClipSpan], scaler: _Scaler):
        self.media, self.clip_spans, self.scaler = media, spans, scaler
        self.video, self.audio = media.video, media.audio
        self.display: Display | None = None
        self.targets = targets(spans)
        self.images = np.empty((0, 3, 0, 0), np.uint8)  # the chosen frames as coded, with room for later ones
        self.pixels = memoryview(b"")  # the same memory
        self.count = 0  # number of chosen frames
        self.chosen: list[int] = []  # for each target so far, the number of its image
        self.last: Any = None  # the newest frame, which may not be needed
        self.last_time = self.first_time = -np.inf
        self.until = -np.inf  # when the file's last frame ends (s), once it has been read
        self.read_until = -np.inf  # when the last of the frames read so far ends (s)
        self.last_chosen = False
        self.waiting: list[Any] | None = []  # packets since the last key frame before the next target
        self.sound = Sound()
        self.audio_end = max(start + spec.audio_seconds for start, spec in spans) + 0.02
        self.audio_done = spans[0].spec.samples == 0
        self.audio_spans: list[tuple[float, float]] = []  # stretches of audio that are decoded (s)
        self.video_done = not self.targets
        self.late_video = False

    def read(self, sought: bool) -> bool:
        """Read all frames and audio of the clips. Returns False if the seek was too late."""
        self.sound = self.media.sound()
        for start, spec in self.clip_spans:
            span = (start - PREROLL, start + spec.audio_seconds + 0.02)
            self.audio_spans.append((-np.inf, np.inf) if self.media.counts_on else span)
        key_missing = sought and not self.video_done
        video, span_of, shown = self.video.index, self.media.span, self.media.shown
        for packet in self.media.packets():
            if packet.stream_index != video:
                if not self.audio_done:
                    self._audio_packet(packet)
            elif not self.video_done:
                time, end = span_of(packet)
                if end is not None and end > self.read_until and shown(packet):
                    self.read_until = end
                if key_missing:
                    if not packet.is_keyframe:
                        continue
                    key_missing = False
                    if time is None or time > self.targets[0]:
                        self.late_video = True
                        self.sound.join()
                        return False
                self._video_packet(packet, time)
            if self.video_done and self.audio_done:
                break
        else:
            self._finish()
        self.sound.join()
        self.late_video = key_missing
        return not (key_missing or (self.clip_spans[0].spec.samples > 0 and self.sound.late(self.clip_spans[0].start)))

    @property
    def _next(self) -> float:
        """The first target (s) without a chosen frame."""
        return self.targets[len(self.chosen)]

    def _video_packet(self, packet: Any, time: float | None) -> None:
        """Hold packets until one is later than the next target, so that decoding starts at the last key frame."""
        if self.waiting is None:
            if time is None or time > self._next - DECODE_MARGIN:
                self._frames(self.media.decode(packet, self.video))
                return
            self.waiting = []
        if packet.is_keyframe and time is not None and time <= self._next:
            self.waiting.clear()
            if self.last is not None:  # the packets between the last frame and this key frame are dropped
                self.media.flush()
        self.waiting.append(packet)
        if time is None or time > self._next or len(self.waiting) >= MAX_WAITING:
            self._release()

    def _release(self) -> None:
        """Decode the held packets, but skip unneeded frames to which no other frame refers."""
        packets, self.waiting = self.waiting or [], None
        times = [self.media.time(packet) for packet in packets]
        needed = max((t for t in times if t is not None and t <= self._next), default=-np.inf)
        codec = self.video.codec_context
        # libdav1d reads skip_frame only when it opens, and would skip from then on
        skips = self.media.skips and not codec.name.startswith("lib")
        for packet, time in zip(packets, times, strict=True):
            if self.video_done:
                break
            codec.skip_frame = "NONREF" if skips and time is not None and time < needed else "DEFAULT"
            self._frames(self.media.decode(packet, self.video))
        codec.skip_frame = "DEFAULT"

    def _frames(self, frames: list[Any]) -> None:
        for frame in frames:
            time = self.media.frame_time(frame, self.video)
            if time is None:
                time = self.last_time + self.media.period if self.last is not None else 0.0
            self._frame(frame, time)

    def _frame(self, frame: Any, time: float) -> None:
        if self.last is None:
            self.first_time = time
            if self.display is None:  # a key frame, at which the stream repeats its display data
                self.display = self.media.display(frame)
        elif time <= self.last_time:
            return
        else:
            self._choose(turn(self.last_time, time, self.media.period))
        self.last, self.last_time, self.last_chosen = frame, time, False

    def replay(self, decoded: Any) -> None:
        """Take the frames and the audio of the clips from a decoded file."""
        self.sound = decoded.sound
        begin = max(0, bisect_right(decoded.times, self.targets[0]) - 1) if self.targets else 0
        for time, frame in zip(decoded.times[begin:], decoded.frames[begin:], strict=True):
            if self.video_done:
                return
            self._frame(frame, time)
        if self.last is not None:
            self.until = decoded.until
            self._choose(np.inf)

    def _choose(self, until: float) -> None:
        """Choose the last frame for the targets up to `until`."""
        while not self.video_done and self.targets[len(self.chosen)] <= until + 1e-6:
            if not self.last_chosen:
                assert self.display is not None
                self._keep(*self.scaler(self.last, self.display))
                self.last_chosen = True
            self.chosen.append(self.count - 1)
            self.video_done = len(self.chosen) == len(self.targets)

    def _keep(self, red: Any, green: Any, blue: Any) -> None:
        """Copy the planes of a frame into `images`, because FFmpeg reuses their memory for the next frame."""
        if not self.count:
            assert self.scaler.size is not None
            line, (_, height) = red.line_size, self.scaler.size
            self.images = np.empty((len(self.targets), 3, height, line), np.uint8)
            self.pixels = self.images.reshape(-1).data
        size = self.images.shape[2] * self.images.shape[3]
        place = 3 * size * self.count
        if red.line_size == self.images.shape[3]:  # with the padding, in a third of the time that rows take
            for plane in (red, green, blue):
                self.pixels[place : place + size] = memoryview(plane)[:size]
                place += size
        else:  # a frame that needed no scaling, in the decoder's own memory
            height, width = self.images.shape[2], min(red.line_size, self.images.shape[3])
            for image, plane in zip(self.images[self.count], (red, green, blue), strict=True):
                rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                image[:, :width] = rows[:height, :width]
        self.count += 1

    def _audio_packet(self, packet: Any) -> None:
        time, end = self.media.span(packet)
        if time is None or end is None or self._heard(time, end):
            self._decode_audio(packet, (time, end))
        else:
            self.sound.packet(time, end)
            self.audio_done = time > self.audio_end + 0.5

    def _heard(self, time: float, end: float) -> bool:
        """Whether a packet from `time` to `end` (s) overlaps the audio of a clip."""
        for first, last in self.audio_spans:  # noqa: SIM110 (a generator takes thrice as long, for every packet)
            if first <= end and time <= last:
                return True
        return False

    def heard_all(self) -> bool:
        """Whether the clips have audio from beginning to end."""
        return all(
            span.spec.samples == 0 or self.sound.whole(span.start, span.spec.audio_seconds) for span in self.clip_spans
        )

    def _decode_audio(self, packet: Any | None, span: tuple[float | None, float | None] = (None, None)) -> None:
        self.media.hear(packet, self.sound, span)
        self.audio_done = self.sound.end is not None and self.sound.end >= self.audio_end

    def _finish(self) -> None:
        """Take the frames and audio that remain in the decoders at the end of the file."""
        if self.waiting:
            self._release()
        if not self.video_done:
            self._frames(self.media.decode(None, self.video))
            if self.last is not None:
                self.until = self.read_until
                self._choose(np.inf)
        if not self.audio_done:
            self._decode_audio(None)

    def clips(self) -> list[Clip]:
        """The clips. Raises ClipError for a clip with too few frames or too little audio."""
        return [self._clip(span) for span in self.clip_spans]

    def _clip(self, span: ClipSpan) -> Clip:
        start, spec = span
        if spec.frames and not self.count:
            raise ClipError(f"no frames at {start:.2f} s")
        samples, missing = self.sound.stretch(start, spec.samples, spec.audio_rate)
        if spec.samples and missing == spec.samples:
            raise ClipError(f"no audio at {start:.2f} s")
        check_frames(span, self.first_time, self.last_time, self.until, self.media.period)
        if missing > spec.samples / 2:
            raise ClipError(f"{missing} of {spec.samples} samples missing at {start:.2f} s")
        chosen = [self.chosen[bisect_left(self.targets, t)] for t in span.times]
        first = chosen[0] if chosen else 0
        frames = self.images[first : first + len(chosen)]
        if chosen != [*range(first, first + len(chosen))]:  # frames repeat, or also belong to another clip
            frames = self.images[chosen]
        if self.scaler.size is not None:
            frames = frames[..., : self.scaler.size[0]]  # without the padding
        if self.display is not None:
            frames = self.display.orientation.apply(frames)
        return Clip(frames.transpose(0, 2, 3, 1), samples)
