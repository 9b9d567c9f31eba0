"""Clips by a decoder that gives frames by their number: a table of the file's frames says which, and when.

The table, the times and the sound are PyAV's, so that only the picture depends on the decoder.
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
"""Two clocks that differ by less than this (s) show the same frame."""

MOST_HELD = 17
"""Packets after which a decoder has given its first frame."""


class Unable(Exception):
    """The decoder cannot do this file correctly; the message says why."""


@dataclass(frozen=True)
class FrameTable:
    """A file's frames in the order shown: their `stamps` (s, as the file has them), and their `times` (s since its
    start of presentation), float64 [n] each; when the last one ends (s), the usual `period` (s), and the `size` (width,
    height, px) at which they are shown.

    `leading`: some frames are shown before the key frame that precedes them in the file. `trimmed`: some packets are
    decoded but not shown, as edit lists ask.
    """

    stamps: np.ndarray
    times: np.ndarray
    until: float
    period: float
    size: tuple[int, int]
    leading: bool
    trimmed: bool

    def chosen(self, times: Sequence[float]) -> np.ndarray:
        """The frames for `times` (s), int64 [len(times)], as `clip.turn` chooses."""
        turns = np.vectorize(turn, otypes=[float])(self.times[:-1], self.times[1:], self.period)
        return np.searchsorted(turns + 1e-6, np.asarray(times), side="left")


Pictures = Callable[[Media, FrameTable, list[int], tuple[int, int]], np.ndarray]
"""(media, table, ascending frame numbers, (width, height)) → uint8 [n, height, width, 3]; raises Unable."""


def read(
    path: Source, wanted: list[ClipSpan], short_side: int, pictures: Pictures, limit: float | None = None
) -> list[Clip]:
    """The clips, in the order wanted; all of them by PyAV where `pictures` is unable. Raises ClipError."""
    with media_errors(), Media(path, any(clip.spec.samples for clip in wanted), limit) as media:
        if not any(clip.spec.frames for clip in wanted):
            return pyav.read_media(media, wanted, short_side)
        try:
            frames = _frames(media, wanted, short_side, pictures)
        except Unable:
            return fall_back(media, wanted, short_side)
        silent = [clip._replace(spec=replace(clip.spec, frames=0)) for clip in wanted]
        if not any(clip.spec.samples for clip in wanted):
            return [Clip(images, np.empty(0, np.float32)) for images in frames]
        sounds = pyav.read_media(media, silent, short_side)
        return [Clip(images, sound.samples) for images, sound in zip(frames, sounds, strict=True)]


def fall_back(media: Media, wanted: list[ClipSpan], short_side: int) -> list[Clip]:
    """The clips by PyAV."""
    return pyav.read_media(media, wanted, short_side)


def _frames(media: Media, wanted: list[ClipSpan], short_side: int, pictures: Pictures) -> list[np.ndarray]:
    table = frame_table(media)
    for clip in wanted:
        try:
            check_frames(clip, table.times[0], table.times[-1], table.until, table.period)
        except ClipError as error:
            raise Unable(str(error)) from None  # PyAV has the last word: its decoder may know more than the table
    times = targets(wanted)
    numbers, places = np.unique(table.chosen(times), return_inverse=True)
    images = pictures(media, table, numbers.tolist(), scaled_size(*table.size, short_side))
    return [images[[places[bisect_left(times, t)] for t in clip.times]] for clip in wanted]


def frame_table(media: Media) -> FrameTable:
    """The table of the file's video frames. The whole file is read, and the first frame alone is decoded.

    Raises:
        Unable: a packet has no presentation time, is damaged, is never shown, or shares its time with another; or the
            file has a display matrix, of which libraries make one thing or another.
    """
    packets: list[Any] = list(media.packets(media.video))
    if any(packet.pts is None or packet.is_corrupt for packet in packets):
        raise Unable("packets without a presentation time, or damaged")
    if not media.timed and any(packet.pts != packet.dts for packet in packets):
        raise Unable("frames that the file holds in another order than that of their times")
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
    for packet in (*packets[:MOST_HELD], None):
        for frame in media.decode(packet, media.video):
            display = media.display(frame)
            if not display.plain:
                raise Unable("to be turned, perhaps")
            return display.size(frame.width, frame.height)
    raise Unable("its first frames cannot be decoded")
