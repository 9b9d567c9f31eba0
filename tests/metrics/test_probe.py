"""Probes, retrieval and labels from a table, each with a known answer."""

import numpy as np
import pyarrow as pa
import pytest

from avssl.core.errors import UserError
from avssl.evaluate.attributes import read_attributes
from avssl.evaluate.features import Features
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


def test_what_probes_look_at():
    encoded = {"video": np.full((2, 3), 2.0), "audio": np.zeros((2, 2))}
    views = Features(np.arange(2), encoded, {"video": np.ones((2, 4))}, []).views()
    assert {name: x.shape for name, x in views.items()} == {
        "video": (2, 3), "audio": (2, 2), "both": (2, 5), "video embedding": (2, 4),
    }  # fmt: skip
    assert np.allclose(np.linalg.norm(views["video"], axis=1), 1)
    assert (views["audio"] == 0).all()
    alone = Features(np.arange(2), {"audio": np.ones((2, 2))}, {}, []).views()
    assert list(alone) == ["audio"]


def test_labels_from_the_index_and_from_a_table(tmp_path):
    rows = pa.table({"path": ["a/1.mp4", "b/2.mp4", "b/3.mp4"], "class": ["a", None, "b"]})
    table = tmp_path / "labels.csv"
    table.write_text('path,direction,note\na/1.mp4,rises,"x, y"\nb/3.mp4,falls,\n', encoding="utf-8")
    found = read_attributes(rows, ["class", "direction", "note"], table)
    assert found["class"].tolist() == ["a", "", "b"]
    assert found["direction"].tolist() == ["rises", "", "falls"]
    assert found["note"].tolist() == ["x, y", "", ""]
    read_attributes(rows, ["class"], None)
    with pytest.raises(UserError, match="no column digit: it has path, direction, note"):
        read_attributes(rows, ["digit"], table)
    with pytest.raises(UserError, match=r"columns=digit needs a table of labels, .*none\.csv"):
        read_attributes(rows, ["digit"], tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("file,digit\n1,2\n")
    with pytest.raises(UserError, match="no column path"):
        read_attributes(rows, ["digit"], tmp_path / "other.csv")
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbfpath,digit\na/1.mp4,7,left over\n")
    assert read_attributes(rows, ["digit"], tmp_path / "excel.csv")["digit"].tolist() == ["7", "", ""]
    with pytest.raises(UserError, match="no column note: it has path, digit"):
        read_attributes(rows, ["note"], tmp_path / "excel.csv")
    (tmp_path / "bytes.csv").write_bytes(b"path,digit\n\0,1\n")
    with pytest.raises(UserError, match="line 2, holds NUL"):
        read_attributes(rows, ["digit"], tmp_path / "bytes.csv")
