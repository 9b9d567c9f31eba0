import os
import time

import pyarrow.parquet as pq
import pytest

from avssl.core.atomic import STALE_SECONDS
from avssl.core.errors import UserError
from avssl.explore.assignments import Assignments, read_assignments, write_assignments
from avssl.explore.labelled import MARK, folder_names, write_labelled
from avssl.explore.names import Names
from avssl.explore.previews import make_previews
from avssl.videos.storage import Folder

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
    done = write_labelled(out, assignments(), NAMES, Folder(root), min_confidence=0.75, only_named=True)
    assert done.counts == {"dog": 2}
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if not p.is_dir()) == [
        "labelled.csv", "labelled.parquet", f"videos/{MARK}", "videos/train/dog/train__b__x.mp4",
        "videos/train/dog/x.mp4",
    ]  # fmt: skip
    assert all((root / path).exists() for path in PATHS)  # the links went, not what they lead to


def test_a_failed_export_leaves_the_last_tree(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_labelled(out, assignments(), NAMES, Folder(root))
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    with pytest.raises(UserError, match="cross-device link\): try links=copy"):
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


def test_what_somebody_else_made_is_left_alone(root, tmp_path):
    mine = tmp_path / "out" / "videos" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match="did not write it: choose another folder"):
        write_labelled(tmp_path / "out", assignments(), NAMES, Folder(root))
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["videos", "mine.txt"]
    done = write_labelled(tmp_path / "out", assignments(), NAMES, Folder(root), "none")
    assert done.tree is None
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("links", ["symbolic", "copy"])
def test_the_videos_themselves_are_never_replaced(root, tmp_path, links):
    root.rename(tmp_path / "videos")
    (tmp_path / "videos" / MARK).touch()  # even where they are links that were made here
    with pytest.raises(UserError, match="contains the videos themselves"):
        write_labelled(tmp_path, assignments(), NAMES, Folder(tmp_path / "videos"), links)
    assert {(tmp_path / "videos" / path).read_text() for path in PATHS} == {*PATHS}


@pytest.mark.parametrize("links", ["symbolic", "copy"])
def test_every_video_has_a_name_of_its_own(tmp_path, links):
    paths = ["a/b__x.mp4", "a/x.mp4", "b/x.mp4", "a__b/x.mp4", "a/b/x.mp4", "A/B/x.mp4"]
    for path in paths:
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_text(path)
    n = len(paths)
    zero, sure = [[0]] * n, [[1.0]] * n
    found = Assignments(paths, [None] * n, [None] * n, [0] * n, zero, zero, zero, sure, sure, sure, 1)
    write_labelled(tmp_path / "out", found, Names(), Folder(tmp_path / "root"), links)
    written = [p for p in (tmp_path / "out" / "videos").rglob("*.mp4")]
    assert sorted(p.read_text() for p in written) == sorted(paths)
    assert len({p.name.casefold() for p in written}) == n


def test_what_a_kill_left_is_taken_away_a_day_later(root, tmp_path):
    out = tmp_path / "out"
    for name, age in ((".videos.0123456789ab", STALE_SECONDS + 60), (".videos.ba9876543210", 60)):
        (out / name / "train").mkdir(parents=True)
        os.utime(out / name, (time.time() - age,) * 2)
    write_labelled(out, assignments(), NAMES, Folder(root))
    assert sorted(p.name for p in out.iterdir()) == [
        ".videos.ba9876543210", "labelled.csv", "labelled.parquet", "videos",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "split", ["../../out", "/tmp/avssl_out", "..", "a/../../../out", "a/b", "", "\x00x", "x" * 300]
)
def test_a_split_of_somebody_else_is_a_folder_of_the_tree(split, root, tmp_path):
    made = assignments()
    made.split = [split] * len(PATHS)
    before = {*tmp_path.rglob("*")}
    write_labelled(tmp_path / "in/deep", made, NAMES, Folder(root))
    new = {path.relative_to(tmp_path) for path in {*tmp_path.rglob("*")} - before}
    assert {path.parts[0] for path in new} == {"in"}
    tree = tmp_path / "in/deep/videos"
    assert len([*tree.glob("*/*/*.mp4")]) == 5
    assert not os.path.exists("/tmp/avssl_out")


@pytest.mark.parametrize("path", ["../x.mp4", "/etc/passwd", "a/../../x.mp4", ""])
def test_a_path_of_somebody_else_stays_below_the_videos(path, root, tmp_path):
    made = assignments()
    made.path = [path, *PATHS[1:]]
    with pytest.raises(UserError, match="below"):
        write_labelled(tmp_path / "out", made, NAMES, Folder(root), "copy")
    assert not (tmp_path / "out/videos").exists()
    write_assignments(tmp_path / "theirs", made)
    with pytest.raises(UserError, match=r"assignments\.parquet: the path"):
        read_assignments(tmp_path / "theirs")


def test_folders_that_are_links_are_not_written_through(root, tmp_path):
    (tmp_path / "photos/0").mkdir(parents=True)
    (tmp_path / "photos/0/mine.jpg").write_text("dear")
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer/previews").symlink_to(tmp_path / "photos")
    with pytest.raises(UserError, match="leads out"):
        make_previews(tmp_path / "explorer/previews", {}, {}, 1)
    assert (tmp_path / "photos/0/mine.jpg").read_text() == "dear"
