"""Patches of frames on a grid of 3 × 3, from which the place of one beside the centre is predicted (Doersch et al.,
ICCV 2015).

A patch is p px wide, and the gap between two of them p / 2, so the grid takes 4 p. Each patch is moved at random by up
to 7 / 96 of p in both directions, as published (7 px of 96). All but one colour is replaced by noise, because lenses
bend colours differently, which tells where in the frame a patch is. Patches are then enlarged to the frames' size, so
that the encoder gets the shape that it knows.

p is even. All distances on the grid are then whole pixels, and the interpolation tells no place from another.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F

JITTER = 7 / 96
"""The largest random move of a patch as a fraction of its side,"""
SMALLEST = 8
"""the smallest side of a patch, px,"""
PLACES = ((0, 0), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""and the patch at each level, (down, across) from the centre, which is level 0."""

DRAWN = 4
"""The random values of a patch, in [0, 1): moves down and across, the colour that is kept, and a stretch of noise."""

NOISE = 1 << 20
"""Least numbers in the table of noise."""


def patch_side(side: int) -> int:
    """The side of a patch (px) for frames of `side` px: the largest even p with room for the grid and its moves."""
    return 2 * int(side / (2 * (4 + 2 * JITTER)))


def smallest_frame() -> int:
    """The smallest side of frames (px) whose patches are not smaller than `SMALLEST`."""
    return next(side for side in range(4 * SMALLEST, 5 * SMALLEST) if patch_side(side) >= SMALLEST)


def patches(frames: torch.Tensor, levels: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Patches of square frames, enlarged to their size, with one colour each.

    Args:
        frames: normalised, float [B, C, T, S, S].
        levels: the levels of P patches of each clip, int64 [B, P].
        drawn: their random values, float [B, P, DRAWN].

    Returns:
        float [B · P, C, T, S, S], clip by clip.
    """
    cut = cut_patches(frames, levels, drawn[..., :2])
    return keep_one_colour(cut, drawn[..., 2].flatten(), drawn[..., 3].flatten())


def cut_patches(frames: torch.Tensor, levels: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Patches by bilinear sampling, float [B · P, C, T, S, S], of frames float [B, C, T, S, S].

    `levels` int64 [B, P]; `moves` float [B, P, 2] in [0, 1), down and across.
    """
    clips, colours, times, side, _ = frames.shape
    count, patch = levels.shape[1], patch_side(side)
    centre = _places(frames.device)[levels] * 1.5 * patch + (2 * moves - 1) * JITTER * patch + side / 2
    steps = ((torch.arange(side, device=frames.device) + 0.5) / side - 0.5) * patch
    # the place in the frame of each row and column of each patch, from -1 to 1: float [B, P, 2, S]
    place = 2 * (centre[..., None] + steps) / side - 1
    rows = place[:, :, 0, :, None].expand(-1, -1, -1, side)
    grid = torch.stack([place[:, :, 1, None].expand(-1, -1, side, -1), rows], -1).flatten(1, 2)  # [B, P · S, S, 2]
    flat = frames.reshape(clips, colours * times, side, side)
    cut = F.grid_sample(flat, grid.to(flat), mode="bilinear", padding_mode="border", align_corners=False)
    return cut.view(clips, colours, times, count, side, side).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)


def keep_one_colour(x: torch.Tensor, colour: torch.Tensor, stretch: torch.Tensor) -> torch.Tensor:
    """Clips float [N, C, T, H, W] with one colour each; the others are noise with its mean and deviation.

    `colour` and `stretch` are random numbers in [0, 1), float [N]: the colour that is kept, and which noise is used.
    """
    colours = x.shape[1]
    kept = torch.arange(colours, device=x.device) == (colour * colours).long()[:, None]
    mask = kept[:, :, None, None, None]
    one = torch.where(mask, x, 0).sum(1, keepdim=True)
    mean, spread = one.mean((2, 3, 4), keepdim=True), one.var((2, 3, 4), correction=0, keepdim=True).sqrt()
    size = x[0].numel()
    table = _noise(max(NOISE, 1 << (2 * size - 1).bit_length()), x.device)
    start = (stretch * (len(table) - size)).long()
    noise = table.unfold(0, size, 1)[start].view_as(x)
    return torch.where(mask, x, mean + spread * noise.to(x.dtype))


@lru_cache(8)  # sent to the device once
def _places(device: torch.device) -> torch.Tensor:
    return torch.tensor(PLACES, dtype=torch.float32).to(device)


@lru_cache(8)
def _noise(size: int, device: torch.device) -> torch.Tensor:
    """Normal noise, float32 [size], the same on every device and in every process."""
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
