"""Patches: where they are, what is left of their colours, and that their places differ in nothing but content."""

import pytest
import torch

from avssl.contrast.patches import (
    DRAWN,
    JITTER,
    PLACES,
    SMALLEST,
    cut_patches,
    keep_one_colour,
    patch_side,
    patches,
    smallest_frame,
)


@pytest.mark.parametrize("side", [34, 36, 64, 112, 224])
def test_the_grid_fits_and_no_two_patches_touch(side):
    patch = patch_side(side)
    assert patch % 2 == 0
    assert patch >= SMALLEST
    assert 4 * patch + 2 * JITTER * patch <= side < 4 * (patch + 2) + 2 * JITTER * (patch + 2)
    # interpolation reaches half a pixel beyond each patch
    assert patch / 2 - 2 * JITTER * patch >= 1


def test_the_smallest_frame_has_the_smallest_patches():
    assert patch_side(smallest_frame()) == SMALLEST
    assert patch_side(smallest_frame() - 1) < SMALLEST


def test_a_patch_is_cut_from_its_place():
    """Frames whose values are the coordinates show where a patch was."""
    side, patch = 64, patch_side(64)
    line = torch.arange(side) + 0.5
    frames = torch.stack([line[:, None].expand(side, side), line.expand(side, side), torch.zeros(side, side)])
    frames = frames[None, :, None].repeat(2, 1, 3, 1, 1)
    levels = torch.arange(9).repeat(2, 1)
    moves = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(0))
    cut = cut_patches(frames, levels, moves).unflatten(0, (2, 9))
    centres = cut[:, :, :2].mean((3, 4, 5))
    expected = side / 2 + torch.tensor(PLACES)[levels] * 1.5 * patch + (2 * moves - 1) * JITTER * patch
    torch.testing.assert_close(centres, expected, atol=1e-3, rtol=0)
    rows = cut[0, 3, 0, 0, :, 0]
    torch.testing.assert_close(rows[-1] - rows[0], torch.tensor(patch * (1 - 1 / side)), atol=1e-3, rtol=0)


def test_one_colour_is_kept_and_the_others_tell_only_its_mean_and_deviation():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 4, 16, 16, generator=generator) * torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
    x += torch.tensor([0.0, 5.0, -5.0])[:, None, None, None]
    colour = torch.tensor([0.0, 0.3, 0.34, 0.6, 0.7, 0.99])
    shown = keep_one_colour(x, colour, torch.rand(6, generator=generator))
    for i, kept in enumerate([0, 0, 1, 1, 2, 2]):
        assert torch.equal(shown[i, kept], x[i, kept])
        for other in {0, 1, 2} - {kept}:
            assert abs(shown[i, other].mean() - x[i, kept].mean()) < 0.2 * x[i, kept].std()
            assert abs(shown[i, other].std() / x[i, kept].std() - 1) < 0.1
            assert abs(torch.corrcoef(torch.stack([shown[i, other].flatten(), x[i, other].flatten()]))[0, 1]) < 0.12


def test_a_flat_patch_stays_finite():
    drawn = torch.full((2, 2, DRAWN), 0.5)
    shown = patches(torch.ones(2, 3, 2, 36, 36), torch.tensor([[0, 1], [0, 8]]), drawn)
    assert shown.shape == (4, 3, 2, 36, 36)
    torch.testing.assert_close(shown, torch.ones_like(shown))


@pytest.mark.parametrize("side", [36, 64])
def test_interpolation_blurs_all_places_alike(side):
    """The blur of a bilinear sample depends on where it falls between pixels; without whole distances on the grid it
    would tell the place, on frames that say nothing."""
    moves = torch.full((1, 9, 2), 0.5)
    cut = cut_patches(torch.randn(64, 3, 2, side, side), torch.arange(9).repeat(64, 1), moves.repeat(64, 1, 1))
    # for each place and column of the patch: the deviation over clips, colours, frames and rows
    spread = cut.unflatten(0, (64, 9)).transpose(0, 1).flatten(1, 4).std(1)
    assert spread.std(1).min() > 0.05  # some columns are blurred
    assert (spread - spread.mean(0)).abs().max() < 0.05
