"""Boxes of heat maps: worked by hand, beside a slow form, and for maps without a maximum."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from avssl.locate.boxes import enlarged, largest_box, largest_boxes
from avssl.locate.tables import moment_name
from avssl.locate.tracks import link


def test_the_box_is_tight_around_the_largest_component():
    heat = np.zeros((8, 8), np.float32)
    heat[1:4, 2:5] = 0.8  # nine pixels
    heat[6, 6] = 1.0  # the maximum, but a single pixel
    assert largest_box(heat, 0.5, 8) == (2 / 8, 1 / 8, 5 / 8, 4 / 8)
    found = largest_boxes(heat[None], 0.5, 8)
    assert found.score[0] == np.float32(0.8)
    assert largest_box(heat, 0.9, 8) == (6 / 8, 6 / 8, 7 / 8, 7 / 8)  # above 0.8 there is only the maximum


def test_the_threshold_lies_between_mean_and_maximum():
    heat = np.array([[0.0, 0.0], [0.6, 1.0]], np.float32)  # mean 0.4
    assert largest_box(heat, 0.3, 2) == (0, 0.5, 1, 1)  # above 0.58
    assert largest_box(heat, 0.4, 2) == (0.5, 0.5, 1, 1)  # above 0.64


def test_pixels_of_different_maps_and_corners_are_not_connected():
    heat = np.zeros((2, 4, 4), np.float32)
    heat[0, 0, 0] = heat[0, 1, 1] = heat[1, 1, 1] = 1
    assert largest_boxes(heat, 0.5, 4).corners.tolist() == [[0, 0, 0.25, 0.25], [0.25, 0.25, 0.5, 0.5]]


def test_maps_that_are_the_same_everywhere_or_not_finite_have_no_box():
    heat = np.stack([np.full((4, 4), 0.7), np.full((4, 4), np.nan), np.eye(4)]).astype(np.float32)
    heat[0, 0, 0] += 1e-7
    found = largest_boxes(heat, 0.5, 16)
    assert np.isnan(found.corners[:2]).all()
    assert np.isnan(found.score[:2]).all()
    assert np.isfinite(found.corners[2]).all()
    assert largest_box(heat[0], 0.5, 16) is None
    assert largest_boxes(heat[:0], 0.5, 16).corners.shape == (0, 4)


def test_the_score_is_the_similarity_whatever_the_map_was_mixed_with():
    heat, similarity = np.zeros((1, 4, 4), np.float32), np.full((1, 4, 4), 0.1, np.float32)
    heat[0, 1:3, 1:3], similarity[0, 2, 2], similarity[0, 0, 0] = 1, 0.3, 0.9
    assert largest_boxes(heat, 0.5, 4, similarity).score[0] == np.float32(0.3)


@given(st.integers(0, 10**6), st.floats(0, 0.99), st.sampled_from([7, 16]))
def test_many_maps_at_once_have_the_boxes_of_each_alone(seed, beta, size):
    maps = np.random.default_rng(seed).standard_normal((5, 4, 4)).astype(np.float32)
    boxes = largest_boxes(maps, beta, size).corners
    for heat, box in zip(enlarged(maps, size), boxes, strict=True):
        labelled, _ = ndimage.label(heat > beta * heat.max() + (1 - beta) * heat.mean(dtype=np.float64))
        best = np.bincount(labelled.reshape(-1))[1:].argmax()
        rows, columns = ndimage.find_objects(labelled)[best]
        expected = np.array([columns.start, rows.start, columns.stop, rows.stop], np.float32) / np.float32(size)
        assert np.allclose(box, expected)


def test_tracks_follow_boxes_that_overlap():
    still, moved, far = (0.0, 0.0, 0.4, 0.4), (0.1, 0.0, 0.5, 0.4), (0.6, 0.6, 0.9, 0.9)
    moments = [np.array([still, far]), np.array([far, moved]), np.empty((0, 4)), np.array([moved])]
    assert [track.tolist() for track in link(moments, 3)] == [[3, 4], [4, 3], [], [5]]


def test_of_two_boxes_the_one_that_overlaps_more_goes_on():
    moments = [np.array([[0, 0, 1, 1.0]]), np.array([[0, 0, 1, 0.5], [0, 0, 1, 0.9]])]
    assert [track.tolist() for track in link(moments)] == [[0], [1, 0]]


def test_a_moment_late_in_a_long_video_keeps_its_milliseconds():
    assert [moment_name("a.mp4", time) for time in (4321.125, 1.5, 20.0)] == [
        "a.mp4#t=4321.125", "a.mp4#t=1.5", "a.mp4#t=20",
    ]  # fmt: skip
