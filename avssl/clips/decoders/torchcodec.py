"""Pictures by TorchCodec, which decodes with the FFmpeg libraries of the system."""

import numpy as np
import torchcodec
from torchcodec.decoders import VideoDecoder
from torchcodec.transforms import Resize

from ...videos.media import Media
from ...videos.source import Source
from . import frame_numbers as indexed
from .frame_numbers import STRAY, FrameTable, Unable
from .span import Clip, ClipSpan

if getattr(torchcodec, "ffmpeg_major_version", 0) is None:  # newer ones load without FFmpeg, for still images
    raise ImportError("no FFmpeg libraries found")


SOUGHT = {"mp4", "matroska", "avi", "asf", "flv", "ogg", "nut"}
"""Containers in which TorchCodec's seeks hit a key frame. In transport streams of HEVC they land behind it, and the
frames, which lack what they refer to, come out grey, under the right time."""


def read(path: Source, wanted: list[ClipSpan], short_side: int, limit: float | None = None) -> list[Clip]:
    """The clips, in the order wanted. Raises ClipError, also where it takes longer than `limit` (s)."""
    return indexed.read(path, wanted, short_side, pictures, limit)


def pictures(media: Media, table: FrameTable, numbers: list[int], size: tuple[int, int]) -> np.ndarray:
    """uint8 [len(numbers), height, width, 3]: those frames of the table, scaled to `size` (width, height).

    Raises Unable for containers in which its seeks miss, where TorchCodec would turn the frames, which are shown as
    coded, and where it counts or times them otherwise than the table.
    """
    if not SOUGHT & set(media.container.format.name.split(",")):
        raise Unable("a container without an index of frames")
    width, height = size
    try:
        decoder = VideoDecoder(
            media.url,
            stream_index=media.video.index,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
            transforms=[Resize((height, width))],
        )
        if getattr(decoder.metadata, "rotation", None):
            raise Unable("turned")
        if len(decoder) != len(table.stamps):
            raise Unable("another count of frames")
        batch = decoder.get_frames_at(numbers)
    except (RuntimeError, ValueError, IndexError, AssertionError, OSError) as error:
        raise Unable(str(error)) from None
    if np.abs(batch.pts_seconds.numpy() - table.stamps[numbers]).max() > STRAY:
        raise Unable("other frames than asked for")
    return batch.data.numpy()
