"""Clips from a decoder that returns frames by number; a table of the file's frames translates times to numbers.

The table, the times and the audio come from PyAV, so only the pixels depend on the decoder.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...core.errors import ClipError
from ...videos.media import Media, media_errors
from ...videos.source import Source
from . import pyav
from .span import Clip, ClipSpan, check_frames, scaled_size, targets, turn

STRAY = 1e-4
"""Time stamps that differ by less than this belong to the same frame, s."""

MAX_DELAY = 17
"""Packets after which a decoder has returned its first frame."""


class Unable(Exception):
    """The decoder cannot decode this file correctly; the message gives the reason."""


@dataclass(frozen=True)
class FrameTable:
    """A file's frames in display order.

    Args:
        stamps: times as stored in the file, float64 [n], s.
        times: times since the start of presentation, float64 [n], s.
        until: end of the last frame, s.
        period: usual time between frames, s.
        size: width and height as shown, px.
        leading: whether some frames are shown before the key frame that precedes them in the file.
        trimmed: whether an edit list hides some decoded packets.
    """

    stamps: np.ndarray
    times: np.ndarray
    until: float
    period: float
    size: tuple[int, int]
    leading: bool
    trimmed: bool

    def chosen(self, times: Sequence[float]) -> np.ndarray:
        """The numbers of the frames for `times` (s), int64 [len(times)], chosen by `span.turn`."""
        turns = np.vectorize(turn, otypes=[float])(self.times[:-1], self.times[1:], self.period)
        return np.searchsorted(turns + 1e-6, np.asarray(times), side="left")


DecodeFrames = Callable[[Media, FrameTable, list[int], tuple[int, int]], np.ndarray]
"""(media, table, ascending frame numbers, (width, height)) → uint8 [n, height, width, 3]; raises Unable."""


def read(
    path: Source, spans: list[ClipSpan], short_side: int, decode_frames: DecodeFrames, limit: float | None = None
) -> list[Clip]:
    """The clips, in the order of `spans`; PyAV decodes them if `decode_frames` cannot. Raises ClipError."""
    with media_errors(), Media(path, any(clip.spec.samples for clip in spans), limit) as media:
        if not any(clip.spec.frames for clip in spans):
            return pyav.read_media(media, spans, short_side)
        try:
            frames = _frames(media, spans, short_side, decode_frames)
        except Unable:
            return fall_back(media, spans, short_side)
        audio_only = [clip._replace(spec=replace(clip.spec, frames=0)) for clip in spans]
        if not any(clip.spec.samples for clip in spans):
            return [Clip(images, np.empty(0, np.float32)) for images in frames]
        audio_clips = pyav.read_media(media, audio_only, short_side)
        return [Clip(images, audio.samples) for images, audio in zip(frames, audio_clips, strict=True)]


def fall_back(media: Media, spans: list[ClipSpan], short_side: int) -> list[Clip]:
    """The clips, decoded by PyAV. Tests replace this function."""
    return pyav.read_media(media, spans, short_side)


def _frames(media: Media, spans: list[ClipSpan], short_side: int, decode_frames: DecodeFrames) -> list[np.ndarray]:
    table = frame_table(media)
    for clip in spans:
        try:
            check_frames(clip, table.times[0], table.times[-1], table.until, table.period)
        except ClipError as error:
            raise Unable(str(error)) from None  # PyAV decides: its decoder may know more than the table
    times = targets(spans)
    numbers, places = np.unique(table.chosen(times), return_inverse=True)
    images = decode_frames(media, table, numbers.tolist(), scaled_size(*table.size, short_side))
    return [images[[places[bisect_left(times, t)] for t in clip.times]] for clip in spans]


def frame_table(media: Media) -> FrameTable:
    """The table of the file's video frames. This reads the whole file, but decodes only the first frame.

    Raises:
        Unable: a packet has no presentation time, is damaged, is never shown, or shares its time with another; or the
            file has a display matrix, which libraries interpret in different ways.
    """
    packets: list[Any] = list(media.packets(media.video))
    if any(packet.pts is None or packet.is_corrupt for packet in packets):
        raise Unable("packets without a presentation time, or damaged")
    if not media.timed and any(packet.pts != packet.dts for packet in packets):
        raise Unable("frames that are not in the order of their times")
    shown = [packet for packet in packets if not packet.is_discard]
    if not all(map(media.shown, shown)):
        raise Unable("frames that are never shown")
    pts = np.unique(np.array([packet.pts for packet in shown], np.int64))
    if len(pts) < len(shown) or not len(pts):
        raise Unable("frames with the same presentation time, or none")
    key, leading = None, False
    for packet in packets:
        if packet.is_keyframe:
            key = packet.pts
        leading = leading or key is None or packet.pts < key
    stamps = pts * float(media.video.time_base)
    until = max(media.span(packet)[1] or 0.0 for packet in shown)
    trimmed = len(shown) < len(packets)
    return FrameTable(stamps, stamps - media.origin, until, media.period, _size(media, packets), leading, trimmed)


def _size(media: Media, packets: Sequence[Any]) -> tuple[int, int]:
    """(width, height) at which the frames are shown."""
    for packet in (*packets[:MAX_DELAY], None):
        for frame in media.decode(packet, media.video):
            display = media.display(frame)
            if not display.plain:
                raise Unable("frames that may need rotation")
            return display.size(frame.width, frame.height)
    raise Unable("its first frames cannot be decoded")
