"""Do two modalities know of each other? Measured on made features."""

import numpy as np
import pytest

from avssl.metrics.relatedness import relatedness


def features(videos: int, shared: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of two modalities, float [videos, 300] and [videos, 60], which share five classes as far as `shared`."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(5, size=videos)
    return tuple(  # type: ignore[return-value]
        shared * rng.standard_normal((5, width))[classes] + rng.standard_normal((videos, width)) for width in (300, 60)
    )


@pytest.mark.parametrize("videos", [60, 200, 1000])
def test_modalities_with_the_same_classes_know_of_each_other(videos):
    assert relatedness(*features(videos, 1.0, 0)) > 4


@pytest.mark.parametrize("videos", [60, 200, 1000])
def test_noise_knows_of_nothing(videos):
    assert max(abs(relatedness(*features(videos, 0.0, seed))) for seed in range(5)) < 4


def test_the_order_of_the_videos_of_one_modality_matters():
    video, audio = features(300, 1.0, 1)
    assert abs(relatedness(video, audio[np.random.default_rng(0).permutation(300)])) < 4


def test_few_videos_and_constant_features_are_no_evidence():
    assert relatedness(np.zeros((5, 3)), np.zeros((5, 3))) == 0
    assert abs(relatedness(np.zeros((50, 3)), np.random.default_rng(0).standard_normal((50, 3)))) < 4
