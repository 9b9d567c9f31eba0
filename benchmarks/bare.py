"""What FFmpeg alone takes for clips: its calls, recorded once while the clips are read, and made again without us."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np

from avssl.clips.decoders import pyav
from avssl.clips.decoders.span import ClipSpan
from avssl.videos import audio_samples
from avssl.videos.media import Media
from avssl.videos.orientation import Resizer

Call = tuple[str, Any, Any]
"""(what, and two arguments): see `_Recorder` for each."""

_open = av.open


class _Recorder(Media):
    """A file that records the calls of FFmpeg that reading its clips makes, as `calls`."""

    def __init__(self, path: Path, need_sound: bool):
        self.calls: list[Call] = []
        self.numbers: dict[int, int] = {}  # packet or frame by identity → its number, in the order of their coming
        self.kept: list[Any] = []  # so that no identity is used twice
        super().__init__(path, need_sound, quick=True)

    def _number(self, thing: Any) -> None:
        self.numbers[id(thing)] = len(self.kept)
        self.kept.append(thing)

    def _opened(self, url: str, **options: Any) -> Any:
        self.calls.append(("open", url, options))
        return _open(url, **options)

    def _open(self) -> None:
        with patch.object(av, "open", self._opened):
            super()._open()

    def seek(self, time: float) -> bool:
        found = super().seek(time)
        if found:
            self.calls.append(("seek", int((time + self.origin) / self._tick[self.video.index]), None))
        return found

    def flush(self) -> None:
        self.calls.append(("flush", None, None))
        super().flush()

    def packets(self, *streams: Any) -> Any:
        self.calls.append(("demux", [s.index for s in streams or self.streams], None))
        for packet in super().packets(*streams):
            self.calls.append(("read", len(self.kept), None))
            self._number(packet)
            yield packet

    def decode(self, packet: Any | None, stream: Any) -> list[Any]:
        number = None if packet is None else self.numbers[id(packet)]
        skips = stream is self.video and stream.codec_context.skip_frame
        frames = super().decode(packet, stream)
        self.calls.append(("video" if stream is self.video else "audio", number, skips))
        for frame in frames:
            self.calls.append(("frame", len(self.kept), None))
            self._number(frame)
        return frames


def record(path: Path, spans: Sequence[ClipSpan], short_side: int) -> list[Call]:
    """The calls of FFmpeg, and of the resampler, that reading these clips makes."""

    def resized(self: Resizer, frame: Any, size: tuple[int, int], *kind: Any) -> Any:
        file.calls.append(("scale", file.numbers[id(frame)], (*size, *kind)))
        return resize(self, frame, size, *kind)

    def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
        file.calls.append(("resample", samples.copy(), (rate, new_rate)))
        return resample(samples, rate, new_rate)

    resize, resample = Resizer.__call__, audio_samples.resample
    file = _Recorder(path, any(span.spec.samples for span in spans))
    with ExitStack() as stack:
        stack.callback(file.close)
        stack.enter_context(patch.object(Resizer, "__call__", resized))
        stack.enter_context(patch.object(audio_samples, "resample", resampled))
        pyav.read_media(file, list(spans), short_side)
    scaled = {call[1] for call in file.calls if call[0] == "scale"}
    read = {call[1] for call in file.calls if call[0] in ("video", "audio")}
    return [
        (what, first if what not in ("read", "frame") or first in scaled | read else None, second)
        for what, first, second in file.calls
    ]


def replay(calls: Sequence[Call]) -> None:
    """Make the calls again, on the file as it is; what they return is dropped."""
    container: Any = None
    held: dict[int, Any] = {}  # packets to decode, and frames to scale
    frames: list[Any] = []
    resizer = Resizer()
    video: Any = None
    audio: Any = None
    read: Callable[[], Any] = list
    for what, first, second in calls:
        if what == "read":
            packet = read()
            while not packet.size:
                packet = read()
            if first is not None:
                held[first] = packet
        elif what == "video":
            if second != video.skip_frame:
                video.skip_frame = second
            frames = video.decode(None if first is None else held.pop(first))
            frames.reverse()
        elif what == "audio":
            audio.decode(None if first is None else held.pop(first))
            frames = []
        elif what == "frame":
            if frames:
                frame = frames.pop()
                if first is not None:
                    held[first] = frame
        elif what == "scale":
            resizer(held.pop(first), second[:2], *second[2:])
        elif what == "resample":
            audio_samples.resample(first, *second)
        elif what == "open":
            if container is not None:
                container.close()
            container = av.open(first, **second)
            video = container.streams.video[0].codec_context
            audio = container.streams.audio[0].codec_context if container.streams.audio else None
            for context in (video, audio):
                if context is not None:
                    context.thread_count, context.thread_type = 1, "NONE"
        elif what == "seek":
            container.seek(first, stream=container.streams.video[0])
        elif what == "demux":
            read = container.demux([container.streams[i] for i in first]).__next__
        else:
            video.flush_buffers()
    container.close()
