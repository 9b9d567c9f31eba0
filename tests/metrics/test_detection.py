"""The average precision of detections against cases worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.metrics.detection import ImageBoxes, box_ious, class_aps, cluster_classes, detection_ap

SQUARE, RIGHT, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]
LOW, HALF = [0, 0, 10, 4], [0, 0, 10, 5]  # IoU 0.4 and 0.5 with SQUARE
NONE = np.empty((0, 4))


def found(boxes: list, scores: list, classes: list | None = None) -> ImageBoxes:
    return ImageBoxes(np.array(boxes, float), np.array(scores), None if classes is None else np.array(classes))


def true(*boxes: list, classes: list | None = None) -> ImageBoxes:
    return ImageBoxes(np.array(boxes, float).reshape(-1, 4), None, None if classes is None else np.array(classes))


def test_ious_of_boxes():
    expected = [[1, 0, 0.4, 0.5], [0, 1, 0, 0]]
    assert box_ious([SQUARE, RIGHT], [SQUARE, RIGHT, LOW, HALF]) == pytest.approx(np.array(expected))
    assert box_ious([[1, 1, 1, 1]], [[1, 1, 1, 1]]) == 0


def test_a_case_worked_by_hand():
    # by score: 0.9 true (1/1), 0.8 false (1/2), 0.7 true (2/3), 0.6 its second box: false (2/4), 0.5 true (3/5)
    detected = [
        found([SQUARE, FAR, SQUARE], [0.9, 0.8, 0.6]),
        found([RIGHT, HALF], [0.7, 0.5]),
        found([], []),
    ]
    truth = [true(SQUARE), true(SQUARE, RIGHT), true(FAR)]
    # recall 1/4, 1/4, 2/4, 2/4, 3/4; precision made monotone 1, 2/3, 2/3, 3/5, 3/5
    assert detection_ap(detected, truth, 0.5) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # 101 levels: 0 to 0.25 (26) have 1, to 0.5 (25) 2/3, to 0.75 (25) 3/5, and 25 have 0
    assert detection_ap(detected, truth, 0.5, "coco") == pytest.approx((26 + 25 * 2 / 3 + 25 * 3 / 5) / 101)
    assert detection_ap(detected, truth, 0.51) == pytest.approx((1 + 2 / 3) / 4)


def test_a_detection_takes_the_best_free_box():
    # VOC would count the second as false, because its best box is taken; COCO and this do not
    near, nearer = [0, 0, 10, 10], [1, 0, 11, 10]
    detected = [found([nearer, nearer], [0.9, 0.8])]
    assert detection_ap(detected, [true(near, nearer)], 0.5) == 1


def test_false_positives_in_pictures_without_boxes_count():
    detected = [found([SQUARE], [0.5]), found([SQUARE], [0.9])]
    assert detection_ap(detected, [true(SQUARE), true()]) == pytest.approx(0.5)
    assert detection_ap([ImageBoxes(NONE)], [true(SQUARE)]) == 0
    assert math.isnan(detection_ap(detected, [true(), true()]))
    with pytest.raises(ValueError, match="2 pictures, but true boxes of 1"):
        detection_ap(detected, [true(SQUARE)])
    with pytest.raises(ValueError, match="needs a score"):
        detection_ap([ImageBoxes(np.array([SQUARE]))], [true(SQUARE)])


def test_classes_are_compared_apart():
    detected = [found([SQUARE, RIGHT], [0.9, 0.8], [1, 1]), found([FAR], [0.7], [-1])]
    truth = [true(SQUARE, RIGHT, classes=[1, 2]), true(FAR, classes=[2])]
    aps = class_aps(detected, truth)
    assert aps.by_class == {1: 1, 2: 0}
    assert aps.mean == 0.5
    assert detection_ap(detected, truth) == 1
    assert math.isnan(class_aps([], []).mean)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 100_000))
def test_ap_depends_on_the_order_of_scores_alone(seed):
    rng = np.random.default_rng(seed)

    def boxes(n: int) -> np.ndarray:
        corner = rng.uniform(0, 20, (n, 2))
        return np.concatenate([corner, corner + rng.uniform(1, 15, (n, 2))], 1)

    truth = [ImageBoxes(boxes(rng.integers(0, 4))) for _ in range(5)] + [true(SQUARE)]
    detected = [ImageBoxes(b, rng.permutation(len(b)) / 10.0) for b in (boxes(rng.integers(0, 5)) for _ in range(6))]
    ap = detection_ap(detected, truth, 0.3)
    assert 0 <= ap <= 1
    rescored = [ImageBoxes(b.boxes, np.exp(b.scores)) for b in detected]
    assert detection_ap(rescored, truth, 0.3) == ap
    assert detection_ap(detected, truth, 0.5) <= ap + 1e-12
    perfect = [ImageBoxes(b.boxes, np.ones(len(b.boxes))) for b in truth]
    assert detection_ap(perfect, truth, 0.99) == pytest.approx(1)


def test_clusters_are_matched_to_classes():
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 5, -1])
    classes = np.array([7, 7, 8, 7, 7, 9, -1, 7, 9])
    assert cluster_classes(clusters, classes) == {0: 8, 1: 7, 2: 9}
    assert cluster_classes(clusters, classes, "majority") == {0: 7, 1: 7, 2: 9, 5: 7}
    assert cluster_classes(clusters, np.full(9, -1)) == {}
    with pytest.raises(ValueError, match="hungarian or majority"):
        cluster_classes(clusters, classes, "best")
