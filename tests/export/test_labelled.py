import os

import pyarrow.parquet as pq
import pytest

from avssl.data.storage import Folder
from avssl.errors import UserError
from avssl.export.assignments import Assignments
from avssl.export.labelled import folder_names, write_labelled
from avssl.export.names import Names

PATHS = [
    "train/a/x.mp4",
    "train/b/x.mp4",
    "train/a/'q\" <é>.mp4",
    "test/a/y.mp4",
    "test/a/y.mp4",
    "test/b/z.mp4",
    "bad.mp4",
]
LABELS = [0, 0, 1, 2, 2, 3, -1]


@pytest.fixture
def root(tmp_path):
    for path in PATHS:
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_text(path)
    return tmp_path / "root"


def assignments():
    n = len(PATHS)
    label = [[label] for label in LABELS]
    sure = [[0.9], [0.8], [0.7], [0.6], [0.5], [0.4], [float("nan")]]
    return Assignments(
        PATHS, [*["train"] * 3, *["test"] * 3, None], ["a", "b", "a", "a", "a", "b", None], [0, 0, 0, 0, 2.5, 0, 0],
        label, label, [[0]] * n, sure, sure, sure, 4,
    )  # fmt: skip


NAMES = Names({0: {"name": "dog"}, 1: {"into": 0}, 3: {"mark": "reject"}})


@pytest.mark.parametrize("links", ["symbolic", "hard", "copy"])
def test_tables_and_links_are_of_the_names(root, tmp_path, links):
    done = write_labelled(tmp_path / "out", assignments(), NAMES, Folder(root), links)
    assert done.counts == {"dog": 3, "cluster_002": 2}
    assert done.left_out == {"of rejected clusters": 1, "could not be decoded": 1}
    rows = pq.read_table(tmp_path / "out/labelled.parquet").to_pylist()
    assert [(r["path"], r["label"], r["name"], r["agree"]) for r in rows] == [
        (PATHS[0], 0, "dog", True), (PATHS[1], 0, "dog", True), (PATHS[2], 0, "dog", False),
        (PATHS[3], 2, "cluster_002", False), (PATHS[4], 2, "cluster_002", False),
    ]  # fmt: skip
    assert (tmp_path / "out/labelled.csv").read_text("utf-8").count("\n") == 6
    tree = tmp_path / "out/videos"
    found = {str(p.relative_to(tree)): p.read_text() for p in tree.rglob("*.mp4")}
    assert found == {
        "train/dog/x.mp4": PATHS[0], "train/dog/train__b__x.mp4": PATHS[1], "train/dog/'q\" <é>.mp4": PATHS[2],
        "test/cluster_002/y_0s.mp4": PATHS[3], "test/cluster_002/y_2.5s.mp4": PATHS[4],
    }  # fmt: skip
    assert {p.is_symlink() for p in tree.rglob("*.mp4")} == {links == "symbolic"}


def test_another_export_replaces_the_tree(root, tmp_path):
    out = tmp_path / "out"
    write_labelled(out, assignments(), NAMES, Folder(root))
    done = write_labelled(out, assignments(), NAMES, Folder(root), least=0.75, only_named=True)
    assert done.counts == {"dog": 2}
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if not p.is_dir()) == [
        "labelled.csv", "labelled.parquet", "videos/train/dog/train__b__x.mp4", "videos/train/dog/x.mp4",
    ]  # fmt: skip
    assert all((root / path).exists() for path in PATHS)  # the links went, not what they lead to


def test_a_failed_export_leaves_the_last_tree(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_labelled(out, assignments(), NAMES, Folder(root))
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    with pytest.raises(UserError, match="cross-device link; try links=copy"):
        write_labelled(out, assignments(), NAMES, Folder(root), "hard")
    assert len(list(out.rglob("*.mp4"))) == 5
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []


def test_names_become_folders_that_every_file_system_takes():
    wanted = ["a/b", "../..", "Dog", "dog", "", "con<>:|?*", "x" * 300, "é" * 100, "...", "tab\tname"]
    found = folder_names(dict.fromkeys(wanted))
    assert len({name.casefold() for name in found.values()}) == len(wanted)
    for name in found.values():
        assert name.strip(" .")
        assert not set(name) & set('<>:"/\\|?*\t')
        assert len(name.encode()) < 140
    assert found["Dog"] == "Dog"
    assert found["dog"] == "dog_2"
