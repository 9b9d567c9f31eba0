"""True boxes at the moments of heat maps."""

import numpy as np
import pytest

from avssl.locate.located import moment_times
from avssl.locate.truth import PAIRS, samples_of
from tests.locate.made import CLIP, LEFT, RIGHT, boxes_at, located, peak


def test_the_time_of_a_moment_is_the_middle_of_its_frames():
    frames = 0.5 + np.arange(8) / 8
    assert moment_times(np.array(0.5), 2, CLIP) == pytest.approx([frames[:4].mean(), frames[4:].mean()])
    assert moment_times(np.array([0.5]), 8, CLIP)[0] == pytest.approx(frames)


def test_each_moment_gets_the_true_boxes_of_the_nearest_time():
    part = located([peak(LEFT)] * 2, [peak(RIGHT)] * 2)
    first, second = part.times[0, 0]
    boxes = [boxes_at("0.mp4", time, LEFT) for time in (first + 0.2, first - 0.01, second + 0.05, 1.9)]
    found = samples_of([part], [{0: boxes, 1: [boxes_at("1.mp4", 0.0, LEFT)]}], CLIP)
    assert [(s.kept, s.clip, s.moment, s.truth.time) for s in found.samples] == [
        (0, 0, 0, boxes[1].time), (0, 0, 1, boxes[2].time),
    ]  # fmt: skip


def test_boxes_of_a_whole_video_belong_to_its_middle_once():
    part = located([peak(LEFT)], [peak(RIGHT)])
    part.rows = part.rows.set_column(2, "window_seconds", [[2.6]])  # its middle is nearer to the second moment
    found = samples_of([part], [{0: [boxes_at("0.mp4", np.nan, LEFT)]}], CLIP)
    assert [(s.kept, s.moment) for s in found.samples] == [(0, 1)]


def test_what_sounds_and_what_does_not():
    part = located([peak(LEFT)] * 3, [peak(RIGHT)] * 3)
    time = float(part.times[0, 0, 0])
    truth = {
        0: [boxes_at("0.mp4", time, LEFT, RIGHT, sounding=(False, True))],
        1: [boxes_at("1.mp4", time, LEFT, sounding=(False,))],
        2: [boxes_at("2.mp4", np.nan, LEFT)],
    }
    truth[2][0].source = "silence"
    found = samples_of([part], [truth], CLIP).samples
    assert [s.sounds for s in found] == [True, False, False]
    assert found[0].sounding_boxes.tolist() == [list(RIGHT)]
    with_another = truth[2][0]
    with_another.source = "another.mp4"
    for with_another.time in (np.nan, time):
        part.split = "test"
        assert len(samples_of([part], [truth], CLIP).samples) == 2  # that needs another pass
        part.split = PAIRS
        assert samples_of([part], [truth], CLIP).samples[2].sounds  # as the pictures of IS3, which have no own audio
    with_another.boxes, with_another.sounding = np.empty((0, 4)), np.empty(0, bool)  # as SLAVC's negatives
    assert not samples_of([part], [truth], CLIP).samples[2].sounds


def test_true_boxes_of_a_video_that_failed_are_counted():
    part = located([peak(LEFT)], [peak(RIGHT)])
    part.decoded[0] = False
    found = samples_of([part], [{0: [boxes_at("0.mp4", 1.0, LEFT)]}], CLIP)
    assert not found.samples
    assert found.unused == {"in videos that could not be decoded": 1}
