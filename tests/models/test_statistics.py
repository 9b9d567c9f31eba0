"""The audio encoder `statistics`: what it computes, that it has no weights, and its clip."""

import numpy as np
import pytest
import torch

from avssl.config import ClipConfig, ModelConfig
from avssl.core.errors import UserError
from avssl.models.by_name import build_encoder
from avssl.models.taken_clip import taken_over


def test_mean_deviation_and_change_of_each_band():
    x = torch.randn(3, 1, 64, 50, generator=torch.Generator().manual_seed(0))
    encoder = build_encoder("audio", "statistics")
    bands = x[:, 0].double().numpy()
    expected = np.concatenate([bands.mean(2), bands.std(2), np.abs(np.diff(bands, axis=2)).mean(2)], 1)
    np.testing.assert_allclose(encoder(x).numpy(), expected, atol=1e-6)
    assert encoder.dim == 192
    assert not encoder.trainable
    assert not encoder.state_dict()


def test_one_frame_does_not_change():
    assert torch.isfinite(build_encoder("audio", "statistics")(torch.ones(1, 1, 64, 1))).all()


def test_its_clip_is_taken_over():
    clip = taken_over(ClipConfig(), ModelConfig(audio="statistics"), ["audio"])
    assert (clip.mels, clip.window_ms, clip.hop_ms, clip.spectrogram, clip.audio_rate) == (64, 40, 10, "logmel", 24000)


def test_other_bands_are_refused():
    with pytest.raises(UserError, match="needs 64 mel bands, not 80"):
        build_encoder("audio", "statistics")(torch.ones(1, 1, 80, 9))
