"""Damage does what it says, and only that."""

import numpy as np
import pytest
import torch

from avssl.clips.dataset import Batch
from avssl.evaluate.robustness import CORRUPTIONS, attenuated, coarse, low_pass, silenced, swapped_audio

RATE = 24000


def batch(samples=None):
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (3, 2, 32, 48, 3), dtype=torch.uint8, generator=g)
    samples = torch.randn(3, RATE, generator=g) * 0.1 if samples is None else samples
    return Batch(torch.arange(3), {"video": frames, "audio": samples}, None, [])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_one_modality_alone_is_damaged(name):
    before = batch()
    after = CORRUPTIONS[name](before, RATE)
    assert after.clips["video"].dtype == torch.uint8
    assert {m: x.shape for m, x in after.clips.items()} == {m: x.shape for m, x in before.clips.items()}
    changed = [not torch.equal(before.clips[m], after.clips[m]) for m in ("video", "audio")]
    assert changed == [name.startswith("picture"), "sound" in name]


def test_coarse_pictures_keep_what_is_even_and_lose_what_is_fine():
    frames = torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8)
    frames[..., ::2, :] = 200  # stripes of one pixel
    found = coarse(2)(Batch(torch.arange(1), {"video": frames}, None, []), RATE)
    assert (found.clips["video"] == 100).all()
    even = torch.full_like(frames, 77)
    assert torch.equal(coarse(16)(Batch(torch.arange(1), {"video": even}, None, []), RATE).clips["video"], even)


def test_what_is_above_the_cutoff_is_gone():
    t = torch.arange(RATE, dtype=torch.float64) / RATE
    low, high = (torch.sin(2 * torch.pi * f * t) for f in (500, 3000))
    found = low_pass(1000)(batch((low + high)[None]), RATE).clips["audio"]
    assert torch.allclose(found, low[None], atol=1e-4)


def test_faint_silent_and_wrong_sound():
    before = batch()
    faint = attenuated(20)(before, RATE).clips["audio"]
    assert torch.allclose(faint, before.clips["audio"] / 10, atol=2 / 32767)
    assert np.unique((faint * 32767).round().numpy() - (faint * 32767).numpy()).max() < 1e-2
    assert (silenced(before, RATE).clips["audio"] == 0).all()
    wrong = swapped_audio(before, RATE).clips["audio"]
    assert all(not torch.equal(wrong[i], before.clips["audio"][i]) for i in range(3))
    assert torch.equal(wrong.sort(0).values, before.clips["audio"].sort(0).values)
