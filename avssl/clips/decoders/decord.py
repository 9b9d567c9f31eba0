"""Frames from Decord, which includes FFmpeg 4.

Decord does not report which frames it decoded, so it gets only files whose frames it counts correctly.
"""

import decord
import numpy as np

from ...videos.media import Media
from ...videos.source import Source
from . import frame_numbers
from .frame_numbers import FrameTable, Unable
from .span import Clip, ClipSpan

decord.logging.set_level(decord.logging.QUIET)

INDEXED = {"mp4", "matroska"}
"""Containers with an index of their frames; in others Decord seeks to wrong frames."""


def read(path: Source, spans: list[ClipSpan], short_side: int, limit: float | None = None) -> list[Clip]:
    """The clips, in the order of `spans`. Raises ClipError, also if reading takes longer than `limit` (s)."""
    return frame_numbers.read(path, spans, short_side, decode_frames, limit)


def decode_frames(media: Media, table: FrameTable, numbers: list[int], size: tuple[int, int]) -> np.ndarray:
    """The frames with these numbers in the table, uint8 [len(numbers), height, width, 3], of `size` (width, height,
    px).

    Raises:
        Unable: the container is not MP4, MOV, Matroska or WebM; there are several video streams; edit lists hide
            frames, or frames are shown before their key frame; Decord does not know the codec, or cannot deliver the
            width (24, 48 and 72 px).
    """
    if not INDEXED & set(media.container.format.name.split(",")):
        raise Unable("a container without an index of frames")
    if len(media.container.streams.video) > 1:
        raise Unable("several video streams")
    if table.leading or table.trimmed:
        raise Unable("frames that are not shown, or before their key frame")
    width, height = size
    try:
        reader = decord.VideoReader(media.url, width=width, height=height, num_threads=1, fault_tol=1)
        images = reader.get_batch(numbers).asnumpy() if len(reader) == len(table.stamps) else None
    except Exception as error:  # Decord's errors share no base class
        raise Unable(str(error)) from None
    if images is None:
        raise Unable("another count of frames")
    return images
