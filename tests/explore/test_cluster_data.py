import base64

import numpy as np
import pytest

from avssl.explore.assignments import Assignments
from avssl.explore.cluster_data import by_cluster, columns, other_head, own_folders, packed


def assignments(n: int, clusters: int, windows: int = 1) -> Assignments:
    rng = np.random.default_rng(0)
    label = rng.integers(0, clusters, (n, 2))
    label[3] = -1
    sure = rng.random((n, 2)).astype(np.float32)
    path = [f"v{i // windows}.mp4" for i in range(n)]
    return Assignments(path, ["train"] * n, [None] * n, np.zeros(n), label, label, label, sure, sure, sure, clusters)


def unpacked(value: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(value["data"]), f"<u{value['bits'] // 8}")


@pytest.mark.parametrize("largest", [0, 65534, 65535, 10**6])
def test_packed_integers_keep_their_values(largest):
    values = np.array([largest, -1, 0])
    found = unpacked(packed(values))
    assert found[::2].tolist() == [largest, 0]
    assert found[1] == 2 ** packed(values)["bits"] - 1
    assert found[1] != largest


def test_a_file_has_one_dot_which_is_its_surest_window():
    a = assignments(300, 4, windows=5)
    order, _ = by_cluster(a.label[:, 1], a.confidence_joint[:, 1], 4)
    files = np.unique(np.asarray(a.path), return_inverse=True)[1]
    found = columns(a, 1, order, np.full(300, -1), files)
    dots = np.unpackbits(np.frombuffer(base64.b64decode(found["dots"]), np.uint8), bitorder="little")[: len(order)]
    rows = order[dots.astype(bool)]
    assert sorted(files[rows]) == sorted(set(files))
    for row in rows:
        of = [other for other in order if files[other] == files[row]]
        assert a.confidence_joint[row, 1] == a.confidence_joint[of, 1].max()
    assert found["class"] is None
    assert columns(a, 1, order, np.full(300, -1), None)["dots"] is None


def test_another_head_refers_to_the_videos_of_the_chosen_one():
    a = assignments(200, 5)
    chosen, _ = by_cluster(a.label[:, 0], a.confidence_joint[:, 0], 5)
    previewed = np.zeros(200, bool)
    previewed[::4] = True
    found = other_head(a, 1, chosen, a.label[:, 0], np.eye(5)[:, :2], previewed, 3, np.full(200, -1), 0)
    rows = chosen[unpacked(found["order"])]
    assert sorted(rows) == sorted(np.flatnonzero(a.label[:, 1] >= 0))
    start = 0
    for cluster in found["cluster"]:
        own = rows[start : start + cluster["size"]]
        start += cluster["size"]
        assert (a.label[own, 1] == cluster["id"]).all()
        assert (np.diff(a.confidence_joint[own, 1]) <= 0).all()
        for places in cluster["shown"].values():
            assert len(places) <= 3
            assert previewed[own[places]].all()
        assert sum(share for _, share in cluster["same"]) == pytest.approx(1)
        most, share = cluster["same"][0]
        assert share == (a.label[own, 0] == most).mean()
        assert cluster["at"] == pytest.approx(np.eye(5)[a.label[own, 0], :2].mean(0))


def test_a_file_name_that_occurs_twice_has_the_folder_that_tells_it_apart():
    paths = ["train/a.mp4", "test/a.mp4", "test/b.mp4", "x/1/c.mp4", "y/1/c.mp4", "c.mp4", "test/b.mp4"]
    assert own_folders(paths) == {
        "train/a.mp4": "train", "test/a.mp4": "test", "x/1/c.mp4": "x", "y/1/c.mp4": "y",
        "test/b.mp4": "test", "c.mp4": "",  # of one file each, for the same look
    }  # fmt: skip
    assert own_folders(["train/a.mp4", "test/b.mp4"]) == {}
    four = [f"{split}/{side}/a.mp4" for split in ("train", "test") for side in ("left", "right")]
    assert own_folders(four) == {path: path.removesuffix("/a.mp4") for path in four}
