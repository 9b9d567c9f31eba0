"""What a detector is trained on: boxes that are worth it, grouped by video, and how many are left out and why."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.core.errors import UserError
from avssl.locate.training_frames import MOMENTS, SCHEMA, from_located, from_true, read_located
from avssl.videos.box_annotations import Annotations, TrueBoxes

GOOD = (0.2, 0.2, 0.7, 0.8)
ABOUT = {"run": "runs/a", "step": 3, "model": "ab", "clusters": 4, "chosen_head": 1, "names": {"1": "drums"}}


def located(rows: list[tuple]) -> pa.Table:
    """A table of (path, time, box, cluster, confidence)."""
    path, time, box, cluster, confidence = zip(*rows, strict=True)
    columns = [path, ["train"] * len(rows), time, *zip(*box, strict=True), cluster, confidence]
    return pa.table([pa.array(x, f.type) for x, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def videos(
    cluster: int, count: int, box: tuple = GOOD, confidence: float | None = 0.9, time: float = 0.5
) -> list[tuple]:
    return [(f"{cluster}_{i}.mp4", time, box, cluster, confidence) for i in range(count)]


def test_boxes_that_teach_nothing_are_left_out_and_counted():
    rows = [
        *videos(1, 5), *videos(3, 3),
        *videos(2, 2),  # a rare cluster
        ("x.mp4", 0.5, (1.1, 0.2, 1.4, 0.5), 1, 0.9), ("x.mp4", 0.6, (0.5, 0.5, 0.5, 0.9), 1, 0.9),  # outside, no area
        ("x.mp4", 0.7, (float("nan"), 0.2, 0.3, 0.4), 1, 0.9),
        ("x.mp4", 0.8, (0.2, 0.2, 0.21, 0.9), 1, 0.9), ("x.mp4", 0.9, (0, 0, 1, 1), 1, 0.9),
        ("x.mp4", 1.0, GOOD, 1, 0.2), ("x.mp4", 1.1, GOOD, -1, 0.9), ("x.mp4", float("nan"), GOOD, 1, 0.9),
    ]  # fmt: skip
    frames = from_located(located(rows), ABOUT, "train", min_confidence=0.5)
    assert {why: count for why, count in frames.left_out.items() if count} == {
        "not a number": 1, "outside the picture or without an area": 2, "too small": 1, "as large as the picture": 1,
        "of an uncertain cluster": 1, "of a rare cluster": 2, "without a cluster": 1, "without a time": 1,
    }  # fmt: skip
    assert len(frames.boxes) == 8
    assert frames.categories == [1, 3]
    assert frames.titles == ["drums", "cluster_003"]
    assert Counter(frames.labels.tolist()) == {0: 5, 1: 3}
    assert frames.about == ABOUT


def test_a_box_that_reaches_out_of_the_picture_is_clipped():
    frames = from_located(located(videos(0, 3, (-0.5, 0.25, 0.5, 1.5))), ABOUT, "train", 0.5)
    np.testing.assert_allclose(frames.boxes, [[0, 0.25, 0.5, 1]] * 3)


def test_a_run_without_clusters_has_one_category():
    frames = from_located(located(videos(-1, 2, confidence=None)), {"clusters": 0}, "train", 0.5)
    assert (frames.categories, frames.titles, frames.labels.tolist()) == ([0], ["object"], [0, 0])


def test_no_box_left_says_why():
    with pytest.raises(UserError, match=r"no box is left .* 3 of an uncertain cluster; set a lower min_confidence"):
        from_located(located(videos(0, 3, confidence=0.1)), ABOUT, "train", 0.5)
    with pytest.raises(UserError, match="no box is left .* 3 too small; set another beta"):
        from_located(located(videos(0, 3, (0.2, 0.2, 0.21, 0.9))), ABOUT, "train", 0.5)
    with pytest.raises(UserError, match="avssl locate found no box in any video"):
        from_located(located(videos(0, 3)).slice(0, 0), ABOUT, "train", 0.5)
    with pytest.raises(UserError, match="no box was located in the split val, .* of train"):
        from_located(located(videos(0, 3)), ABOUT, "val", 0.5)


def test_silent_objects_are_trained_on_in_frames_with_a_box_of_what_sounds():
    rows = [*videos(1, 3), *videos(3, 3), *videos(2, 2), ("x.mp4", 0.5, GOOD, 1, 0.2)]
    beside = (0.1, 0.1, 0.2, 0.3)
    silent = [
        ("1_0.mp4", 0.5, beside, 3, None), ("3_1.mp4", 0.5, beside, 1, None), ("3_1.mp4", 0.5, GOOD, 3, None),
        ("1_1.mp4", 0.7, beside, 3, None),  # another moment
        ("x.mp4", 0.5, beside, 3, None), ("1_2.mp4", 0.5, beside, 2, None), ("1_2.mp4", 0.5, (0, 0, 1, 1), 3, None),
    ]  # fmt: skip
    table = located(silent).drop_columns(["confidence"])
    frames = from_located(located(rows), ABOUT, "train", 0.5, table)
    found = {
        path: sorted(frames.labels[frames.of_frame(frames.of_video(k).start)].tolist())
        for k, path in enumerate(frames.paths)
    }
    assert found == {"1_0.mp4": [0, 1], "1_1.mp4": [0], "1_2.mp4": [0], "3_0.mp4": [1], "3_1.mp4": [0, 1, 1],
                     "3_2.mp4": [1]}  # fmt: skip
    assert {why: count for why, count in frames.left_out.items() if count and "silent" in why} == {
        "silent, of a cluster that is not trained on": 1, "silent, in a frame without a box of what sounds": 2,
    }  # fmt: skip
    assert frames.left_out["as large as the picture"] == 1
    other = table.set_column(1, "split", pa.array(["test"] * len(table)))
    assert len(from_located(located(rows), ABOUT, "train", 0.5, other).boxes) == 6


@pytest.mark.parametrize("count", [1, MOMENTS, MOMENTS + 1, 30])
def test_frames_are_grouped_by_video_and_are_few_and_evenly_spaced(count):
    times = np.random.default_rng(0).permutation(count) / 15
    rows = [(path, t, GOOD, 0, 0.9) for path in ("b.mp4", "a.mp4", "c.mp4") for t in times for _ in range(2)]
    frames = from_located(located(rows), ABOUT, "train", 0.5)
    kept = min(count, MOMENTS)
    assert frames.paths == ["a.mp4", "b.mp4", "c.mp4"]
    assert frames.video_starts.tolist() == [0, kept, 2 * kept, 3 * kept]
    assert frames.frame_starts.tolist() == list(range(0, 6 * kept + 1, 2))  # two boxes of each frame
    first = frames.times[frames.of_video(1)]
    assert (np.diff(first) > 0).all()
    gaps = np.diff(first * 15)
    assert not len(gaps) or gaps.max() - gaps.min() < 1.5


def test_true_boxes_train_by_class_and_boxes_of_whole_videos_are_of_the_middle():
    rows = pa.table({"path": ["a.mp4", "b.mp4", "c.mp4"], "window_start": [0.0, 2.0, 0.0], "window_seconds": [2.0] * 3})
    boxes = np.array([GOOD, (0.1, 0.1, 0.3, 0.3)])
    truth = [
        TrueBoxes("a.mp4", 0.4, boxes, ["dog", "cat"], np.array([True, False])),
        TrueBoxes("b.mp4", float("nan"), boxes[:1], ["dog"], np.array([True])),
        TrueBoxes("other.mp4", 0.4, boxes[:1], ["cow"], np.array([True])),
    ]
    frames = from_true(Annotations("sample", truth), rows, "videos")
    assert (frames.titles, frames.paths, frames.times.tolist()) == (["cat", "dog"], ["a.mp4", "b.mp4"], [0.4, 3.0])
    assert frames.labels.tolist() == [1, 0, 1]
    assert frames.about == {}
    with pytest.raises(UserError, match="none of the true boxes lies in a training video below videos"):
        from_true(Annotations("sample", truth[2:]), rows, "videos")


def test_a_damaged_table_is_one_line(tmp_path):
    path = tmp_path / "boxes.parquet"
    with pytest.raises(UserError, match="does not exist: run avssl locate first"):
        read_located(path)
    path.write_text("no table")
    with pytest.raises(UserError, match=r"boxes\.parquet cannot be read"):
        read_located(path)
    table = located(videos(0, 3))
    pq.write_table(table.replace_schema_metadata({"avssl": "[1"}), path)
    with pytest.raises(UserError, match="the description of its run cannot be read"):
        read_located(path)
    pq.write_table(located([("../../etc/x.mp4", 0.5, GOOD, 0, 0.9)]), path)
    with pytest.raises(UserError, match="leads out of its folder"):
        read_located(path)
    pq.write_table(table.replace_schema_metadata({"avssl": json.dumps(ABOUT)}), path)
    rows, about = read_located(path)
    assert (len(rows), about) == (3, ABOUT)
