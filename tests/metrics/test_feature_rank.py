"""RankMe and LiDAR against published code, and on features whose rank is known."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.metrics.collapse import lidar, normalised_deviation, rankme

GOLDEN = Path(__file__).parent.parent / "golden" / "rank.npz"


@pytest.mark.parametrize("kind", ["full", "decaying", "lowrank"])
def test_rankme_is_that_of_published_code(kind):
    golden = np.load(GOLDEN)
    features = golden[f"emb_{kind}"]
    assert rankme(features, 1e-5) == pytest.approx(golden[f"rankme_{kind}"][0], rel=1e-5)
    assert rankme(features) == pytest.approx(float(golden[f"rankme_paper_eps1e-7_{kind}"]), rel=1e-7)


def test_lidar_is_that_of_published_code():
    golden = np.load(GOLDEN)
    videos, clips = int(golden["lidar_n_classes"]), int(golden["lidar_samples_per_class"])
    found = lidar(golden["lidar_emb"].reshape(videos, clips, -1))
    assert found == pytest.approx(float(golden["lidar"]), rel=1e-5)
    assert found == pytest.approx(float(golden["lidar_float64"]), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1e-30, 1.0, 1e30]))
def test_the_rank_of_r_equal_directions_is_r(seed, rank, scale):
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((size, rank)))[0] for size in (60, 20))
    features = scale * u @ v.T
    assert rankme(features) == pytest.approx(rank, rel=1e-3)
    assert normalised_deviation(features) <= 1 + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_collapsed_features_are_told_from_spread_ones(seed):
    rng = np.random.default_rng(seed)
    spread = rng.standard_normal((400, 16))
    constant = np.ones((400, 16)) + 1e-9 * spread
    line = rng.standard_normal((400, 1)) * rng.standard_normal(16)
    assert rankme(spread) > 15
    assert normalised_deviation(spread) == pytest.approx(1, abs=0.03)
    assert rankme(constant) == pytest.approx(1, abs=1e-3)
    assert normalised_deviation(constant) < 1e-6
    assert rankme(line) == pytest.approx(1, abs=1e-3)
    assert rankme(np.zeros((4, 3))) == 1
    assert normalised_deviation(np.zeros((4, 3))) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_lidar_counts_the_directions_that_distinguish_videos(seed, rank):
    rng = np.random.default_rng(seed)
    videos = np.zeros((200, 8))
    videos[:, :rank] = 10 * rng.standard_normal((200, rank))
    clips = videos[:, None] + 0.5 * rng.standard_normal((200, 6, 8))
    assert rank - 0.6 < lidar(clips) < rank + 0.6
    # what varies within videos does not count, whatever its scale
    clips[..., 7] += 100 * rng.standard_normal((200, 6))
    assert lidar(clips) < rank + 0.6


def test_nan_is_no_rank():
    features = np.full((4, 2, 3), np.nan)
    for value in (rankme(features[:, 0]), lidar(features), normalised_deviation(features[:, 0])):
        assert np.isnan(value)
