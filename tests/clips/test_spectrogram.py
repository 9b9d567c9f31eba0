from pathlib import Path

import numpy as np
import pytest
import torch

from avssl.clips.spectrogram import LogFbank, LogMel, mel_filters, spectrogram
from avssl.config import ClipConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "logfbank.npz"


def logfbank(mels: int = 40, **options: float) -> torch.nn.Module:
    return spectrogram(ClipConfig(spectrogram="logfbank", mels=mels, **options))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.fixture(scope="module")
def wave(golden):
    """float [1, 24000]"""
    return torch.from_numpy(golden["wave24k"]).float()[None] / 32768


@pytest.mark.parametrize("mels", [40, 257])
def test_equals_the_published_filter_banks(golden, wave, mels):
    """To the rounding of the golden data, which are float32 and as large as 36."""
    found = logfbank(mels)(wave)
    assert found.shape == (1, 1, mels, 99)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0, 0], golden[f"logfbank_24k_{mels}"], rtol=0, atol=4e-6)


@pytest.mark.parametrize("mels", [40, 257])
def test_is_as_exact_under_autocast(golden, wave, mels):
    with torch.autocast("cpu", torch.bfloat16):
        found = logfbank(mels)(wave)
    np.testing.assert_allclose(found[0, 0], golden[f"logfbank_24k_{mels}"], rtol=0, atol=4e-6)


def test_narrow_filters_are_empty_and_give_the_epsilon(wave):
    empty = mel_filters(257, 24000, 1024).sum(1) == 0
    found = logfbank(257)(wave)[0, 0]
    assert 0 < empty.sum() < 257
    assert (found[empty] == np.float32(np.log(np.finfo(np.float64).eps))).all()
    assert (found[~empty] > -30).all()


@pytest.mark.parametrize("kind", ["logmel", "logfbank"])
def test_a_batch_equals_its_clips_one_by_one(wave, kind):
    module = spectrogram(ClipConfig(spectrogram=kind))
    clips = torch.cat([wave, wave.flip(1) / 7, torch.zeros_like(wave)])
    torch.testing.assert_close(module(clips), torch.cat([module(clip[None]) for clip in clips]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["logmel", "logfbank"])
def test_silence_is_finite(kind):
    assert spectrogram(ClipConfig(spectrogram=kind))(torch.zeros(2, 24000)).isfinite().all()


@pytest.mark.parametrize(
    ("seconds", "window_ms", "hop_ms", "frames"),
    [(1.0, 20, 10, 99), (1.0, 25, 10, 98), (2.0, 20, 10, 199), (0.5, 50, 25, 19), (0.05, 50, 10, 1)],
)
def test_frames_are_the_windows_that_fit(seconds, window_ms, hop_ms, frames):
    module = logfbank(audio_seconds=seconds, window_ms=window_ms, hop_ms=hop_ms)
    assert module(torch.rand(1, round(24000 * seconds))).shape == (1, 1, 40, frames)


def test_a_window_longer_than_the_clip_is_refused():
    with pytest.raises(UserError, match="window_ms=100 is longer"):
        logfbank(audio_seconds=0.05, window_ms=100)


def test_audio_mean_and_std_standardise(wave):
    found = logfbank(audio_mean=1.93, audio_std=17.89)(wave)
    torch.testing.assert_close(found, (logfbank()(wave) - 1.93) / 17.89)


def test_gdt_clip_is_the_published_one(golden, wave):
    clip = compose_config("train", TrainConfig, ["data.root=videos", "clip=gdt"]).clip
    found = spectrogram(clip)(wave)[0, 0]
    np.testing.assert_allclose(found, (golden["logfbank_24k_40"] - 1.93) / 17.89, rtol=0, atol=1e-6)
    assert (clip.frames, clip.fps, clip.crop, clip.color_jitter) == (30, 30.0, 112, 0.4)
    assert (clip.volume_jitter, clip.freq_mask, clip.time_mask) == (0.1, 3, 6)


def test_config_names_the_spectrogram():
    assert isinstance(spectrogram(ClipConfig()), LogMel)
    assert isinstance(logfbank(), LogFbank)
