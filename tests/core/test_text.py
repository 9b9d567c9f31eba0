"""Annotations and tables of labels as people's programs save them."""

from pathlib import Path

import pytest

from avssl.cli import main
from avssl.config import DataConfig
from avssl.core.errors import UserError
from avssl.core.text import read_cells, read_lines
from avssl.videos.annotations import read_annotations

LINES = 'id1,0,"chant, Gregorian",train\nid2,10,café,test\n'


def entries(path: Path) -> list[tuple]:
    data = DataConfig(root="x", annotations=str(path), format="vggsound")
    return [(e.key, e.split, e.class_name) for e in read_annotations(data)]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_any_encoding_is_read(tmp_path: Path, encoding: str, ends: str) -> None:
    path = tmp_path / "vggsound.csv"
    path.write_bytes(LINES.replace("\n", ends).encode(encoding))
    assert entries(path) == [("id1", "train", "chant, Gregorian"), ("id2", "test", "café")]


def test_what_begins_as_ascii_may_go_on_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "vggsound.csv"
    path.write_bytes(b"id,0,dog,train\n" * 100_000 + "id2,10,“café”,test\n".encode("cp1252"))
    assert entries(path)[-1] == ("id2", "test", "“café”")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "lists no videos"),
        (b"\n \n\r\n", "lists no videos"),
        (b"id1,0,a\0b,train\n", "line 1, contains NUL"),
        (b"id1,0,dog,train\n\0\0\0\0", "line 2, contains NUL"),
        (bytes(range(256)) * 40, "not text in any known encoding"),
        (b"x" * 3_000_000, "line 1, is longer than"),
        (b'"' + b"x\n" * 300_000, "is not a CSV file"),
        (b"\xff\xfe" + b"\0\xd8" * 99, "not text in any known encoding"),
        (b"\x1b[31mid1,0\n", r"line 1: '\x1b[31mid1,0' is not"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path: Path, content: bytes, said: str, capsys) -> None:
    root, path = tmp_path / "root", tmp_path / "vggsound.csv"
    root.mkdir()
    (root / "id1.mp4").touch()
    path.write_bytes(content)
    words = [f"data.root={root}", f"data.index={tmp_path / 'index'}", f"data.annotations={path}"]
    assert main(["index", "data=vggsound", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert str(path) in line
    assert line.isprintable()


def test_a_folder_or_device_in_the_files_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        list(read_lines(tmp_path))
    with pytest.raises(UserError, match="is not a file"):
        list(read_cells("/dev/zero"))
    with pytest.raises(UserError, match="/dev/zero is not a file"):
        entries(Path("/dev/zero"))


def test_labels_in_utf_16(tmp_path: Path) -> None:
    import pyarrow as pa

    from avssl.evaluate.attributes import read_attributes

    rows = pa.table({"path": ["a.mp4", " b.mp4"], "class": [None, None]})
    path = tmp_path / "labels.csv"
    path.write_bytes("path, colour \na.mp4,weiß\n b.mp4,rot\n".encode("utf-16"))
    assert read_attributes(rows, ["colour"], path)["colour"].tolist() == ["weiß", "rot"]
    path.write_bytes(b"path,colour\na.mp4,\0\n")
    with pytest.raises(UserError, match="contains NUL"):
        read_attributes(rows, ["colour"], path)
    path.write_bytes(b"colour\nred\n")
    with pytest.raises(UserError, match="no column path"):
        read_attributes(rows, ["colour"], path)


def test_labels_in_any_encoding_come_along_with_prepared_videos(tmp_path: Path, capsys) -> None:
    from avssl.videos.prepare import _copy_table

    (tmp_path / "out").mkdir()
    (tmp_path / "labels.csv").write_bytes("path,hue\na.mkv,weiß\n".encode("utf-16"))
    _copy_table(tmp_path, tmp_path / "out", "labels.csv", {"a.mkv": "a.mp4"})
    assert (tmp_path / "out/labels.csv").read_text() == "path,hue\na.mp4,weiß\n"
    (tmp_path / "labels.csv").write_bytes(b"path\0,hue\n")
    _copy_table(tmp_path, tmp_path / "out", "labels.csv", {})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("avssl: ")
    assert line.endswith("; it was not copied")
    assert (tmp_path / "out/labels.csv").read_text() == "path,hue\na.mp4,weiß\n"
