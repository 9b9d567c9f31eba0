"""What the folders of videos are taken for, and what is said of those that are taken for nothing."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avssl.config import DataConfig
from avssl.core.errors import UserError
from avssl.videos.layout import find_files, read_layout, scan
from avssl.videos.splits import find_split, name_splits, plain_split, reported_split


def fill(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def scanned(root: Path, **options: object) -> dict[str, tuple[str, str | None]]:
    return {v.path: (v.split, v.class_name) for v in scan(DataConfig(root=str(root), **options))}  # type: ignore[arg-type]


# names


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("train Train TRAIN training train_256 trainset TrainSet train-set train01 train_videos trainval", "train"),
        ("val Val valid validation validate val_256_new valset dev VALIDATION_SET", "val"),
        ("test Test testing test_2 testset test-set TestVideos eval held_out evaluation", "test"),
    ],
)
def test_names_of_splits(names: str, split: str) -> None:
    assert {name: plain_split(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    "name",
    ["training dog", "train horning", "trains", "valley", "testify", "toy train", "dog", "256", "", "test_train"],
)
def test_names_of_no_split(name: str) -> None:
    assert plain_split(name) is None


def test_names_side_by_side() -> None:
    assert name_splits(["train", "eval"]).splits == {"train": "train", "eval": "test"}
    assert name_splits(["train", "eval", "test"]).splits["eval"] == "val"
    assert name_splits(["k400_train", "k400_val"]).splits == {"k400_train": "train", "k400_val": "val"}
    assert name_splits(["train_1", "train_2"]).splits == {"train_1": "train", "train_2": "train"}
    kept = name_splits(["train", "test_seen", "test_unseen"])
    assert kept.splits == {"train": "train", "test_seen": "test_seen", "test_unseen": "test_unseen"}
    assert not name_splits(["crash test", "toy train"]).sure
    assert name_splits(["test", "rejects_test"]).splits["rejects_test"] == "rejects_test"


def test_a_split_is_found_by_what_it_is_called() -> None:
    there = ["test", "train", "unlabeled"]
    assert [find_split(there, name) for name in ("Test", "eval", "train_256", "unlabeled")] == [
        "test", "test", "train", "unlabeled",
    ]  # fmt: skip
    assert find_split(there, "validation") is None
    assert find_split(["Test", "test"], "Test") == "Test"


@pytest.mark.parametrize(
    ("there", "test", "train", "reported"),
    [
        ("test train val", "test", "train", "test"),
        ("test train val", "val", "train", "val"),
        ("a_split train val", "test", "train", "val"),
        ("other train", "test", "train", "train"),
        ("test_seen test_unseen train val", "test", "train", "test_seen"),
        ("test val", "nothing", "test", "val"),
        ("all", "test", "train", "all"),
        ("one two", "test", "train", "one"),
    ],
)
def test_figures_are_of_held_out_videos_where_there_are_some(there: str, test: str, train: str, reported: str) -> None:
    assert reported_split(there.split(), test, train) == reported


# trees


@pytest.mark.parametrize(
    ("paths", "layout", "expected"),
    [
        ("train/a/1 test/a/2", "auto", "test:a train:a"),
        ("training/1 validation/2", "auto", "train:- val:-"),
        ("Train/a/1 Train/b/2 TEST/a/3", "auto", "test:a train:a train:b"),
        ("train_256/a/1 val_256_new/a/2", "auto", "train:a val:a"),
        ("train/a/1 val/a/2 test/a/3", "auto", "test:a train:a val:a"),
        ("train/a/1 test/a/2 more/a/3", "auto", "more:a test:a train:a"),
        ("data/train/a/1 data/test/b/2", "auto", "test:b train:a"),
        ("train/videos/a/1 train/videos/b/2 test/videos/a/3", "auto", "test:a train:a train:b"),
        ("a/train/1 a/test/2 b/train/3 b/test/4", "auto", "test:a train:a test:b train:b"),
        ("x/train/a/1 x/test/a/2 y/train/b/3", "auto", "test:a train:a train:b"),
        ("train/a/s1/1 train/b/s2/2 test/a/s3/3", "auto", "test:a train:a train:b"),
        ("a/1 b/2", "auto", "all:a all:b"),
        ("a/s1/1 a/2 b/s1/t/3", "auto", "all:a all:a all:b"),
        ("data/a/1 data/b/2", "auto", "all:a all:b"),
        ("a/1", "auto", "all:-"),
        ("train/1 bus/2 boat/3", "auto", "all:boat all:bus all:train"),
        ("train/1 test/2 " + " ".join(f"c{i}/1" for i in range(8)), "auto", "all:test all:train"),
        ("1 2 3 new/4", "auto", "all:- all:- all:- all:-"),
        ("a/1", "class", "all:a"),
        ("train/a/1 test/a/2", "flat", "all:- all:-"),
        ("train/1 test/2", "class", "all:test all:train"),
        ("seen/a/1 unseen/b/2", "split_class", "seen:a unseen:b"),
    ],
)
def test_layouts(tmp_path: Path, paths: str, layout: str, expected: str) -> None:
    files = [f"{path}.mp4" for path in paths.split()]
    found = scanned(fill(tmp_path, *files), layout=layout)
    assert sorted(found) == sorted(files)
    said = [f"{split}:{name or '-'}" for path, (split, name) in found.items() if not path.startswith("c")]
    assert sorted(said) == sorted(expected.split())


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ("train/a/1 test/a/2 intro", "1 video in no split skipped (such as intro.mp4)"),
        ("Train/a/1 Test/a/2", "folders read as splits: Test as test (1 video), Train as train (1 video)"),
        ("train/a/1 test/a/2 more/a/3", "more as more (1 video)"),
        ("train/a/s/1 train/b/s/2 test/a/s/3", "3 folders used neither as split nor as class (such as test/a/s)"),
        ("a/1 b/2 3", "1 video in no class folder (such as 3.mp4)"),
        ("train/a/1 train/b/2 train/3 test/a/4", "1 video in no class folder (such as train/3.mp4)"),
        ("a/s1/1 a/2 b/s1/t/3", "3 folders used neither as split nor as class (such as a/s1)"),
        ("train/1 car/2 boat/3", "train of 3 folders named like splits, but read as classes"),
        ("1 2 3 train/4", "train of 1 folder named like splits, but read as no splits: data.layout=split_class"),
        ("1 2 3 new/4 old/5", "2 folders used neither as split nor as class (such as new)"),
    ],
)
def test_what_is_not_used_is_one_line(tmp_path: Path, paths: str, said: str, capsys) -> None:
    root = fill(tmp_path / "a\nb", *(f"{path}.mp4" for path in paths.split()))
    scanned(root)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_nothing_is_said_where_all_is_used(tmp_path: Path, capsys) -> None:
    scanned(fill(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "labels.csv"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("path", "layout"), [("1.mp4", "class"), ("1.mp4", "split_class"), ("a/1.mp4", "split_class")])
def test_a_layout_that_does_not_fit(tmp_path: Path, path: str, layout: str) -> None:
    with pytest.raises(UserError, match="layout"):
        scanned(fill(tmp_path, path), layout=layout)


NAMES = st.text("abct", min_size=1, max_size=2) | st.sampled_from(
    ["train", "Test", "val_2", "test_a", "eval", "rejects"]
)


@given(st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8))
def test_any_tree_is_read_and_splits_are_never_mixed(paths: set[str]) -> None:
    files = [f"{path}.mp4" for path in sorted(paths)]
    layout = read_layout(files)
    tops = {path.split("/")[0] for path in files}
    for path in files:
        folders = tuple(path.split("/")[:-1])
        split = layout.split(folders)
        said = {plain_split(folder) for folder in folders} - {None}
        if layout.split_at is not None and split in ("train", "val", "test") and folders[layout.split_at] != "eval":
            assert plain_split(folders[layout.split_at]) in (split, None)
        if split == "all" and said:
            assert layout.notes  # never without a word
        if split is None:
            assert any("skipped" in note for note in layout.notes)
    if tops <= {"train", "Test", "val_2"} and all("/" in path for path in files):
        assert layout.split_at is not None


# the walk


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
def test_links_are_followed_once(tmp_path: Path, capsys) -> None:
    root = fill(tmp_path / "root", "b/1.mp4")
    fill(tmp_path, "elsewhere/2.mp4", "beside.mp4")
    (root / "b/loop").symlink_to(root)
    (root / "b/up").symlink_to(tmp_path)
    (root / "a").symlink_to(root / "b")  # before it by name: the folder itself counts
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(root / "b")
    (root / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    assert [file.path for file in find_files(DataConfig(root=str(root)))] == ["b/1.mp4", "c/2.mp4"]
    said = capsys.readouterr().err
    assert "skipped b/loop and 1 more: a link to a folder above it" in said
    assert "skipped a and 1 more: a link to a folder that is already read" in said
    assert "skipped gone.mp4: a link to nothing" in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_passed_over_is_told(tmp_path: Path, capsys) -> None:
    for name in ("1.mp4", "2.mp4"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for ever
    (tmp_path / "two\nlines.mp4").symlink_to("nothing.mp4")
    (tmp_path / "gone.mp4").symlink_to("nothing.mp4")
    (tmp_path / "self.mp4").symlink_to("self.mp4")
    assert [*scanned(tmp_path)] == ["1.mp4", "2.mp4"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "avssl: skipped pipe.mp4: not a regular file" in said
    assert any("gone.mp4 and 1 more: a link to nothing" in line for line in said)


def test_hidden_and_empty_folders_are_passed_over_with_a_count(tmp_path: Path, capsys) -> None:
    fill(
        tmp_path, "a/1.mp4", ".git/2.mp4", "__MACOSX/a/._1.mp4", "a/@eaDir/1.mp4", "a/._1.mp4", "b/.ipynb_checkpoints/3"
    )
    fill(tmp_path, ".DS_Store", "a/.gitignore")
    (tmp_path / "test").mkdir()
    assert [*scanned(tmp_path)] == ["a/1.mp4"]
    said = capsys.readouterr().err.splitlines()
    assert any("and 3 more: hidden, or in a hidden or a system's folder" in line for line in said)
    assert "avssl: skipped test: an empty folder" in said
    assert len(said) == 2


def test_folders_that_cannot_be_read_are_told(tmp_path: Path, capsys) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (tmp_path / "1.mp4").touch()
    locked.chmod(0)
    try:
        if os.access(locked, os.R_OK):
            pytest.skip("this user may read everything")
        assert [*scanned(tmp_path)] == ["1.mp4"]
        assert "skipped locked: a folder" in capsys.readouterr().err
        with pytest.raises(UserError, match="cannot be read"):
            scanned(locked)
    finally:
        locked.chmod(0o700)


def test_names_that_are_not_unicode_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "ä").mkdir()
    (tmp_path / "ä/ö.mp4").touch()
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/\xff")
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff/1.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    assert [*scanned(tmp_path)] == ["ä/ö.mp4"]
