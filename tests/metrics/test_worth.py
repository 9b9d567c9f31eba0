"""What labels are worth without classes: k-means that repeats, labels that features predict, and floors."""

import numpy as np
import pytest

from avssl.metrics.repeatability import agreement_of_halves, repeatability, standardised
from avssl.metrics.worth import kmeans_floors, predictability, worth

K, N = 5, 300
TRUTH = np.arange(N) % K


def clustered(distance: float, seed: int = 0, width: int = 10) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return distance * np.eye(K, width)[TRUTH] + rng.standard_normal((N, width))


def test_k_means_of_clusters_repeats_and_that_of_noise_does_not():
    found = [repeatability(clustered(distance), K) for distance in (0, 3, 8)]
    assert found[0] < 0.05
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.99
    assert repeatability(np.ones((N, 3)), K) == 0
    assert repeatability(clustered(8)[:15], K) == 0  # too few to halve


def test_the_widest_directions_of_a_cloud_are_no_clusters():
    """Any k-means cuts a stretched cloud alike, but there is nothing to find in it."""
    stretched = clustered(0, width=40) @ (
        np.random.default_rng(7).standard_normal((40, 3)) @ np.ones((3, 40)) + np.eye(40)
    )
    assert agreement_of_halves(standardised(stretched), K, 0) > 0.5
    assert repeatability(stretched, K) < 0.1


def test_noise_is_predicted_by_nothing_but_itself():
    noise = clustered(0, 3)
    labels = kmeans_floors({"noise": noise}, {"noise": noise}, K)["noise"]
    assert predictability(noise, labels) > 0.2
    assert predictability(clustered(8), labels) < 0.05
    assert predictability(clustered(8), TRUTH) > 0.95
    assert predictability(noise, TRUTH) < 0.05
    assert predictability(noise, np.zeros(N, int)) == 0


def test_wide_features_have_the_same_probe():
    """More features than videos: the weights come from the smaller system."""
    x = clustered(4)
    repeated = np.repeat(x, 40, axis=1)
    repeated += 1e-6 * np.random.default_rng(0).standard_normal(repeated.shape)
    assert predictability(repeated, TRUTH) == pytest.approx(predictability(x, TRUTH), abs=0.1)


def test_floors_are_fitted_to_one_split_and_label_another():
    train, test = ({"video": clustered(8, s), "audio": clustered(0, s + 9)} for s in (0, 1))
    floors = kmeans_floors(train, test, K)
    assert list(floors) == ["video", "audio", "both"]
    found = {name: worth(labels, test, TRUTH) for name, labels in floors.items()}
    assert found["video"].metrics["nmi"] == pytest.approx(1)
    assert found["audio"].metrics["nmi"] < 0.1
    assert found["video"].predicted > found["audio"].predicted
    assert worth(floors["video"], test).metrics is None
    assert worth(floors["video"], test, np.full(N, -1)).metrics is None


def test_a_modality_of_equal_videos_is_no_cluster():
    same = {"video": np.ones((N, 4)), "audio": clustered(8)}
    floors = kmeans_floors(same, same, K)
    assert set(floors["video"]) == {0}
    assert worth(floors["both"], same, TRUTH).metrics["nmi"] == pytest.approx(1)


def test_standardised_like_others():
    x = clustered(2)
    found = standardised(x + 5, x)
    assert found.mean(0) == pytest.approx(5 / x.std(0), rel=1e-3)
