"""Pictures by Decord, which brings an FFmpeg 4 of its own.

Decord does not say which frames it has decoded, so that it is only asked for what it is known to count correctly.
"""

import decord
import numpy as np

from ...videos.media import Media
from ...videos.source import Source
from . import frame_numbers as indexed
from .frame_numbers import FrameTable, Unable
from .span import Clip, ClipSpan

decord.logging.set_level(decord.logging.QUIET)

INDEXED = {"mp4", "matroska"}
"""Containers that say where each frame is; in the others Decord's seeks miss."""


def read(path: Source, wanted: list[ClipSpan], short_side: int, limit: float | None = None) -> list[Clip]:
    """The clips, in the order wanted. Raises ClipError, also where it takes longer than `limit` (s)."""
    return indexed.read(path, wanted, short_side, pictures, limit)


def pictures(media: Media, table: FrameTable, numbers: list[int], size: tuple[int, int]) -> np.ndarray:
    """uint8 [len(numbers), height, width, 3]: those frames of the table, scaled to `size` (width, height).

    Raises Unable for other containers than MP4, MOV, Matroska and WebM, more than one video stream, frames that edit
    lists hide or that are shown before their key frame, codecs that Decord does not know, and the few small widths that
    it cannot deliver (24, 48 and 72 px).
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
    except Exception as error:  # its errors have no class in common
        raise Unable(str(error)) from None
    if images is None:
        raise Unable("another count of frames")
    return images
