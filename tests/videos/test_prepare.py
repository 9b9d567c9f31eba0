"""Prepared videos give the clips of the originals; runs that are killed go on, and what fails is told."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from avssl.cli import main
from avssl.clips.decode import read_clips
from avssl.config import DataConfig, FilesConfig, IndexConfig, PrepareConfig
from avssl.core.errors import UserError
from avssl.videos.files import find_files
from avssl.videos.index import index_videos
from avssl.videos.media import Media
from avssl.videos.prepare import prepare, target_names
from avssl.videos.probe import ProbeRequest, probe
from avssl.videos.transcode import TranscodeRequest, header_seconds, transcode
from tests.media.in_sync import FORMATS, SPEC, click_time, flash_time
from tests.media.make_media import (
    flash_and_click,
    has,
    noise,
    numbered_frames,
    read_number,
    talking,
    turned,
    write_media,
)
from tests.media.misbehaving import hang_at_header


def transcoded(source: Path, target: Path, **options: int) -> dict:
    request = TranscodeRequest(str(source), str(target), 160, 12, 23, 24000, 64000)
    return transcode(replace(request, **options))


def frame_times(path: Path) -> list[float]:
    with Media(path) as media:
        frames = [f for p in media.packets() if p.stream.type == "video" for f in media.decode(p, media.video)]
        return [media.frame_time(f, media.video) for f in frames + media.decode(None, media.video)]


def sound_start(path: Path) -> float:
    with Media(path) as media:
        for packet in media.packets():
            if packet.stream.type == "audio":
                for frame in media.decode(packet, media.audio):
                    return media.frame_time(frame, media.audio)
    raise AssertionError("no sound")


@pytest.mark.parametrize("name", FORMATS)
def test_picture_and_sound_keep_their_times(tmp_path: Path, name: str) -> None:
    file, options = FORMATS[name]
    for codec in (options.get("video_codec", "libx264"), options.get("audio_codec", "aac")):
        if not has(str(codec)):
            pytest.skip(f"this FFmpeg cannot write {codec}")
    source = flash_and_click(tmp_path / file, at=0.33 if "times" in options else 0.6, **options)
    target = tmp_path / "prepared.mp4"
    found = transcoded(source, target)
    assert found["bytes"] == target.stat().st_size
    assert frame_times(target) == pytest.approx(frame_times(source), abs=1e-5)
    early = sound_start(source) - sound_start(target)  # mp4 cannot drop the encoder's priming, silent, of late sound
    assert -1e-4 < early < (1024 / 24000 + 1e-4 if sound_start(source) > 0 else 1e-4)
    (before,), (after,) = (read_clips(path, [0.0], SPEC, 48) for path in (source, target))
    assert flash_time(after) == flash_time(before)
    assert click_time(after) == pytest.approx(click_time(before), abs=1e-4)
    assert np.abs(before.frames.astype(int) - after.frames).max() <= 3
    assert np.abs(before.samples - after.samples).max() < 0.03


def test_size_groups_rate_and_layout(tmp_path: Path) -> None:
    source = talking(tmp_path / "a.mkv", seconds=3.0, fps=25.0, rate=48000, layout="stereo", gop=250)
    target = tmp_path / "b.mp4"
    assert "bytes" in transcoded(source, target, short_side=32, gop=10)
    with av.open(str(target)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", 32, 32)
        assert (audio.codec_context.name, audio.rate, audio.codec_context.layout.name) == ("aac", 24000, "mono")
        keys = [p.is_keyframe for p in container.demux(video) if p.size]
    assert [i for i, key in enumerate(keys) if key] == list(range(0, 75, 10))
    small = talking(tmp_path / "small.mp4")
    transcoded(small, target)
    with av.open(str(target)) as container:
        assert container.streams.video[0].height == 64  # never scaled up
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # its tables are read without a seek


def test_the_last_frame_is_shown_as_long_as_before(tmp_path: Path) -> None:
    times = [0.0, 0.5, 1.2, 1.25]
    source = write_media(tmp_path / "a.mkv", times, numbered_frames(4), noise(16000, 1.6), 16000)
    transcoded(source, tmp_path / "b.mp4")
    durations = [probe(ProbeRequest(str(path), False, -60))["duration"] for path in (source, tmp_path / "b.mp4")]
    assert durations[1] == pytest.approx(durations[0], abs=0.02)


def test_a_hole_in_the_sound_is_silence_and_what_follows_keeps_its_time(tmp_path: Path) -> None:
    path, wave = tmp_path / "a.mkv", noise(24000, 1.0)
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=10), container.add_stream("pcm_s16le", rate=24000)
        video.width = video.height = 64
        audio.layout = "mono"
        for i, image in enumerate(numbered_frames(40)):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in (0.0, 2.5):
            for first in range(0, 24000, 2400):
                part = (wave[None, first : first + 2400] * 32767).astype(np.int16)
                sound = av.AudioFrame.from_ndarray(part, "s16", "mono")
                sound.sample_rate, sound.pts, sound.time_base = 24000, round(start * 24000) + first, video.time_base
                sound.time_base = audio.codec_context.time_base or sound.time_base
                container.mux(audio.encode(sound))
    assert "bytes" in transcoded(path, tmp_path / "b.mp4")
    spec = replace(SPEC, frames=0, audio_seconds=3.5)
    (before,), (after,) = (read_clips(p, [0.0], spec, 64) for p in (path, tmp_path / "b.mp4"))
    assert np.abs(before.samples[26000:58000]).max() == 0
    assert np.abs(after.samples[26000:58000]).max() < 1e-3
    assert np.corrcoef(before.samples, after.samples)[0, 1] > 0.98


def test_a_turned_video_is_written_upright(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.mp4")
    transcoded(path, tmp_path / "b.mp4")
    (before,), (after,) = (read_clips(p, [0.1], SPEC, 48) for p in (path, tmp_path / "b.mp4"))
    assert after.frames.shape == (30, 64, 48, 3)
    assert np.abs(before.frames.astype(int) - after.frames).mean() < 4
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize(("space", "full"), [(1, False), (1, True), (6, False), (9, True)])
def test_colours_stay(tmp_path: Path, space: int, full: bool) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"crf": "10"})
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        video.width = video.height = 64
        video.codec_context.colorspace, video.codec_context.color_range = space, 2 if full else 1
        for i, colour in enumerate(rng.integers(60, 200, (20, 3))):
            planes = np.repeat(colour, [64 * 64, 32 * 32, 32 * 32]).astype(np.uint8).reshape(96, 64)
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray((noise(16000, 2.0)[None] * 32767).astype(np.int16), "s16", "mono")
        sound.sample_rate = 16000
        container.mux(audio.encode(sound))
    transcoded(path, tmp_path / "b.mp4")
    (before,), (after,) = (read_clips(p, [0.5], SPEC, 64) for p in (path, tmp_path / "b.mp4"))
    assert np.abs(before.frames.mean((1, 2)) - after.frames.mean((1, 2))).max() < 3


# a folder


def fill(root: Path, paths: list[str], video: Path) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / path)
    return root


def config(root: Path, out: Path, **options: object) -> PrepareConfig:
    data = FilesConfig(root=str(root), name="x")
    return PrepareConfig(data=data, out=str(out), **{"workers": 1, **options})  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [name for name in found if not name.startswith(("prepare.json", "rejects.csv", ".lock"))]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking(tmp_path_factory.mktemp("video") / "talking.mkv")


def test_the_tree_indexes_as_the_original_and_a_second_run_writes_nothing(tmp_path: Path, video: Path) -> None:
    paths = ["train/a b/x.mkv", "train/a b/y.mkv", "train/c/x.mp4", "train/c/x.mkv", "test/c/ü.webm"]
    root, out = fill(tmp_path / "root", paths, video), tmp_path / "out"
    (root / "test/c/broken.mp4").write_bytes(b"no video" * 99)
    (root / "labels.csv").write_text("path,hue\ntrain/a b/x.mkv,red\n")
    (root / "boxes.csv").write_text("path,time,x0,y0,x1,y1\ntrain/c/x.mkv,0.5,0.25,0,1,1\n")
    report = prepare(config(root, out))
    expected = [
        "boxes.csv",
        "labels.csv",
        "test/c/ü.mp4",
        "train/a b/x.mp4",
        "train/a b/y.mp4",
        "train/c/x.mkv.mp4",
        "train/c/x.mp4",
    ]
    assert files(out) == expected
    assert (report.written, report.kept, report.rejects) == (5, 0, {"unreadable": 1})
    assert report.before == 5 * video.stat().st_size
    assert report.after == sum((out / name).stat().st_size for name in expected[2:])
    rows = list(csv.reader((out / "rejects.csv").open()))
    assert rows[0] == ["path", "reason", "detail"]
    assert rows[1][:2] == ["test/c/broken.mp4", "unreadable"]
    assert (out / "labels.csv").read_text() == "path,hue\ntrain/a b/x.mp4,red\n"
    assert (out / "boxes.csv").read_text() == "path,time,x0,y0,x1,y1\ntrain/c/x.mkv.mp4,0.5,0.25,0,1,1\n"

    found = index_videos(IndexConfig(DataConfig(root=str(out), name="x", index=str(tmp_path / "index")), workers=1))
    assert found.rows == {"train": 4, "test": 1}
    assert set(pq.read_table(tmp_path / "index" / "train.parquet")["class"].to_pylist()) == {"a b", "c"}

    before = {name: (out / name).stat().st_mtime_ns for name in expected[2:]}
    again = prepare(config(root, out))
    assert (again.written, again.kept, again.rejects) == (0, 5, {"unreadable": 1})
    assert before == {name: (out / name).stat().st_mtime_ns for name in expected[2:]}


def test_only_what_is_new_or_changed_is_written(tmp_path: Path, video: Path) -> None:
    root, out = fill(tmp_path / "root", ["a.mkv", "b.mkv", "c.mkv"], video), tmp_path / "out"
    prepare(config(root, out))
    talking(root / "a.mkv", seconds=2.0)
    (root / "b.mkv").write_bytes(b"spoiled")
    (out / "c.mp4").unlink()
    fill(root, ["c.avi"], video)
    report = prepare(config(root, out))
    assert (report.written, report.kept, report.rejects) == (3, 0, {"unreadable": 1})
    assert files(out) == ["a.mp4", "c.avi.mp4", "c.mp4"]  # what was there keeps its name, and no stale b is left
    assert len(frame_times(out / "a.mp4")) == 30


def test_other_options_need_leave(tmp_path: Path, video: Path) -> None:
    root, out = fill(tmp_path / "root", ["a.mkv"], video), tmp_path / "out"
    prepare(config(root, out))
    with pytest.raises(UserError, match="crf=23, not 40"):
        prepare(config(root, out, crf=40))
    assert prepare(config(root, out, crf=40, overwrite=True)).written == 1
    assert prepare(config(root, out, crf=40)).kept == 1


def test_names_do_not_collide_and_stay() -> None:
    paths = ["d/a.mp4", "d/a.avi", "d/a.avi.mp4", "d/b.avi", "d/b.mkv", "d/c.mkv", "d/noend"]
    names = target_names(paths, {})
    assert len(set(names.values())) == len(paths)
    assert names["d/a.mp4"] == "d/a.mp4"
    assert names["d/a.avi.mp4"] == "d/a.avi.mp4"
    assert (names["d/b.avi"], names["d/b.mkv"], names["d/c.mkv"]) == ("d/b.avi.mp4", "d/b.mkv.mp4", "d/c.mp4")
    later = target_names([*paths, "d/c.mp4"], dict(names))
    assert {path: later[path] for path in paths} == names
    assert later["d/c.mp4"] not in names.values()


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_a_late_clock_makes_a_file_no_longer(tmp_path: Path, name: str) -> None:
    frames = numbered_frames(25)
    path = write_media(tmp_path / name, [i / 25 for i in range(25)], frames, noise(48000, 1.0), 48000, offset=90000.0)
    assert 0 < header_seconds(str(path)) < 2


def test_a_file_that_hangs_or_becomes_a_pipe_costs_itself_alone(tmp_path: Path, video: Path, monkeypatch) -> None:
    root, out = fill(tmp_path / "root", ["a.mkv", "b.mkv", "c.mkv", "hang.mkv"], video), tmp_path / "out"
    slow = config(root, out)
    monkeypatch.setattr("avssl.videos.prepare.HEADER_SECONDS", 3.0)

    def then_a_pipe(data: FilesConfig) -> list:
        videos = find_files(data)
        (root / "c.mkv").unlink()
        os.mkfifo(root / "c.mkv")  # opening it would never end
        return videos

    monkeypatch.setattr("avssl.videos.prepare.find_files", then_a_pipe)
    monkeypatch.setattr("avssl.videos.prepare.header_seconds", hang_at_header)
    report = prepare(slow)
    assert (report.written, report.rejects) == (2, {"timeout": 1, "unreadable": 1})


def test_a_run_that_is_killed_goes_on(tmp_path: Path, video: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    long = talking(tmp_path / "long.mkv", seconds=12.0)
    fill(root, ["a.mkv", "b.mkv", "c.mkv"], video)
    fill(root, ["d.mkv", "e.mkv"], long)
    words = [f"data.root={root}", f"out={out}", "workers=1"]
    run = subprocess.Popen([sys.executable, "-m", "avssl", "prepare", *words], start_new_session=True)
    journal = out / "prepare.jsonl"
    while not (journal.exists() and journal.read_text().count("\n") >= 2):
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    (out / ".0123.part.mp4").write_bytes(b"an orphan")
    done = journal.read_text().count("\n")
    report = prepare(config(root, out))
    assert (report.written, report.kept) == (5 - done, done)
    assert files(out) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]
    assert all("reason" not in json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path, video: Path, monkeypatch, capsys) -> None:
    found = transcoded(video, Path("/dev/full"))
    assert (found["reason"], found["errno"]) == ("unwritable", 28)
    monkeypatch.setattr("avssl.videos.prepare.run_isolated", lambda f, items, *_: ((i, disk_full(f, i)) for i in items))
    root = fill(tmp_path / "root", ["a.mkv", "b.mkv"], video)
    assert main(["prepare", f"data.root={root}", f"out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err.strip()
    assert said == f"avssl: no space is left for {tmp_path / 'out/a.mp4'}: free some, then repeat the command"
    assert files(tmp_path / "out") == []


def disk_full(function, item):
    return function(replace(item, target="/dev/full") if isinstance(item, TranscodeRequest) else item)


def test_wrong_folders_and_options_are_one_line(tmp_path: Path, video: Path, capsys) -> None:
    root = fill(tmp_path / "root", ["a.mkv"], video)
    with pytest.raises(UserError, match="contains the other"):
        prepare(config(root, root / "small"))
    with pytest.raises(UserError, match="does not contain prepared videos"):
        prepare(config(root, video.parent))
    with pytest.raises(UserError, match="is not a rate of AAC"):
        prepare(config(root, tmp_path / "out", audio_rate=12345))
    assert main(["prepare", f"data.root={root}", f"out={tmp_path / 'out'}", "crf=60"]) == 2
    assert "crf=60 is above the maximum 51" in capsys.readouterr().err
    (root / "a.mkv").write_bytes(b"spoiled")
    with pytest.raises(UserError, match="none of the 1 videos"):
        prepare(config(root, tmp_path / "out"))


def test_what_is_printed(tmp_path: Path, video: Path, capsys) -> None:
    root = fill(tmp_path / "root", ["a.mkv"], video)
    assert main(["prepare", f"data.root={root}", f"out={tmp_path / 'out'}", "workers=1"]) == 0
    said = capsys.readouterr().out
    assert "1 video written" in said
    assert "MB became" in said
    assert f"next: avssl index {tmp_path / 'out'}" in said


def test_numbers_survive(tmp_path: Path) -> None:
    times = np.cumsum([0, *np.random.default_rng(1).uniform(0.02, 0.2, 59)]).round(3)
    source = write_media(tmp_path / "a.mkv", times, numbered_frames(60), noise(16000, times[-1] + 0.1), 16000)
    transcoded(source, tmp_path / "b.mp4")
    for start in (0.0, 1.3, times[-1] - 1):
        (before,), (after,) = (read_clips(p, [start], SPEC, 64) for p in (source, tmp_path / "b.mp4"))
        assert [read_number(f) for f in after.frames] == [read_number(f) for f in before.frames]


def test_what_was_written_from_a_deleted_file_goes_too(tmp_path):
    root, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        talking(root / f"{name}.mp4")
    config = PrepareConfig(FilesConfig(root=str(root), name="x"), out=str(out), workers=1)
    prepare(config)
    (root / "a.mp4").rename(root / "c.mp4")
    prepare(config)
    assert sorted(p.name for p in out.glob("*.mp4")) == ["b.mp4", "c.mp4"]
