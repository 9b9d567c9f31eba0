"""Silent objects: found with the sound of their cluster, outside the box of what sounds, and only if they are sure."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from avssl.locate.heat_pass import Sounds
from avssl.locate.silent_objects import (
    LEAST_LEVEL,
    SCHEMA,
    VIDEOS_PER_CLUSTER,
    Levels,
    cluster_sounds,
    find_silent,
    levels_of,
    silent_objects,
)
from tests.locate.made import LEFT, RIGHT, WHOLE, located, peak

NOWHERE = (np.nan,) * 4
KNOWN = Levels(np.arange(4), np.full(4, -0.2), np.full(4, 0.8))
"""A similarity of 0.3 is as near to that of an object that sounds as to that of none."""


def spot(row: int, column: int, height: float) -> np.ndarray:
    """A heat map [8, 8] that is high in a square of 3 × 3 positions around one."""
    heat = np.full((8, 8), -0.2, np.float32)
    heat[row - 1 : row + 2, column - 1 : column + 2] = height / 2
    heat[row, column] = height
    return heat


def found(maps: list[np.ndarray], sounding: tuple, levels: Levels = KNOWN):
    """The objects that are found in a frame with the sounds of the clusters 0, 1, …"""
    clusters = np.arange(len(maps))[None, None]
    box = np.array(sounding, float)[None, None, None]
    return find_silent(np.stack(maps)[None, None, None], clusters, box, levels, 0.3, 64)


def test_an_object_that_does_not_sound_is_found_beside_one_that_does():
    objects = found([spot(3, 1, 0.9), spot(4, 6, 0.6), spot(3, 1, 0.5)], LEFT)
    assert objects.cluster.tolist() == [1]
    assert objects.response.tolist() == pytest.approx([0.6])
    assert objects.level.tolist() == pytest.approx([0.8])
    assert [x.tolist() for x in objects.at] == [[0], [0], [0]]
    x0, y0, x1, y1 = objects.boxes[0]
    assert x0 <= 6.5 / 8 <= x1
    assert y0 <= 4.5 / 8 <= y1
    assert x0 > 0.5


def test_what_sounds_is_not_found_again_with_the_sound_of_another_cluster():
    assert found([peak(LEFT), 0.9 * peak(LEFT)], LEFT).cluster.tolist() == []
    assert found([peak(LEFT), 0.9 * peak(LEFT)], WHOLE).cluster.tolist() == []


def test_the_surroundings_of_what_sounds_are_no_object():
    wide = np.clip(1 - 0.12 * np.hypot(*(np.mgrid[:8, :8] - np.array([4, 3])[:, None, None])), 0, 1)
    assert wide[4, 6] > 0.6
    assert found([wide.astype(np.float32), spot(1, 1, 0.3)], LEFT).cluster.tolist() == []


def test_a_second_object_of_the_same_cluster_is_found():
    both = np.maximum(spot(3, 1, 0.9), spot(4, 6, 0.6))
    assert found([both, spot(4, 6, 0.4)], LEFT).cluster.tolist() == [0]


def test_of_clusters_that_fit_one_object_the_best_is_chosen():
    assert found([spot(3, 1, 0.9), spot(4, 6, 0.6), spot(4, 6, 0.7)], LEFT).cluster.tolist() == [2]
    # the maxima of two clusters lie beside each other, on one object
    beside = found([spot(3, 1, 0.9), spot(4, 6, 0.6), np.maximum(spot(4, 6, 0.5), spot(5, 6, 0.7))], LEFT)
    assert beside.cluster.tolist() == [2]


def test_an_uncertain_object_and_one_of_an_unknown_cluster_are_none():
    least = -0.2 + LEAST_LEVEL
    assert found([spot(3, 1, 0.9), spot(4, 6, least - 0.01)], LEFT).cluster.tolist() == []
    assert found([spot(3, 1, 0.9), spot(4, 6, least + 0.01)], LEFT).cluster.tolist() == [1]
    for clusters, absent, sounding in (([0, 1], -0.2, np.nan), ([0, 1], 0.8, 0.8), ([0, 2], -0.2, 0.8)):
        levels = Levels(np.array(clusters), np.full(2, absent), np.full(2, sounding))
        assert found([spot(3, 1, 0.9), spot(4, 6, 0.6)], LEFT, levels).cluster.tolist() == []
    assert found([np.full((8, 8), 0.5, np.float32)], LEFT).cluster.tolist() == []  # the same everywhere


def test_two_silent_objects_and_a_frame_in_which_nothing_sounds():
    maps = [spot(1, 1, 0.9), spot(6, 6, 0.6), spot(1, 6, 0.8)]
    assert found(maps, (0, 0, 0.4, 0.4)).cluster.tolist() == [2, 1]  # the surest first
    assert found(maps, NOWHERE).cluster.tolist() == [0, 2, 1]


class Pass:
    """A pass over videos of a clip, in files of two videos whose rows are in no order."""

    def __init__(self, rows: pa.Table, **arrays: np.ndarray):
        self.rows, self.arrays, self.config = rows, arrays, SimpleNamespace(crop=64)

    def read(self):
        for start in range(0, len(self.rows), 2):
            at = np.arange(start, min(start + 2, len(self.rows)))[::-1]
            yield at, {name: x[at] for name, x in self.arrays.items()}


def clips(values: list, kind: type) -> np.ndarray:
    """A value for the clip of each video."""
    return np.array(values, kind)[:, None]


def test_the_sound_of_a_cluster_is_the_mean_of_its_confident_videos_that_can_be_heard():
    audio = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [-1, 0], [-1, 0], [0, -1]], np.float32)[:, None]
    label = clips([1, 1, 1, 1, 2, 1, 1, 2], np.int32)
    confidence = clips([0.9, 0.9, 0.6, 0.5, 0.9, 0.4, 0.9, 0.9], np.float32)
    silent = clips([False] * 6 + [True, False], bool)
    counted: list[int] = []

    def maps_of(rows: pa.Table) -> Pass:
        counted.append(len(rows))
        at = rows["n"].to_numpy() % 8
        return Pass(rows, audio=audio[at], label=label[at], confidence=confidence[at], silent=silent[at])

    sounds = cluster_sounds(pa.table({"n": range(8)}), 3, 0, maps_of)
    assert sounds is not None
    assert sounds.clusters.tolist() == [1]  # two videos of cluster 2 are too few
    np.testing.assert_allclose(sounds.audio, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)
    assert cluster_sounds(pa.table({"n": [4, 5, 6, 7]}), 3, 0, maps_of) is None
    assert cluster_sounds(pa.table({"n": range(1000)}), 3, 0, maps_of) is not None
    assert counted == [8, 4, 3 * VIDEOS_PER_CLUSTER]


def test_silent_objects_of_a_split_are_in_the_order_of_its_index_and_in_the_picture():
    """Eight videos of two clusters; only the first and the last have a silent object."""
    number = 8
    sides = [LEFT, RIGHT] * 4
    part = located([peak(side) for side in sides], [peak(LEFT)] * number, "train")
    part.extents[:] = (0.25, 0, 0.75, 1)  # the clips show the middle of the pictures
    part.boxes[..., [0, 2]] = 0.25 + part.boxes[..., [0, 2]] / 2
    part.label[:] = np.arange(number)[:, None] % 2
    maps = np.stack([np.stack([peak(side), spot(4, 6 if side == LEFT else 1, -0.1)]) for side in sides])
    maps[0, 1], maps[7, 1] = spot(4, 6, 0.95), spot(4, 1, 0.95)
    cluster = np.array([[[k % 2, 1 - k % 2]] for k in range(number)])
    peaks = np.array([[[0.8, -0.1] if k % 2 == 0 else [-0.1, 0.8]] for k in range(number)], np.float32)
    work = Pass(
        part.rows, sound_maps=maps[:, None, :, None].repeat(2, 3), sound_cluster=cluster, sound_peaks=peaks,
        label=part.label, confidence=part.confidence, silent=part.silent,
    )  # fmt: skip
    work.sounds = Sounds(np.arange(2), np.zeros((2, 3), np.float32))
    levels = levels_of(work, np.arange(2))
    np.testing.assert_allclose([levels.absent, levels.sounding], [[-0.1] * 2, [0.8] * 2], rtol=1e-6)
    table = silent_objects(work, part, 0.3)
    assert table.schema.equals(SCHEMA)
    assert table["path"].to_pylist() == ["0.mp4", "0.mp4", "7.mp4", "7.mp4"]  # at two moments
    assert table["cluster"].to_pylist() == [1, 1, 0, 0]
    assert table["time"].to_pylist() == [*part.times[0, 0], *part.times[7, 0]]
    x0, x1 = table["x0"].to_numpy(), table["x1"].to_numpy()
    assert ((x0[:2] > 0.5) & (x1[:2] < 0.76) & (x0[2:] > 0.24) & (x1[2:] < 0.5)).all()

    part.confidence[:] = 0.1  # nothing says what such an object usually gets
    assert np.isnan(levels_of(work, np.arange(2)).sounding).all()
    assert len(silent_objects(work, part, 0.3)) == 0
