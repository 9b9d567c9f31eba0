"""Augmentation: what each option does to a clip and how far it goes; a clip depends on its draws alone."""

import numpy as np
import pytest
import torch

from avssl.clips.augment import (
    AUDIO_DRAWS,
    DRAWS,
    FIRST_DRAWS,
    NAMES,
    Draws,
    augment_frames,
    augment_samples,
    draw,
    mask_spectrogram,
    move_frames,
    shift_spectrogram,
)
from avssl.config import ClipConfig

CLIPS = 64


@pytest.fixture(scope="module")
def draws() -> Draws:
    return Draws.stack([*draw(np.random.default_rng(0), CLIPS)])


def drawn(**values: float) -> Draws:
    """Draws of one clip: the middle of each range, except for these."""
    middle = Draws.stack([np.full(DRAWS, 0.5)])
    for name, value in values.items():
        getattr(middle, name).fill_(value)
    return middle


def test_new_options_leave_older_draws_as_they_were():
    """A run of before has the clips that it had."""
    new, old = draw(np.random.default_rng([1, 2]), 5), np.random.default_rng([1, 2]).random((5, FIRST_DRAWS))
    assert new.shape == (5, DRAWS)
    np.testing.assert_array_equal(new[:, :FIRST_DRAWS], old)
    assert {NAMES[i] for i in AUDIO_DRAWS if i < FIRST_DRAWS} == {
        "volume", "freq_width", "freq_place", "time_width", "time_place"
    }  # fmt: skip
    assert {"audio_shift", "freq_shift", "noise", "noise_kind", "noise_place"} <= {NAMES[i] for i in AUDIO_DRAWS}


def picture() -> torch.Tensor:
    """Frames [1, 1, 2, 21, 21] with one bright pixel, right of the middle by 5."""
    x = torch.zeros(1, 1, 2, 21, 21)
    x[..., 10, 15] = 1
    return x


def place(x: torch.Tensor) -> tuple[int, int]:
    """The row and the column of the brightest pixel, alike in all frames."""
    at = [divmod(int(frame.argmax()), x.shape[-1]) for frame in x[0, 0]]
    assert len(set(at)) == 1
    return at[0]


def test_frames_turn_grow_and_move():
    assert place(move_frames(picture(), ClipConfig(rotate=90), drawn(rotate=1.0))) in {(5, 10), (15, 10)}
    turned = {place(move_frames(picture(), ClipConfig(rotate=90), drawn(rotate=r))) for r in (1.0, -1.0)}
    assert turned == {(5, 10), (15, 10)}
    grown = move_frames(picture(), ClipConfig(scale=0.8), drawn(scale=1.0))
    assert place(grown) == (10, 19)
    assert float(grown.sum()) > 2 * float(picture().sum())
    assert place(move_frames(picture(), ClipConfig(scale=0.2), drawn(scale=-1.0))) == (10, 14)
    moved = {place(move_frames(picture(), ClipConfig(shift=0.2), drawn(shift_x=s))) for s in (1.0, -1.0)}
    assert {abs(column - 15) for _, column in moved} <= {4, 5}
    still = drawn(rotate=0.0, scale=0.0, shift_x=0.0, shift_y=0.0)
    assert place(move_frames(picture(), ClipConfig(rotate=30, scale=0.5, shift=0.3), still)) == (10, 15)


def test_moved_frames_keep_their_range_and_are_mirrored_at_the_edge(draws):
    frames = torch.randint(60, 200, (CLIPS, 2, 16, 16, 3), dtype=torch.uint8)
    config = ClipConfig(rotate=180, scale=0.9, shift=1.0, grey=0.5, mean=[0.0] * 3, std=[1.0] * 3)
    x = augment_frames(frames, config, draws)
    assert x.shape == (CLIPS, 3, 2, 16, 16)
    assert 60 / 255 - 1e-4 <= float(x.min()) <= float(x.max()) <= 199 / 255 + 1e-4  # no black beyond the edge


def test_some_clips_lose_their_colour(draws):
    frames = torch.randint(0, 256, (CLIPS, 2, 8, 8, 3), dtype=torch.uint8)
    x = augment_frames(frames, ClipConfig(grey=0.3), draws)
    grey = (x.amax(1) - x.amin(1)).flatten(1).amax(1) < 1e-5
    assert torch.equal(grey, draws.grey < 0.3)
    assert 0 < int(grey.sum()) < CLIPS


def test_spectrograms_move_in_time_and_over_bands(draws):
    x = torch.zeros(1, 1, 40, 63)
    x[0, 0, 20, 30] = 1
    config = ClipConfig(audio_shift=0.16, freq_shift=3, hop_ms=16)
    later = shift_spectrogram(x, config, drawn(audio_shift=1.0, freq_shift=0.0))
    assert later.nonzero().tolist() == [[0, 0, 20, 40]]
    assert shift_spectrogram(x, config, drawn(audio_shift=0.0, freq_shift=-0.99)).nonzero().tolist() == [[0, 0, 17, 30]]
    many = shift_spectrogram(x.expand(CLIPS, -1, -1, -1), config, draws).nonzero()
    assert len(many) == CLIPS
    assert set((many[:, 2] - 20).tolist()) == {*range(-3, 4)}
    assert (many[:, 3] - 30).abs().max() <= 10


def test_noise_is_as_loud_as_drawn_and_leaves_silence(draws):
    rng = torch.Generator().manual_seed(0)
    samples = 0.2 * torch.randn(CLIPS, 24000, generator=rng)
    samples[0] = 0
    config = ClipConfig(volume_jitter=0, noise=0.5)
    added = augment_samples(samples, config, draws) - samples
    level = added.square().mean(1).sqrt() / samples.square().mean(1).sqrt()
    assert not added[0].any()
    ratio = (level / (0.5 * draws.noise))[1:]
    assert 0.5 < float(ratio.min()) <= float(ratio.max()) < 2  # a stretch of pink noise may be louder than the whole
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)
    power = torch.fft.rfft(added[1:]).abs().square()
    high = power[:, 6000:].sum(1) / power.sum(1)
    pink = (draws.noise_kind < 0.5).logical_not()[1:]
    assert float(high[pink].max()) < 0.2 < 0.4 < float(high[~pink].min())


def test_a_clip_depends_on_its_own_draws_alone(draws):
    config = ClipConfig(
        rotate=30, scale=0.3, shift=0.2, grey=0.3, color_jitter=0.4, noise=1, audio_shift=0.3, freq_shift=4, masks=2,
        freq_mask=4, time_mask=8,
    )  # fmt: skip
    frames = torch.randint(0, 256, (CLIPS, 2, 12, 12, 3), dtype=torch.uint8)
    samples, x = torch.randn(CLIPS, 2400), torch.randn(CLIPS, 1, 20, 30)

    def all_of(part: slice) -> list[torch.Tensor]:
        mine = draws[part]
        moved = shift_spectrogram(x[part], config, mine)
        return [
            augment_frames(frames[part], config, mine),
            augment_samples(samples[part], config, mine),
            mask_spectrogram(moved, config, mine),
        ]

    for whole, part in zip(all_of(slice(None)), all_of(slice(5, 9)), strict=True):
        assert torch.equal(whole[5:9], part)


def test_two_masks_cover_more_than_one(draws):
    x = torch.randn(CLIPS, 1, 40, 63)
    masked = [
        (mask_spectrogram(x, ClipConfig(freq_mask=6, time_mask=9, masks=n), draws) != x).float().mean() for n in (1, 2)
    ]
    assert float(masked[1]) > 1.5 * float(masked[0])


def test_neutral_options_change_nothing(draws):
    config = ClipConfig(flip=False, volume_jitter=0)
    frames, samples = torch.randint(0, 256, (CLIPS, 2, 8, 8, 3), dtype=torch.uint8), torch.randn(CLIPS, 100)
    x = torch.randn(CLIPS, 1, 20, 30)
    assert torch.equal(augment_frames(frames, config, draws), augment_frames(frames, config, None))
    assert torch.equal(augment_samples(samples, config, draws), samples)
    assert torch.equal(mask_spectrogram(shift_spectrogram(x, config, draws), config, draws), x)
