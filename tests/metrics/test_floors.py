"""K-means on raw inputs finds what lies open, and not the classes of the sample."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from avssl.config import SampleConfig
from avssl.metrics.floors import raw_kmeans_floors
from avssl.sample.plan import class_sizes, plan_videos
from avssl.sample.videos import make_video


def test_what_lies_open_is_found() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(["a", "b", "c"], 20)
    far = np.repeat(np.eye(3) * 50, 20, axis=0)[:, :, None] + rng.standard_normal((60, 3, 4))
    noise = rng.standard_normal((60, 8))
    floors = raw_kmeans_floors(far, noise, classes)
    assert floors["pixels"] == 1.0
    assert floors["log_mel"] < 0.2
    assert floors == raw_kmeans_floors(far, noise, classes)
    assert raw_kmeans_floors(noise, far, classes)["log_mel"] == 1.0
    assert raw_kmeans_floors(far, far, classes)["both"] == 1.0


def test_constant_inputs() -> None:
    floors = raw_kmeans_floors(np.zeros((6, 4)), np.zeros((6, 4)), np.arange(6) % 2)
    assert floors == {"pixels": 0.0, "log_mel": 0.0, "both": 0.0}


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="the numbers must be equal"):
        raw_kmeans_floors(np.zeros((4, 2)), np.zeros((3, 2)), np.zeros(4))


def raw_inputs(config: SampleConfig, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every test video: 8 gray frames of 32 x 32, the log-mel spectrogram of 1 s, the class."""
    videos = [v for v in plan_videos(config, folder) if v.split == "test"]
    frames, samples = zip(*(make_video(v, config) for v in videos), strict=True)
    grey = np.stack([f[np.linspace(0, 14, 8).astype(int)].mean(-1) for f in frames])
    grey = grey.reshape(len(grey), 8, 32, 2, 32, 2).mean((3, 5))
    mel = torchaudio.transforms.MelSpectrogram(config.audio_rate, 1024, 768, 384, n_mels=40, norm="slaney")
    log_mel = (mel(torch.from_numpy(np.stack([s[: config.audio_rate] for s in samples]))) + 1e-6).log().numpy()
    return grey, log_mel, np.array([v.kind for v in videos])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return raw_inputs(SampleConfig(train=1, test=30), tmp_path_factory.mktemp("plain"))


def tail(inputs: tuple[np.ndarray, np.ndarray, np.ndarray], longtail: float) -> list[np.ndarray]:
    """The first videos of each class, as many as a long-tailed sample has."""
    sizes = class_sizes(SampleConfig(longtail=longtail), 30)
    kept = np.concatenate([np.flatnonzero(inputs[2] == f"digit_{k}")[:n] for k, n in enumerate(sizes)])
    return [x[kept] for x in inputs]


# With fewer videos than 20 a class, clusters that mean nothing score more than 0.1 by chance.
def test_the_sample_is_a_real_problem(plain) -> None:
    assert max(raw_kmeans_floors(*plain).values()) < 0.35
    assert max(raw_kmeans_floors(*tail(plain, 0.5)).values()) < 0.35


def test_the_ambiguous_sample_is_a_real_problem(tmp_path: Path) -> None:
    inputs = raw_inputs(SampleConfig(train=1, test=20, ambiguous=True), tmp_path)
    assert max(raw_kmeans_floors(*inputs).values()) < 0.35


def test_a_steeper_long_tail_is_a_real_problem(plain) -> None:
    assert max(raw_kmeans_floors(*tail(plain, 0.7)).values()) < 0.35
