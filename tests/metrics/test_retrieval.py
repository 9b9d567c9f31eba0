"""Nearest neighbours against scikit-learn's, ties, recalls of a known answer, and the weighted vote."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from avssl.config import ClipConfig
from avssl.evaluate import protocols
from avssl.evaluate.features import Sampling
from avssl.metrics.neighbours import nearest
from avssl.metrics.retrieval import leave_one_out_neighbours, partner_recall, recall_at, weighted_neighbours


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 30), st.integers(1, 70), st.integers(1, 40))
def test_neighbours_are_scikit_learns(seed, gallery, queries, k, block):
    rng = np.random.default_rng(seed)
    g, q = rng.standard_normal((gallery, 7)), rng.standard_normal((queries, 7))
    theirs = NearestNeighbors(n_neighbors=min(k, gallery), algorithm="brute").fit(g).kneighbors(q)[1]
    assert np.array_equal(nearest(q, g, k, block), theirs)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 40))
def test_equally_near_ones_come_in_the_gallerys_order(seed, k, block):
    """Whole numbers: distances are exact, and many are the same."""
    rng = np.random.default_rng(seed)
    g, q = rng.integers(-1, 2, (50, 3)).astype(float), rng.integers(-1, 2, (20, 3)).astype(float)
    distance = ((q[:, None] - g[None]) ** 2).sum(2)
    expected = np.argsort(distance, axis=1, kind="stable")[:, :k]
    assert np.array_equal(nearest(q, g, k, block), expected)


def test_no_gallery_and_no_queries():
    assert nearest(np.zeros((3, 2)), np.zeros((0, 2)), 5).shape == (3, 0)
    assert nearest(np.zeros((0, 2)), np.zeros((4, 2)), 5).shape == (0, 4)


@pytest.mark.parametrize("block", [1, 1000])
def test_recalls_of_a_known_answer(block):
    """Query i has the class of the gallery's entry at rank i: it is found from k = i + 1 on."""
    gallery = np.arange(50.0)[:, None]
    labels = np.array([f"class {i}" for i in range(50)])
    queries = np.full((50, 1), -1.0)
    found = recall_at(gallery, labels, queries, labels, (1, 5, 10, 20, 50), block)
    assert found == {1: 1 / 50, 5: 5 / 50, 10: 10 / 50, 20: 20 / 50, 50: 1.0}


def test_a_vote_is_weighted_by_nearness():
    train = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    labels = np.array(["near", "far", "far"])
    test, truth = np.array([[2.0, 0.0]]), np.array(["near"])
    # exp((1 - 0.6) / 0.07) is 303 votes for the near one; with a high temperature the two far ones win
    assert weighted_neighbours(train, labels, test, truth, k=3) == 1.0
    assert weighted_neighbours(train, labels, test, truth, k=3, temperature=10) == 0.0
    assert weighted_neighbours(train, labels, test, truth, k=99) == 1.0


@pytest.mark.parametrize(("asked", "taken"), [(0, 30), (32, 32)])
def test_clips_of_retrieval_have_the_frames_asked_for(asked, taken, monkeypatch):
    """And those of the other protocols the frames of training."""
    frames = {}

    def extract(model, rows, root, config, **others):
        frames[others["sampling"].maps] = config.frames

    monkeypatch.setattr(protocols, "extract_features", extract)
    context = protocols.EvaluationContext.__new__(protocols.EvaluationContext)
    context.source = SimpleNamespace(
        model=SimpleNamespace(encoders={}), clip=ClipConfig(retrieval_frames=asked), precision="float32", data=None
    )
    context.videos, context.config = SimpleNamespace(rows=None, root=""), SimpleNamespace(workers=0)
    context.device = context.cache = None
    context.modalities = ["video"]
    for sampling in (protocols.CENTRE, Sampling(clips=10, maps=True)):
        context._extract(sampling)
    assert frames == {False: 30, True: taken}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_each_row_is_voted_for_by_the_other_videos(seed, k):
    rng = np.random.default_rng(seed)
    x, labels, videos = rng.standard_normal((24, 5)), rng.integers(0, 3, 24), rng.integers(0, 20, 24)
    hits = [
        weighted_neighbours(x[videos != v], labels[videos != v], x[[i]], labels[[i]], k) for i, v in enumerate(videos)
    ]
    assert leave_one_out_neighbours(x, labels, videos, [k])[k] == pytest.approx(np.mean(hits))
    assert np.isnan(leave_one_out_neighbours(x, labels, np.zeros(24), [k])[k])


def test_partners_are_found_where_they_are_nearest():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 16))
    assert partner_recall(x, 3 * x) == {1: 1.0, 5: 1.0}
    assert partner_recall(x, np.roll(x, 1, axis=0))[1] == 0
    assert partner_recall(np.ones((50, 3)), np.ones((50, 3))) == {1: 0.0, 5: 0.0}
    assert partner_recall(x, rng.standard_normal((50, 16)))[5] < 0.4
