"""Small clips beside the whole ones (multi-crop, SwAV, Caron et al., NeurIPS 2020), in space and in time.

A small clip shows a random square of some consecutive frames, and another modality's one contains a part of the time of
its audio. They are cut out of the decoded first clip of a video on the device, before augmentation, and augmented with
random values of their own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..clips.augment import DRAWS, Draws, draw, spread
from ..clips.batch import Batch
from ..config import ClipConfig
from ..config.crops import SMALL, CropsConfig
from ..contrast.axes import ClipRequest
from ..contrast.view_plan import GroupInput, ViewGroup

PLACES = ("area", "row", "column", "start", "audio_start")
"""The random values of a small clip, before those of its augmentation."""


@dataclass(frozen=True)
class SmallViews(ViewGroup):
    """`clips` small clips of each video and modality.

    Args:
        side: side of the frames, px.
        frames: number of consecutive frames.
        samples: number of consecutive audio samples.
        area: the smallest and the largest part of a frame's area that they show.
    """

    name: str = SMALL
    modalities: tuple[str, ...] = ("video", "audio")
    clips: int = 1
    side: int = 48
    frames: int = 1
    samples: int = 1
    area: tuple[float, float] = (0.05, 0.14)

    @classmethod
    def of(cls, crops: CropsConfig, clip: ClipConfig, modalities: tuple[str, ...]) -> "SmallViews":
        """Those of the options, for whole clips of `clip`."""
        small, (low, high) = crops.clip(clip), crops.small_area
        samples = round(small.audio_seconds * small.audio_rate)
        return cls(SMALL, modalities, crops.small, small.crop, small.frames, samples, (low, high))

    def sample(
        self, rng: np.random.Generator, duration: float, clip_seconds: float, first: ClipRequest
    ) -> tuple[list[ClipRequest], np.ndarray]:
        """No further clip to decode; and the values of each small clip, float32 [clips, PLACES + DRAWS]."""
        places, draws = rng.random((self.clips, len(PLACES))), np.empty((self.clips, DRAWS), np.float32)
        spread(draw(rng, self.clips), draws)
        return [], np.concatenate([places.astype(np.float32), draws], 1)

    def expand(self, given: GroupInput) -> dict[str, torch.Tensor]:
        """The small clips, ready to encode, [B · clips, …] by modality, video by video."""
        videos = len(given.values)
        values = given.values.flatten(0, 1)
        area, row, column, start, audio_start = values[:, : len(PLACES)].unbind(1)
        raw = {name: given.raw.clips[name].unflatten(0, (videos, -1))[:, 0] for name in self.modalities}
        cut = {}
        if "video" in raw:
            low, high = self.area
            places = torch.stack([(low + (high - low) * area).sqrt(), row, column], 1)
            cut["video"] = cut_frames(raw["video"], places, start, self.frames, self.side)
        if "audio" in raw:
            cut["audio"] = cut_audio(raw["audio"], audio_start, self.samples)
        draws = Draws(values[:, len(PLACES) :]) if given.raw.draws is not None else None
        return given.transform(Batch(given.raw.device_index, cut, draws, []), self.modalities)


def cut_frames(
    frames: torch.Tensor, squares: torch.Tensor, start: torch.Tensor, length: int, side: int
) -> torch.Tensor:
    """Squares of consecutive frames, scaled to `side` by bilinear interpolation; all frames of a clip alike.

    Args:
        frames: uint8 [B, T, H, W, 3].
        squares: of M clips a video: the square's side as a fraction of the frame's, and its place down and across,
            from 0 to 1: float [B · M, 3].
        start: place of the first frame, from 0 to 1, float [B · M].
        length: number of frames.
        side: side of the result, px.

    Returns:
        float [B · M, length, side, side, 3], from 0 to 255.
    """
    place = _places(frames.shape[1], start, length)
    number = place[:, None] + torch.arange(length, device=frames.device)
    chosen = frames[_videos(frames, len(start))[:, None], number]  # [B · M, length, H, W, 3]
    flat = chosen.permute(0, 1, 4, 2, 3).flatten(1, 2).float()
    part, down, across = (x[:, None, None] for x in squares.unbind(1))
    # element by element, because a matrix product, as in `affine_grid`, rounds differently in another batch
    line = (2 * torch.arange(side, device=frames.device) + 1) / side - 1
    columns = line * part + (1 - part) * (2 * across - 1)
    rows = line[:, None] * part + (1 - part) * (2 * down - 1)
    grid = torch.stack(torch.broadcast_tensors(columns, rows), -1)
    cut = F.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.unflatten(1, (length, -1)).permute(0, 1, 3, 4, 2)


def cut_audio(samples: torch.Tensor, start: torch.Tensor, length: int) -> torch.Tensor:
    """Consecutive samples: float [B, n] and places from 0 to 1, float [B · M] → float [B · M, length]."""
    place = _places(samples.shape[1], start, length)
    return samples.unfold(1, length, 1)[_videos(samples, len(start)), place]


def _places(whole: int, place: torch.Tensor, length: int) -> torch.Tensor:
    """Where parts of `length` begin, int64 [n], from 0 to `whole` − `length`; each is as probable as the others."""
    last = whole - length
    return (place * (last + 1)).long().clamp(max=last)


def _videos(x: torch.Tensor, clips: int) -> torch.Tensor:
    """The number of the video of each of `clips` clips, int64 [clips], video by video."""
    return torch.arange(clips, device=x.device) // (clips // len(x))
