"""Frames from TorchCodec, which decodes with the FFmpeg libraries of the system."""

import numpy as np
import torchcodec
from torchcodec.decoders import VideoDecoder
from torchcodec.transforms import Resize

from ...videos.media import Media
from ...videos.source import Source
from . import frame_numbers
from .frame_numbers import STRAY, FrameTable, Unable
from .span import Clip, ClipSpan

if getattr(torchcodec, "ffmpeg_major_version", 0) is None:  # newer versions load without FFmpeg, for still images
    raise ImportError("no FFmpeg libraries found")


SEEKABLE = {"mp4", "matroska", "avi", "asf", "flv", "ogg", "nut"}
"""Containers in which TorchCodec seeks to a key frame. In transport streams of HEVC it seeks behind it; the frames then
lack their references, and are grey although their times are right."""


def read(path: Source, spans: list[ClipSpan], short_side: int, limit: float | None = None) -> list[Clip]:
    """The clips, in the order of `spans`. Raises ClipError, also if reading takes longer than `limit` (s)."""
    return frame_numbers.read(path, spans, short_side, decode_frames, limit)


def decode_frames(media: Media, table: FrameTable, numbers: list[int], size: tuple[int, int]) -> np.ndarray:
    """The frames with these numbers in the table, uint8 [len(numbers), height, width, 3], of `size` (width, height,
    px).

    Raises:
        Unable: TorchCodec seeks to wrong frames in the container, would rotate frames that are shown as coded, or
            counts or times the frames differently from the table.
    """
    if not SEEKABLE & set(media.container.format.name.split(",")):
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
        raise Unable("other frames than requested")
    return batch.data.numpy()
