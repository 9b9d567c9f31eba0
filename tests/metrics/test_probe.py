"""Probes and retrieval, each with a known answer."""

import numpy as np
import pytest

from avssl.metrics.probe import linear_probe, nearest_neighbours
from avssl.metrics.retrieval import cross_modal, weighted_neighbours


def clusters(rng, n, spread):
    """n points around each of four corners, and which."""
    labels = np.repeat(np.array(list("abcd")), n)
    corners = np.eye(4, 8)
    return corners[np.repeat(np.arange(4), n)] + spread * rng.standard_normal((4 * n, 8)), labels


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours, weighted_neighbours])
def test_separable_features_are_told_apart_and_noise_is_not(probe):
    rng = np.random.default_rng(0)
    assert probe(*clusters(rng, 20, 0.05), *clusters(rng, 30, 0.05)) == 1.0
    _, labels = clusters(rng, 100, 0.0)
    noise = rng.standard_normal((2, 400, 8))
    assert probe(noise[0], labels, noise[1], labels) == pytest.approx(0.25, abs=0.08)


def test_nearest_neighbours_are_as_many_as_asked():
    train, labels = np.array([[1, 0.0], [1, 0.1], [1, 0.2], [0.0, 1]]), np.array(["a", "b", "b", "b"])
    test, truth = np.array([[1, -0.1]]), np.array(["a"])
    assert nearest_neighbours(train, labels, test, truth, k=1) == 1.0
    assert nearest_neighbours(train, labels, test, truth, k=3) == 0.0
    assert nearest_neighbours(train, labels, test, truth, k=9) == 0.0  # no more than there are


@pytest.mark.parametrize("block", [1, 2, 100])
def test_cross_modal_retrieval_of_a_known_answer(block):
    video = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.6, 0]]) * 7
    audio = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1], [0, 1, 0]])
    classes = np.array(["x", "x", "y", "y"])
    # video 0 → sound 0; 1 → 3; 2 → 2; 3 → 1 (0.8 · 0.9 + 0.6 · 0.1, over its length). Without the own half, 0 → 1,
    # 1 → 3, 2 → one of those at 0: the first, and 3 → 1.
    found = cross_modal(video, audio, classes, block)
    assert found["video_audio"] == 0.5
    assert found["video_audio_instance"] == 0.5
    assert found["video_audio_others"] == 0.25
    # sound 0 → video 0; 1 → 0; 2 → 2; 3 → 1. Without the own half: 0 → 3, 1 → 0, 2 → 0, 3 → 1.
    assert found["audio_video"] == 0.75
    assert found["audio_video_instance"] == 0.5
    assert found["audio_video_others"] == 0.25
