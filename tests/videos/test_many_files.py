"""Very many files are sorted on disk, and give the same list."""

import os
import random
from pathlib import Path

import pytest

from avssl.config import DataConfig
from avssl.core import mapped_rows
from avssl.core.errors import UserError
from avssl.videos import many_files
from avssl.videos.layout import File, list_files, list_videos, scan
from avssl.videos.many_files import ManyFiles, sorted_files


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_files, "IN_MEMORY", 7)


def files(count: int) -> list[File]:
    """Names whose order differs from that of their folders, in any order."""
    names = [f"{folder}/{i:03d}.mp4" for i in range(count) for folder in ("a-b", "a", "ü", "b")]
    random.Random(0).shuffle(names)
    return [File(name, i, 10**18 + i) for i, name in enumerate(names)]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("count", [0, 1, 2, 7, 50])
def test_files_sorted_on_disk_are_those_sorted_in_memory(count: int):
    found, expected = sorted_files(iter(files(count))), sorted(files(count))
    assert isinstance(found, ManyFiles) == (len(expected) >= 7)
    assert list(found) == expected
    assert [found[i] for i in range(len(found))] == expected
    assert found[1:5] == expected[1:5]
    assert len(found) == len(expected)


@pytest.mark.usefixtures("many")
def test_the_files_on_disk_are_removed_with_the_list():
    found = sorted_files(files(9))
    assert isinstance(found, ManyFiles)
    folder = Path(found.folder.name)
    assert [path.name for path in folder.iterdir()] == ["all.arrow"]
    del found
    assert not folder.exists()


def test_videos_of_many_files_are_those_of_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for path in ("train/x_y/1.mp4", "train/z/2.mp4", "test/x_y/3.mp4", "test/z/4.mp4", "5.mp4", "train/6.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(len(path)))
    data = DataConfig(root=str(tmp_path))
    few, chosen = scan(data), scan(DataConfig(root=str(tmp_path), keep_classes=["X y"]))
    assert [video.path for video in few] == ["test/x_y/3.mp4", "test/z/4.mp4", "train/x_y/1.mp4", "train/z/2.mp4"]
    assert [video.path for video in chosen] == ["test/x_y/3.mp4", "train/x_y/1.mp4"]
    monkeypatch.setattr(many_files, "IN_MEMORY", 2)
    assert isinstance(list_files(data), ManyFiles)
    videos = list_videos(data)
    assert list(videos) == few == [videos[i] for i in range(len(videos))] == videos[:]
    assert scan(DataConfig(root=str(tmp_path), keep_classes=["X y"])) == chosen
    assert few[0].mtime_ns == os.stat(tmp_path / few[0].path).st_mtime_ns


@pytest.mark.usefixtures("many")
def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped_rows, "_write_copy", full)
    with pytest.raises(UserError, match="set TMPDIR to a folder with more space"):
        sorted_files(files(9))
