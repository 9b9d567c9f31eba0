"""What a clip shows is what a player shows: in the index, and once prepared.

AVSSL_SCENES=500 draws as many videos.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avssl.clips.dataset import ClipDataset, Pass, Request
from avssl.clips.decode import ClipSpec, read_clips
from avssl.clips.decoders.cache import DecodedCache
from avssl.clips.decoders.span import ClipSpan
from avssl.config import ClipConfig, DataConfig, IndexConfig
from avssl.core.errors import ClipError
from avssl.videos import index as index_module
from avssl.videos.index import index_videos, read_index
from avssl.videos.probe import ProbeRequest, probe
from avssl.videos.source import Member
from avssl.videos.transcode import TranscodeRequest, transcode
from tests.media.make_media import cut, flash_and_click, has, noise, numbered_frames, tone_burst, write_media
from tests.media.make_scene import TURNS, Scene, drawn, read_picture, set_matrix, write_hidden_frames, write_scene

SCENES = int(os.environ.get("AVSSL_SCENES", "14"))
SPEC = ClipSpec(frames=10, fps=20.0, audio_rate=16000, audio_seconds=0.5)
MUTE = replace(SPEC, audio_seconds=0.0)
SHORT = {"times": [i / 25 for i in range(25)], "heard": (0.0, 1.0)}


def probed(path: Path) -> dict:
    found = probe(ProbeRequest(str(path), False, -60.0))
    assert "reason" not in found, found
    return found


def prepared(path: Path) -> Path:
    target = path.with_name("prepared.mp4")
    found = transcode(TranscodeRequest(str(path), str(target), 160, 12, 18, 24000, 64000))
    assert "reason" not in found, found
    return target


def numbers(path: Path, start: float, spec: ClipSpec = SPEC) -> list[int | None]:
    (clip,) = read_clips(path, [start], spec, 24)
    return [read_picture(image) for image in clip.frames]


# Drawn videos

PRIMED = (".ts", ".flv", ".mpg")
"""Containers that count the priming of the sound's encoder as part of the presentation."""


def check(path: Path, scene: Scene, starts: list[float]) -> None:
    """Assert that clips at those starts (s) show and sound as the scene does."""
    slack = 0.06 if scene.suffix in PRIMED or scene.audio_codec == "libmp3lame" else 0.003
    side = 24 / min(scene.size)
    shape = (SPEC.frames, round(scene.size[1] * side), round(scene.size[0] * side), 3)
    for start, clip in zip(starts, read_clips(path, starts, SPEC, 24), strict=True):
        assert clip.frames.shape == shape
        for k, image in enumerate(clip.frames):
            assert read_picture(image) in scene.shown(start + k / SPEC.fps, slack), (start, k)
        levels = np.abs(clip.samples).reshape(-1, 800).max(1)
        for k, level in enumerate(levels):
            time = start + k * 0.05
            around = {scene.sounds(time + d) for d in (-0.07, -0.03, 0.0, 0.03, 0.05, 0.08, 0.12)}
            if len(around) == 1 and time + 0.05 < scene.usable[1]:
                assert (level > 0.1) == around.pop(), (start, k)


@pytest.mark.parametrize("seed", range(SCENES))
def test_a_drawn_video_is_shown_as_it_was_made(tmp_path: Path, seed: int) -> None:
    scene = drawn(seed)
    if not has(scene.video_codec) or not has(str(scene.audio_codec)):
        pytest.skip(f"this FFmpeg cannot write {scene.video_codec} or {scene.audio_codec}")
    path = write_scene(tmp_path / f"a{scene.suffix}", scene)
    found = probed(path)
    start, end = found["start"], found["start"] + found["duration"]
    begin, stop = scene.usable
    assert (start, end) == pytest.approx((begin, max(begin, stop)), abs=0.08)
    assert (found["width"], found["height"], found["frames"]) == (*scene.size, len(scene.times))
    if end - start < SPEC.seconds:
        return
    last = end - SPEC.seconds
    starts = [start, (start + last) / 2, last]
    check(path, scene, starts)
    again = prepared(path)
    check(again, scene, [start, (start + last) / 2, last - 0.05])
    baked = probed(again)
    assert (baked["width"], baked["height"]) == (found["width"], found["height"])
    assert (baked["start"], baked["duration"]) == pytest.approx((start, end - start), abs=0.07)


# Orientation and pixels


@pytest.mark.parametrize("matrix", TURNS)
def test_all_eight_orientations(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_scene(tmp_path / "a.mp4", Scene(matrix=matrix, **SHORT))
    assert None not in numbers(path, 0.2)


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (0, 1, 1, 0)])
def test_an_orientation_is_baked_in_when_prepared(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    scene = Scene(matrix=matrix, shape=Fraction(2), **SHORT)
    path = prepared(write_scene(tmp_path / "a.mp4", scene))
    assert None not in numbers(path, 0.2)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == scene.size
        assert stream.sample_aspect_ratio in (None, 1)
        assert next(container.decode(stream)).rotation == 0


@pytest.mark.parametrize(
    ("matrix", "one"),
    [((0, 0, 0, 0), 1), ((1, 1, 1, 1), 1 << 16), ((2, 1, 2, 1), 1 << 16), ((0, 1, 0, 1), 1 << 16),
     ((46341, 46341, -46341, 46341), 1), ((2, 0, 0, 2), 1 << 16), ((1, 0, 0, 1), 1), ((-(1 << 31), 0, 0, 1), 1),
     ((123456789, -987654321, -(1 << 31), (1 << 31) - 1), 1)],
)  # fmt: skip
def test_a_matrix_that_is_no_orientation_is_passed_over(
    tmp_path: Path, matrix: tuple[int, int, int, int], one: int
) -> None:
    path = set_matrix(write_scene(tmp_path / "a.mp4", Scene(**SHORT)), *matrix, one=one)
    assert (probed(path)["width"], probed(path)["height"]) == (64, 48)
    assert None not in numbers(path, 0.2)


@pytest.mark.parametrize(
    ("tag", "matrix"), [("90", (0, 1, -1, 0)), ("180", (-1, 0, 0, -1)), ("-90", (0, -1, 1, 0)), ("x", (1, 0, 0, 1))]
)
def test_a_tag_turns_where_there_is_no_matrix(tmp_path: Path, tag: str, matrix: tuple[int, int, int, int]) -> None:
    # written as if with a matrix, but mpegts has no place for it
    source = write_scene(tmp_path / "a.ts", Scene(".ts", matrix=matrix, **SHORT))
    path = tmp_path / "a.mkv"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        streams[old.streams.video[0].index].metadata["rotate"] = tag
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    assert None not in numbers(path, 0.2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_pixels_that_are_not_square(tmp_path: Path, suffix: str) -> None:
    for shape in (Fraction(2), Fraction(8, 9)):
        path = write_scene(tmp_path / f"a{suffix}", Scene(suffix, audio_codec="libmp3lame", shape=shape, **SHORT))
        assert (probed(path)["width"], probed(path)["height"]) == (64, 48)
        (clip,) = read_clips(path, [0.2], SPEC, 24)
        assert clip.frames.shape[1:3] == (24, 32)


def test_the_containers_word_on_pixels_has_precedence_and_bounds(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", Scene(shape=Fraction(2), **SHORT))
    data = path.read_bytes()
    at = data.index(b"pasp") + 4
    for shape, size in (((1, 1), (32, 48)), ((3, 1), (96, 48)), ((0, 1), (64, 48))):
        path.write_bytes(data[:at] + b"".join(side.to_bytes(4, "big") for side in shape) + data[at + 8 :])
        assert (probed(path)["width"], probed(path)["height"]) == size
    for shape in ((500, 1), (1, 500)):
        path.write_bytes(data[:at] + b"".join(side.to_bytes(4, "big") for side in shape) + data[at + 8 :])
        assert "longer than 32 to 1" in probe(ProbeRequest(str(path), False, -60.0))["detail"]
        with pytest.raises(ClipError, match="longer than 32 to 1"):
            read_clips(path, [0.2], SPEC, 24)


# When frames are shown


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("times", [[0.0, 0.04], [i / 25 for i in range(25)]])
def test_the_last_frame_is_held(tmp_path: Path, suffix: str, times: list[float], kept: bool) -> None:
    held = 4.0 - times[-1]
    path = write_scene(tmp_path / f"a{suffix}", Scene(suffix, times=times, held=held, heard=(0.0, 4.0)))
    assert probed(path)["duration"] == pytest.approx(4.0, abs=0.05)
    for start in (1.5, 3.5):
        if kept:
            (clip,) = DecodedCache(10).read(path, [ClipSpan(start, SPEC)], 24)
            found = [read_picture(image) for image in clip.frames]
        else:
            found = numbers(path, start)
        assert found == [len(times) - 1] * 10
    with pytest.raises(ClipError, match="missing"):
        numbers(path, 4.4, MUTE)


@pytest.mark.parametrize("kept", [False, True])
def test_a_slide_is_shown_until_the_next(tmp_path: Path, kept: bool) -> None:
    path = write_scene(tmp_path / "a.mp4", Scene(times=[0.0, 4.0], held=1.0, heard=(0.0, 5.0)))
    if kept:
        clips = DecodedCache(10).read(path, [ClipSpan(3.6, SPEC)], 24)
    else:
        clips = read_clips(path, [3.6], SPEC, 24)
    assert [read_picture(image) for image in clips[0].frames] == [0] * 8 + [1] * 2


@pytest.mark.parametrize(
    ("fps", "video_codec", "bframes"),
    [(5, "libx264", 0), (25, "libx264", 0), (25, "libx264", 2), (25, "libx264", 3), (25, "mpeg4", 2),
     (25, "mpeg2video", 2)],
)  # fmt: skip
def test_an_avi_is_in_sync(tmp_path: Path, fps: int, video_codec: str, bframes: int) -> None:
    path = flash_and_click(
        tmp_path / "a.avi", at=2.0, seconds=4.0, fps=fps, video_codec=video_codec, bframes=bframes,
        audio_codec="pcm_s16le", gop=12,
    )  # fmt: skip
    for start in (0.0, 1.5, 1.9):
        (clip,) = read_clips(path, [start], ClipSpec(250, 100.0, 24000, 2.5), 48)
        bright = start + np.flatnonzero(clip.frames.mean((1, 2, 3)) > 128) / 100
        click = start + np.correlate(clip.samples, tone_burst(24000, 0.04, 0.0), "valid").argmax() / 24000
        # PyAV shifts both streams until no decoding time is negative; an AVI forgets that the sound was
        late = 0.0 if bframes == 0 else click - 2.0
        assert bright[0] == pytest.approx(2.0 + late - 0.5 / fps, abs=0.02 if bframes == 0 else 1 / fps)
        assert abs(bright[0] - click) <= 1 / fps


def test_frames_are_counted_over_time(tmp_path: Path) -> None:
    frame = 1001 / 30000
    scene = Scene(".mkv", times=[i * frame for i in range(45)], held=frame, heard=(0, 1.5))
    path = write_scene(tmp_path / "a.mkv", scene)
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83", data.index(b"\x16\x54\xae\x6b"))  # the default duration (ns) of the first track
    length = data[at + 3] & 0x0F
    path.write_bytes(data[: at + 4] + (1_000_000).to_bytes(length, "big") + data[at + 4 + length :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 1000
    assert probed(path)["fps"] == pytest.approx(29.97, abs=0.05)
    assert not probed(path)["variable_rate"]


def test_frames_that_are_never_shown_do_not_count(tmp_path: Path) -> None:
    whole = flash_and_click(tmp_path / "whole.mp4", bframes=2, rate=48000)
    found = probed(cut(whole, tmp_path / "cut.mp4", 0.6))  # key frames are at 0 and 0.48 s, 62 frames in all
    assert (found["frames"], found["fps"], found["variable_rate"]) == (47, pytest.approx(25.0, abs=0.5), False)


@pytest.mark.skipif(not has("libvpx"), reason="this FFmpeg cannot write VP8")
def test_frames_that_others_only_refer_to_do_not_count(tmp_path: Path) -> None:
    path = write_hidden_frames(tmp_path)
    found = probed(path)
    assert (found["frames"], found["variable_rate"]) == (48, False)
    assert found["fps"] == pytest.approx(48 / 2, abs=0.5)
    assert numbers(path, 0.4, replace(MUTE, frames=5, fps=25.0)) == [10, 11, 11, 13, 14]


# The stretch that has both


def indexed(folder: Path, **options: object) -> DataConfig:
    data = DataConfig(root=str(folder / "root"), index=str(folder / "index"), **options)  # type: ignore[arg-type]
    index_videos(IndexConfig(data=data, workers=1))
    return data


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_windows_are_cut_where_both_streams_are(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "root").mkdir()
    scene = Scene(suffix, times=[2.0 + i / 25 for i in range(50)], heard=(0.0, 4.0))
    write_scene(tmp_path / "root" / f"a{suffix}", scene)
    data = indexed(tmp_path, min_seconds=0.5)
    rows = read_index(data.index, "all")
    assert rows["window_start"].to_pylist() == pytest.approx([2.0], abs=0.05)
    assert rows["window_seconds"].to_pylist() == pytest.approx([2.0], abs=0.06)
    config = ClipConfig(frames=10, fps=20.0, audio_seconds=0.5, short_side_min=24, short_side_max=24, crop=24)
    dataset = ClipDataset(rows, data.root, config)
    for number in range(5):
        assert not dataset[Request(0, Pass.LABEL, number)].failures
    rows = read_index(indexed(tmp_path, min_seconds=0.5, window_seconds=0.8).index, "all")
    assert rows["window_start"].to_pylist() == pytest.approx([2.0, 2.8], abs=0.05)


def test_without_sound_the_video_alone_counts(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    write_scene(tmp_path / "root/a.mp4", Scene(times=[i / 25 for i in range(75)], heard=(2.0, 3.0)))
    rows = read_index(indexed(tmp_path, require_sound=False).index, "all")
    assert (rows["window_start"][0].as_py(), rows["window_seconds"][0].as_py()) == pytest.approx((0.0, 3.0), abs=0.05)
    rows = read_index(indexed(tmp_path, min_seconds=0.9).index, "all")
    assert (rows["window_start"][0].as_py(), rows["window_seconds"][0].as_py()) == pytest.approx((2.0, 1.0), abs=0.05)


def test_an_older_index_is_probed_again(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "root").mkdir()
    write_scene(tmp_path / "root/a.mp4", Scene(**SHORT))
    config = IndexConfig(DataConfig(str(tmp_path / "root"), index=str(tmp_path / "index"), min_seconds=0.5), workers=1)
    with monkeypatch.context() as before:
        before.setattr(index_module, "VERSION", 3)
        assert index_videos(config).probed == 1
    assert [index_videos(config).probed for _ in range(2)] == [1, 0]


# Sound


@pytest.mark.parametrize("rates", [(48000, 22050), (22050, 48000), (8000, 96000)])
def test_sound_whose_rate_changes_is_heard_throughout(tmp_path: Path, rates: tuple[int, int]) -> None:
    parts = []
    for i, rate in enumerate(rates):
        scene = Scene(".ts", rate=rate, offset=2.0 * i)
        parts.append(write_scene(tmp_path / f"{i}.ts", scene).read_bytes())
    path = tmp_path / "a.ts"
    # the muxer's clock starts anew with each file: the second's time stamps are two seconds later
    path.write_bytes(b"".join(parts))
    for source in (path, prepared(path)):
        for start in (0.5, 1.6, 2.4, 2.9):
            (clip,) = read_clips(source, [start], replace(SPEC, frames=0, audio_seconds=1.0), 24)
            silent = (np.abs(clip.samples).reshape(100, -1).max(1) < 0.05).sum()
            assert silent <= (14 if start == 1.6 else 0), start  # the second encoder's priming is silent


def test_a_hole_in_the_sound_is_silence_and_its_end_is_not(tmp_path: Path) -> None:
    wave, times = noise(16000, 1.0), [i / 15 for i in range(60)]
    path = write_media(tmp_path / "a.mkv", times, numbered_frames(60), wave, 16000, audio_codec="pcm_s16le")
    late = write_media(tmp_path / "b.mkv", [], [], wave, 16000, audio_codec="pcm_s16le", sound_offset=2.5)
    both = tmp_path / "c.mkv"
    with av.open(str(path)) as first, av.open(str(late)) as second, av.open(str(both), "w") as new:
        streams = {stream.type: new.add_stream_from_template(stream) for stream in first.streams}
        packets = [packet for source in (first, second) for packet in source.demux() if packet.size]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            packet.stream = streams[packet.stream.type]
            new.mux(packet)
    spec = ClipSpec(5, 10.0, 16000, 0.5)
    (clip,) = read_clips(both, [1.5], spec, 24)
    assert not clip.samples.any()
    assert probed(both)["duration"] == pytest.approx(3.5, abs=0.1)
    with pytest.raises(ClipError, match="no audio|samples missing"):
        read_clips(both, [3.4], spec, 24)
    assert not DecodedCache(10).read(both, [ClipSpan(1.5, spec)], 24)[0].samples.any()


# What is no video


FOREIGN: dict[str, Callable[[Path], bytes]] = {
    "joined.mp4": lambda video: f"ffconcat version 1.0\nfile {video.name}\n".encode(),
    "joined.mkv": lambda video: f"ffconcat version 1.0\nfile '{video}'\n".encode(),
    "playlist.m3u8": lambda video: f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{video.name}\n".encode(),
    "playlist.ts": lambda video: (
        f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{video.name}\n#EXT-X-ENDLIST\n".encode()
    ),
    "stream.mp4": lambda video: (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        b"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    "manifest.mp4": lambda video: (
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f"<Representation><BaseURL>{video.name}</BaseURL></Representation></AdaptationSet></Period></MPD>".encode()
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_video_reads_no_other_file(tmp_path: Path, name: str) -> None:
    video = write_scene(tmp_path / "v.ts", Scene(".ts", **SHORT))
    path = tmp_path / name
    path.write_bytes(FOREIGN[name](video))
    inside = tmp_path / "shard.tar"
    inside.write_bytes(b"\0" * 512 + path.read_bytes())
    for source in (path, Member(str(inside), 512, path.stat().st_size)):
        assert probe(ProbeRequest(source, False, -60.0))["reason"] == "unreadable"
        with pytest.raises(ClipError, match="unreadable"):
            read_clips(source, [0.2], SPEC, 24)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_or_a_folder_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "link.mp4", "folder.mp4"):
        assert "not a file" in probe(ProbeRequest(tmp_path / name, False, -60.0))["detail"]
        with pytest.raises(ClipError, match="not a file"):
            read_clips(tmp_path / name, [0.0], SPEC, 24)
        found = transcode(TranscodeRequest(tmp_path / name, str(tmp_path / "b.mp4"), 160, 12, 18, 24000, 64000))
        assert "not a file" in found["detail"]
