"""Rotation as an axis."""

import numpy as np
import torch

from avssl.contrast.axes import Rotation
from avssl.contrast.composition import Composition


def test_frames_are_rotated_alike_and_nothing_else():
    frames = torch.randn(2, 3, 4, 6, 6)
    audio = torch.randn(2, 1, 5, 7)
    axis = Rotation()
    values = torch.zeros(2, 1)
    for level in range(4):
        x, same = axis.apply(frames, audio, level, values)
        assert same is audio
        expected = np.rot90(frames.numpy(), level, (3, 4))
        np.testing.assert_array_equal(x.numpy(), expected)
    assert axis.apply(None, audio, 1, values)[0] is None


def test_rotation_may_be_invariant():
    composition = Composition(
        {"sample": "distinct", "rotation": "invariant"}, compare="within_modal", modalities=("video",)
    )
    assert composition.plan(2).encoded == 8
    clips = composition.expand(
        {"video": torch.randn(2, 3, 4, 6, 6)}, {"rotation": torch.arange(4.0)[None, :, None].repeat(2, 1, 1)}
    )
    video = clips["video"].unflatten(0, (2, 4))
    assert torch.equal(video[:, 2], video[:, 0].flip(-1).flip(-2))
