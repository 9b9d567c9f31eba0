"""Nearest neighbours are those of float64 at any offset and scale, with ties in the gallery's order, and so is what is
built on them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from avssl.metrics.kmeans import kmeans
from avssl.metrics.neighbours import centred, nearest, nearest_cosines, nearest_distances, unit
from avssl.metrics.retrieval import cross_modal, recall_at, weighted_neighbours


def distances(queries, gallery):
    """Each difference in float64: int64 [M, N], no product whose digits cancel."""
    q, g = np.asarray(queries, np.float64), np.asarray(gallery, np.float64)
    return np.sqrt(((q[:, None] - g[None]) ** 2).sum(2))


def by_hand(queries, gallery, k):
    return np.argsort(distances(queries, gallery), axis=1, kind="stable")[:, :k]


def classed(seed=0, videos=300, queries=60, width=32, offset=0.0, spread=1.0, dtype=np.float32):
    """Gallery, labels, queries, labels: 10 classes around an offset in every direction."""
    rng = np.random.default_rng(seed)
    corners = rng.standard_normal((10, width))
    labels, truth = rng.integers(10, size=videos), rng.integers(10, size=queries)
    gallery = offset + spread * (corners[labels] + 0.5 * rng.standard_normal((videos, width)))
    return gallery.astype(dtype), labels, (
        offset + spread * (corners[truth] + 0.5 * rng.standard_normal((queries, width)))
    ).astype(dtype), truth  # fmt: skip


def test_nearly_alike_features():
    """Cosines of at least 0.9999991, as those of encoders whose features have a long mean."""
    gallery, labels, queries, truth = classed(offset=1.0, spread=4e-4)
    assert (unit(queries.astype(np.float64)) @ unit(gallery.astype(np.float64)).T).min() > 0.9999985
    found = recall_at(gallery, labels, queries, truth)
    near = by_hand(queries, gallery, 50)
    assert found == {k: (labels[near[:, :k]] == truth[:, None]).any(1).mean() for k in (1, 5, 10, 20, 50)}
    assert found[1] > 0.95
    assert weighted_neighbours(gallery, labels, queries, truth) > 0.95
    assert weighted_neighbours(gallery, labels, queries, truth, temperature=0) > 0.95


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    offset=st.sampled_from([0.0, 1.0, 1e3, -1e5]),
    exponent=st.sampled_from([-30, -3, 0, 4, 30]),
    dtype=st.sampled_from([np.float32, np.float64]),
    k=st.integers(1, 60),
    block=st.integers(1, 100),
)
def test_any_offset_and_scale(seed, offset, exponent, dtype, k, block):
    gallery, _, queries, _ = classed(seed, 80, 20, 6, offset)
    gallery, queries = ((x.astype(np.float64) * 10.0**exponent).astype(dtype) for x in (gallery, queries))
    index, distance = nearest_distances(queries, gallery, k, block)
    assert np.array_equal(index, by_hand(queries, gallery, k))
    np.testing.assert_allclose(distance, np.sort(distances(queries, gallery), 1)[:, :k], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_that_are_no_floats(scale):
    gallery, _, queries, _ = classed(dtype=np.float64)
    index, distance = nearest_distances(queries * scale, gallery * scale, 5)
    assert np.array_equal(index, by_hand(queries, gallery, 5))
    np.testing.assert_allclose(distance / scale, np.sort(distances(queries, gallery), 1)[:, :5], rtol=1e-9)


def test_scales_that_differ_within_the_features():
    gallery, _, queries, _ = classed()
    far = gallery.copy()
    far[7] = 1e25
    assert np.array_equal(nearest(queries, far, 5), by_hand(queries, far, 5))
    one = queries * np.float32(1e4)
    assert np.array_equal(nearest(one, gallery, 5), by_hand(one, gallery, 5))
    uneven = np.geomspace(1e-9, 1e9, gallery.shape[1]).astype(np.float32)
    assert np.array_equal(
        nearest(queries * uneven, gallery * uneven, 9), by_hand(queries * uneven, gallery * uneven, 9)
    )


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_copies_come_in_the_gallerys_order(offset):
    """Forty copies of each row: more ties than candidates."""
    few, _, queries, _ = classed(videos=5, offset=offset)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 40))
    assert np.array_equal(nearest(queries, few[order], 100), by_hand(queries, few[order], 100))
    same = np.full((200, 16), 0.1, np.float32)  # a collapsed encoder's
    assert np.array_equal(nearest(same[:3], same, 4), np.tile(np.arange(4), (3, 1)))


def test_integers_and_halves():
    gallery, _, queries, _ = classed(spread=20.0)
    for kind in (np.int16, np.float16):
        g, q = gallery.astype(kind), queries.astype(kind)
        assert np.array_equal(nearest(q, g, 7), by_hand(q, g, 7))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers(bad):
    gallery, _, queries, _ = classed()
    gallery[3, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        nearest(queries, gallery, 3)


def test_zeros_have_cosine_0_to_all():
    gallery = np.array([[0.0, 0.0], [1.0, 3.0], [-1.0, 0.0]])
    index, cosine = nearest_cosines(np.array([[1.0, 0.0], [0.0, 0.0]]), gallery, 3)
    assert index.tolist() == [[1, 0, 2], [0, 1, 2]]
    np.testing.assert_allclose(cosine[0], [10**-0.5, 0, -1], atol=1e-12)
    classes = np.array(["x", "x", "y"])
    assert cross_modal(gallery[[1, 2, 2]], gallery[[0, 2, 2]], classes)["video_audio"] == pytest.approx(2 / 3)


def test_from_one_modality_to_the_other_where_embeddings_are_nearly_alike():
    video, classes, *_ = classed(videos=200, offset=1.0, spread=4e-4)
    rng = np.random.default_rng(1)
    audio = (video + 1e-4 * rng.standard_normal(video.shape)).astype(np.float32)
    found = cross_modal(video, audio, classes)
    near = by_hand(unit(video.astype(np.float64)), unit(audio.astype(np.float64)), 1)[:, 0]
    assert found["video_audio"] == (classes[near] == classes).mean()
    assert found["video_audio_instance"] == (near == np.arange(200)).mean() > 0.95


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-30), (0.0, 1e30), (1e4, 1.0), (1e3, 1e-20)])
def test_k_means_at_any_offset_and_scale(offset, scale):
    x, *_ = classed(dtype=np.float64)
    moved = ((x + offset) * scale).astype(np.float32)
    (found, _), (expected, _) = kmeans(moved, 10, 0), kmeans(x, 10, 0)
    assert adjusted_rand_score(found, expected) > 0.99
    largest = np.abs(centred(moved)).max()
    assert 0.5 <= largest < 1


def test_rows_of_unit_length_at_any_scale():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    for scale in (1e-30, 1.0, 1e30):
        found = unit((x * scale).astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(unit(x * 1e300)[0], [0.6, 0.8])
    assert unit(np.empty((0, 3))).shape == (0, 3)
