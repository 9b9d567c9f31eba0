"""An open video file: its video and audio streams, and the presentation times of their packets and frames."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from time import monotonic
from typing import Any

import av
import numpy as np

from ..core.errors import ClipError
from .audio_samples import Sound, channels, mono
from .avi_frame_times import Slots
from .orientation import MOST_PIXELS, Display, check_size
from .source import Source, file_of, url

MEDIA_ERRORS = (av.error.FFmpegError, OSError, ValueError, EOFError, OverflowError, RuntimeError, MemoryError)
"""The exceptions of PyAV on bad data."""

FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,mxf,gxf,nut,dv,rm,wtv,ivf,gif,amv,nsv,nuv,pva,ty,dhav,"
    "kux,lxf,h264,hevc,vvc,m4v,vc1,obu,av1,mjpeg,yuv4mpegpipe"
)
"""FFmpeg's names of the containers that may be opened. They contain their frames themselves: playlists and the like,
which refer to other files or addresses, are not opened, whatever their extension."""

QUICK = frozenset({".mp4", ".m4v", ".mov"})
"""Extensions of files that are opened by their headers alone, if these tell enough."""

HEADERS_ONLY = {"codec_whitelist": "none", "probesize": "32"}
"""Options of such an opening. FFmpeg else opens both decoders and decodes a frame, only to describe the streams, which
takes two thirds of the time."""

SLOWEST, FASTEST = 4.0, 240.0
"""Lowest and highest believable frame rate (1/s): stills, and clocks of milliseconds, have others in their headers."""


@contextmanager
def media_errors() -> Iterator[None]:
    """Turn errors of FFmpeg, the file system and bad data into ClipError("unreadable: why")."""
    try:
        yield
    except MEDIA_ERRORS as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ClipError(f"unreadable: {str(why).splitlines()[0]}") from None


def check_file(source: Source) -> None:
    """Raise ClipError for anything but a regular file: a pipe would block. Raises OSError if the file is missing."""
    if not S_ISREG(os.stat(file_of(source)).st_mode):
        raise ClipError("unreadable: it is a pipe, a device or a folder, not a file")


class Media:
    """A video file, open at its beginning. Close it, or use it as a context.

    Times are seconds since the container's start of presentation, the earliest of its streams' starts.

    Args:
        path: the file.
        need_sound: raise ClipError for a file without audio; else `audio` is None for it.
        limit: seconds after opening at which reading and decoding raise ClipError; None: no limit.
        quick: do not examine the streams of an MP4 file of H.264 and AAC whose headers suffice to decode it; the pixel
            format and the like are then unknown until a frame is decoded.

    Raises:
        ClipError: "unreadable: why", "no video" or "no sound". Later reads raise PyAV's own errors: see `media_errors`.
    """

    def __init__(self, path: Source, need_sound: bool = True, limit: float | None = None, quick: bool = False):
        self.source, self.url, self.need_sound, self.limit = path, url(path), need_sound, limit
        self._deadline = monotonic() + (limit or float("inf"))
        self.quick = quick and Path(file_of(path)).suffix.lower() in QUICK
        self.origin = 0.0
        self.counts_on = False  # are times of audio extrapolated with a sampling rate that has changed?
        with media_errors():
            self._open()

    def _open(self) -> None:
        check_file(self.source)
        try:
            options = {"format_whitelist": FORMATS, "protocol_whitelist": "file,subfile"}
            self.container = self._open_container(options | HEADERS_ONLY if self.quick else options)
            if self.quick and not _described(self.container):
                self.container.close()
                self.quick = False
                self.container = self._open_container(options)
        except av.error.ExitError:
            raise ClipError(f"took longer than {self.limit:g} s") from None
        except av.error.ArgumentError:
            raise ClipError("unreadable: it is not in a container format of videos, or its header is damaged") from None
        self.at_start = True
        try:
            self.video: Any = _pick(self.container.streams.video, "no video")
            has_audio = self.need_sound or len(self.container.streams.audio) > 0
            self.audio: Any = _pick(self.container.streams.audio, "no sound") if has_audio else None
            check_size(self.video.codec_context.width, self.video.codec_context.height)
        except ClipError:
            self.container.close()
            raise
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
        self._video_index = self.video.index
        self.period = 1 / self._usual_rate()
        codec = self.video.codec_context.name
        self._hides = codec if codec in ("vp8", "vp9") else ""
        formats = self.container.format.name.split(",")
        self._slots = Slots(self.video.codec_context) if "avi" in formats else None
        self._mpeg = not {"mpegts", "mpeg"}.isdisjoint(formats)
        self._sound_due: float | None = None  # time (ticks) of the next audio packet if its time is extrapolated

    def _open_container(self, options: dict[str, str]) -> Any:
        return av.open(self.url, options=options, metadata_errors="replace", timeout=self.limit)

    def _usual_rate(self) -> float:
        """The frame rate in the header if it is believable, else an estimate (1/s)."""
        rates = [float(rate) for rate in (self.video.average_rate, self.video.guessed_rate) if rate]
        believed = [rate for rate in rates if SLOWEST <= rate <= FASTEST]
        return believed[0] if believed else min(max(rates[0], SLOWEST), FASTEST) if rates else 25.0

    def __enter__(self) -> "Media":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.container.close()

    @property
    def timed(self) -> bool:
        """Whether the container has presentation times."""
        return self._slots is None

    @property
    def joinable(self) -> bool:
        """Whether files in this format can be concatenated, each with its own clock, and still be read."""
        return self._mpeg

    @property
    def skips(self) -> bool:
        """Whether the times of frames are still known if the decoder skips some."""
        return self._slots is None or self._slots.steady

    def seek(self, time: float) -> bool:
        """Go to the video key frame at or before `time` (s). It returns False if it went to the beginning instead."""
        self._forget()
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

    def flush(self) -> None:
        """Make the video decoder forget the packets that it was given."""
        self.video.codec_context.flush_buffers()
        self._forget()

    def _forget(self) -> None:
        self._sound_due = None
        if self._slots is not None:
            self._slots.flush()

    def key_between(self, after: float, until: float) -> bool:
        """Whether there is a video key frame later than `after` and not later than `until` (s). True if unknown."""
        entries = getattr(self.video, "index_entries", None)  # an older PyAV has none
        tick = self._tick[self.video.index]
        if not entries or entries[len(entries) - 1].timestamp * tick - self.origin < until:
            return True  # the index may cover only what has been read so far
        place = entries.search_timestamp(int((until + self.origin) / tick))
        return place >= 0 and entries[place].timestamp * tick - self.origin > after

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Packets of `streams` (default: both) in file order; they end where the data break off."""
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
            demuxed.close()  # PyAV frees its packet here, but not when an unfinished generator is deleted

    def decode(self, packet: Any | None, stream: Any) -> list[Any]:
        """Frames of a packet, or, for None, those that remain in the decoder. A damaged packet gives none."""
        self._check_time()
        try:
            frames = stream.codec_context.decode(packet)
        except MEDIA_ERRORS:
            frames = []
        if self._slots is not None and stream is self.video:
            self._slots.place(packet, frames)
        return frames

    def decode_sound(self, packet: Any | None) -> list[tuple[float | None, int, np.ndarray]]:
        """Audio of a packet, or, for None, the rest in the decoder: (time in s, rate in Hz, mono float32 [n]) each.

        The time is None if the audio directly follows the audio before it. If the rate changes within a stream, FFmpeg
        extrapolates times with the packets' initial length, and these times are ignored.
        """
        return [(time, frame.sample_rate, mono(frame)) for time, frame in self._sound_frames(packet)]

    def _sound_frames(self, packet: Any | None) -> list[tuple[float | None, Any]]:
        """The audio frames of a packet, or, for None, the rest in the decoder, and their times as in `decode_sound`."""
        due, self._sound_due = self._sound_due, None
        stamp = None if packet is None else packet.pts
        counted = stamp is not None and due is not None and abs(stamp - due) < 1.5
        parts: list[tuple[float | None, Any]] = []
        seconds = 0.0
        for frame in self.decode(packet, self.audio):
            parts.append((None if counted else self.frame_time(frame, self.audio), frame))
            seconds += frame.samples / frame.sample_rate
        if stamp is not None and seconds > 0:
            duration = packet.duration or 0  # type: ignore[union-attr]
            if duration and abs(duration * self._tick[self.audio.index] - seconds) > 0.1 * seconds:
                self._sound_due = stamp + duration
                self.counts_on = self.counts_on or self._mpeg
        return parts

    def hear(self, packet: Any | None, sound: Sound, span: tuple[float | None, float | None] = (None, None)) -> None:
        """Decode a packet, or, for None, the rest in the decoder, into `sound`. `span` is the packet's time (s)."""
        seconds = 0.0
        for time, frame in self._sound_frames(packet):
            rate = frame.sample_rate
            sound.add(time, rate, *channels(frame))
            seconds += frame.samples / rate
        if packet is not None and not packet.is_discard:
            sound.packet(*span, seconds)

    def doubted(self, whole: bool) -> bool:
        """Whether the file's audio times are unreliable. `whole`: whether the clips got all of their audio."""
        self.counts_on = self.counts_on or (self._mpeg and not whole)
        return self.counts_on

    def sound(self) -> Sound:
        """An empty `Sound` for decoded audio."""
        stream = self.audio
        start = None if stream is None or stream.start_time is None else stream.start_time * self._tick[stream.index]
        return Sound(None if start is None else start - self.origin)

    def display(self, frame: Any) -> Display:
        """How the frames of the video are shown. `frame` is the first decoded one."""
        return Display(self.video, frame, self.video.codec_context.sample_aspect_ratio if self.quick else None)

    def shown(self, packet: Any) -> bool:
        """Whether this packet's frame is shown. Frames hidden by an edit list, and pure reference frames, are not."""
        return not (packet.is_discard or (self._hides and _hidden(packet, self._hides)))

    def _check_time(self) -> None:
        if monotonic() > self._deadline:
            raise ClipError(f"took longer than {self.limit:g} s")

    def time(self, packet: Any) -> float | None:
        """Presentation time of a packet of either stream (s); the decoding time if the file has no other."""
        return self.span(packet)[0]

    def span(self, packet: Any) -> tuple[float | None, float | None]:
        """Presentation times at which a packet begins and ends (s); a frame without a duration lasts `period`."""
        index = packet.stream_index
        video = index == self._video_index
        if video and self._slots is not None:
            stamp = self._slots.packet(packet)
        else:
            stamp = packet.pts
            if stamp is None:
                stamp = packet.dts
        if stamp is None:
            return None, None
        tick = self._tick[index]
        start, duration = stamp * tick - self.origin, packet.duration
        return start, start + (duration * tick if duration else self.period if video else 0.0)

    def frame_time(self, frame: Any, stream: Any) -> float | None:
        """Presentation time of a decoded frame of `stream` (s)."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        return None if stamp is None else stamp * self._tick[stream.index] - self.origin


def _hidden(packet: Any, codec: str) -> bool:
    """Whether its header marks a frame of VP8 or VP9 as never shown (RFC 6386, 9.1; VP9 bitstream, 6.2)."""
    data = memoryview(packet)
    first = data[0]
    if codec == "vp8":
        return not first >> 4 & 1
    if data[-1] & 0xE0 == 0xC0:
        return False  # a packet of several frames, whose last one is shown
    profile = first >> 5 & 1 | first >> 3 & 2
    after = first << 8 | data[1] if len(data) > 1 else first << 8
    bit = 11 - (profile == 3)  # a reserved one follows profile 3
    repeats, shows = after >> bit & 1, after >> (bit - 2) & 1
    return not (repeats or shows)


def _described(container: Any) -> bool:
    """Whether the headers alone tell all that reading needs of a file of one H.264 and at most one AAC stream."""
    video, audio = container.streams.video, container.streams.audio
    if len(video) != 1 or len(audio) > 1 or len(container.streams) != len(video) + len(audio):
        return False
    if "mov" not in container.format.name.split(",") or container.start_time is None:
        return False
    codecs = [stream.codec_context for stream in (*video, *audio)]
    if None in codecs or [codec.name for codec in codecs] not in (["h264"], ["h264", "aac"]):
        return False
    if any(stream.start_time is None for stream in (*video, *audio)) or not video[0].average_rate:
        return False
    sizes = (codecs[0].width, codecs[0].height, *(codec.sample_rate for codec in codecs[1:]))
    # in a fragmented file the headers count no frames, and give each stream the start of the first one
    indexed = len(getattr(video[0], "index_entries", ()))
    return min(sizes) > 0 and 0 < indexed == video[0].frames


def _pick(streams: Any, missing: str) -> Any:
    """The default stream, else the first, without cover art and streams that FFmpeg cannot decode."""
    disposition = av.stream.Disposition
    real = [s for s in streams if not s.disposition & disposition.attached_pic]
    if not real:
        raise ClipError(missing)
    usable = [s for s in real if s.codec_context is not None]
    if not usable:
        raise ClipError(f"unreadable: no decoder for its {'video' if missing == 'no video' else 'sound'}")
    return next((s for s in usable if s.disposition & disposition.default), usable[0])
