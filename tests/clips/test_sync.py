"""By every decoder: picture and sound at one instant in every container, the nearest frames, and equal clips."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.clips.decode import Clip, ClipSpec, choose_decoder, read_clips
from avssl.clips.decoders import frame_numbers as indexed
from avssl.clips.decoders import pyav
from avssl.config import ClipConfig
from avssl.core.errors import ClipError, UserError
from tests.media.make_media import (
    DECODERS,
    cut,
    flash_and_click,
    has,
    noise,
    numbered_frames,
    read_number,
    talking,
    tone_burst,
    write_media,
)

SPEC = ClipSpec(frames=30, fps=30.0, audio_rate=24000, audio_seconds=1.0)
OTHERS = [d for d in DECODERS if d != "pyav"]


def flash_time(clip: Clip) -> tuple[float, float]:
    """First and last time of the bright frames, from the clip's start (s)."""
    bright = np.flatnonzero(clip.frames.mean(axis=(1, 2, 3)) > 128)
    assert len(bright), "no flash"
    return bright[0] / SPEC.fps, bright[-1] / SPEC.fps


def click_time(clip: Clip) -> float:
    """Onset of the tone burst, from the clip's start (s)."""
    burst = tone_burst(SPEC.audio_rate, 0.04, 0.0)
    return int(np.correlate(clip.samples, burst, "valid").argmax()) / SPEC.audio_rate


PRIMED = {"ts", "ts_mpeg2", "mpg", "flv", "avi_mp3", "start_2s_mp4"}
"""These cannot, or do not, say that the encoder's priming is to be dropped: it is the start of their presentation."""

VARIABLE = [0.0, 0.05, 0.12, 0.3, 0.33, 0.36, 0.6, 0.9, 0.94, 1.0, 1.04, 1.2, 1.25, 1.3, 1.6, 1.9, 2.2, 2.45]
FORMATS: dict[str, tuple[str, dict]] = {
    "mp4": ("a.mp4", {}),
    "bframes": ("a.mp4", {"bframes": 3}),
    "variable": ("a.mp4", {"times": VARIABLE}),
    "variable_mkv": ("a.mkv", {"times": VARIABLE, "audio_codec": "libopus", "rate": 48000}),
    "start_7s": ("a.mkv", {"offset": 7.0}),
    "late_sound": ("a.mkv", {"sound_offset": 0.3}),
    "late_sound_mp4": ("a.mp4", {"sound_offset": 0.3}),
    "ts": ("a.ts", {"bframes": 2, "rate": 48000}),
    "ts_mpeg2": ("a.ts", {"video_codec": "mpeg2video", "audio_codec": "mp2", "rate": 48000, "bframes": 2}),
    "mpg": ("a.mpg", {"video_codec": "mpeg2video", "audio_codec": "mp2", "rate": 48000}),
    "mov": ("a.mov", {"audio_codec": "pcm_s16le", "rate": 48000}),
    "flv": ("a.flv", {"rate": 44100}),
    "vp8_opus": ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus", "rate": 48000}),
    "vp9_opus": ("a.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "rate": 48000}),
    "vorbis": ("a.webm", {"video_codec": "libvpx", "audio_codec": "vorbis", "rate": 44100, "layout": "stereo"}),
    "avi_mp3": ("a.avi", {"video_codec": "mpeg4", "audio_codec": "libmp3lame", "rate": 44100}),
    "avi_pcm": ("a.avi", {"video_codec": "mjpeg", "audio_codec": "pcm_s16le", "rate": 22050}),
    "surround": ("a.mkv", {"audio_codec": "ac3", "layout": "5.1", "rate": 48000}),
    "8k": ("a.mkv", {"audio_codec": "pcm_s16le", "rate": 8000}),
    "96k": ("a.mkv", {"audio_codec": "flac", "rate": 96000, "layout": "stereo"}),
    "44k_aac": ("a.mkv", {"rate": 44100, "layout": "stereo"}),
    "surround_aac": ("a.mp4", {"layout": "5.1", "rate": 48000, "bframes": 2}),
    "mp3": ("a.mkv", {"audio_codec": "libmp3lame", "rate": 44100, "layout": "stereo"}),
    "mp3_mp4": ("a.mp4", {"audio_codec": "libmp3lame", "rate": 22050}),
    "opus_stereo": ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus", "rate": 48000, "layout": "stereo"}),
    "avi_8k": ("a.avi", {"video_codec": "mpeg4", "audio_codec": "pcm_s16le", "rate": 8000}),
    "odd_rate": ("a.mkv", {"audio_codec": "pcm_s16le", "rate": 11127, "bframes": 2}),
    "mov_96k": ("a.mov", {"video_codec": "mpeg4", "audio_codec": "pcm_s16le", "rate": 96000}),
    "start_2s_mp4": ("a.mp4", {"offset": 2.0, "bframes": 2}),
    "av1": ("a.mp4", {"video_codec": "libsvtav1"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files that the tests of this module make once and share."""
    return tmp_path_factory.mktemp("sync")


def in_sync(clip: Clip, start: float, at: float, shown: float, muxed: float = 0.0, primed: bool = False) -> None:
    """Assert that flash and click fall together, and at `at` (s); `shown`: how long (s) the flash's frame stands,
    half of it before its time."""
    assert clip.frames.shape == (30, 48, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.samples.shape == (24000,)
    assert clip.samples.dtype == np.float32
    first, last = flash_time(clip)
    click = click_time(clip)
    assert first == pytest.approx(click, abs=0.5 * shown + muxed + 2e-3)
    assert last - first <= shown
    late = start + click - at
    assert 0 <= late < 0.06 if primed else abs(late) <= 1e-3


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", FORMATS)
def test_flash_and_click_are_in_the_same_frame_period(folder: Path, name: str, decoder: str) -> None:
    file, options = FORMATS[name]
    for codec in (options.get("video_codec", "libx264"), options.get("audio_codec", "aac")):
        if not has(str(codec)):
            pytest.skip(f"this FFmpeg cannot write {codec}")
    varied = "times" in options
    for start, at in ((0.0, 0.33 if varied else 0.6), (0.62, 1.0)):
        path = folder / name / str(at) / file
        if not path.exists():
            flash_and_click(path, at=at, **options)
        (clip,) = read_clips(path, [start], SPEC, 48, decoder=decoder)
        muxed = 0.02 if name == "avi_mp3" else 0.0  # an AVI's frames can only be late by whole periods
        in_sync(clip, start, at, 0.05 if varied else 0.04, muxed, name in PRIMED)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("bframes", [0, 2])
def test_what_an_edit_list_hides_is_not_shown(tmp_path: Path, bframes: int, decoder: str) -> None:
    whole = flash_and_click(tmp_path / "whole.mp4", at=1.0, bframes=bframes, rate=48000)
    path = cut(whole, tmp_path / "cut.mp4", 0.6)  # key frames are at 0 and 0.48 s
    with pyav.Media(path) as media:
        assert indexed.frame_table(media).trimmed
    for start in (0.0, 0.2):
        (clip,) = read_clips(path, [start], SPEC, 48, decoder=decoder)
        in_sync(clip, start, 0.4, 0.04)


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=10, deadline=None)
@given(
    gaps=st.lists(st.integers(2, 40), min_size=30, max_size=60),
    start=st.floats(0, 0.4),
    fps=st.sampled_from([7.5, 12.0, 24.0, 30.0]),
)
def test_each_frame_is_the_nearest_of_near_ones_and_the_one_shown_of_others(
    tmp_path_factory, decoder: str, gaps: list[int], start: float, fps: float
) -> None:
    times = np.cumsum([0, *gaps]) / 100
    path = tmp_path_factory.mktemp("variable") / "a.mp4"
    write_media(path, list(times), numbered_frames(len(times)), noise(16000, times[-1]), 16000, bframes=2)
    count = max(1, int(min(times[-1] - start, 2.0) * fps))
    (clip,) = read_clips(path, [start], ClipSpec(count, fps, 16000, 0.1), 64, decoder=decoder)
    for k, image in enumerate(clip.frames):
        wanted, chosen = start + k / fps, times[read_number(image)]
        nearest = np.abs(times - wanted).min()
        shown = max(times[times <= wanted + 2e-3])
        gap = min(times[times > shown], default=np.inf) - shown
        assert abs(chosen - wanted) <= nearest + 1e-4 or (chosen == shown and gap > 0.1)
        assert chosen == shown or gap <= 0.375


@pytest.mark.parametrize("decoder", DECODERS)
def test_12_fps_becomes_30_by_repetition(tmp_path: Path, decoder: str) -> None:
    path = write_media(tmp_path / "a.mp4", [i / 12 for i in range(30)], numbered_frames(30), noise(16000, 2.5), 16000)
    (clip,) = read_clips(path, [0.5], SPEC, 64, decoder=decoder)
    expected = [int(np.abs(np.arange(30) / 12 - (0.5 + k / 30)).argmin()) for k in range(30)]
    assert [read_number(f) for f in clip.frames] == expected


def align(samples: np.ndarray, other: np.ndarray, reach: int = 50) -> int:
    """By how many samples `samples` is later than `other`."""
    return int(np.correlate(np.pad(samples, reach), other, "valid").argmax()) - reach


MEDIA: dict[str, dict] = {
    "a.mp4": {"bframes": 3, "layout": "stereo"},
    "gop.mp4": {"bframes": 2, "gop": 250},
    "varied.mkv": {"audio_codec": "libopus", "bframes": 2},
    "vp9.webm": {"video_codec": "libvpx-vp9", "audio_codec": "libopus"},
    "late.mov": {"offset": 3.0, "sound_offset": 0.1, "audio_codec": "pcm_s16le"},
}


def numbered(path: Path) -> Path:
    """125 numbered frames with noise, 25 a second; at irregular times in varied.mkv."""
    times = np.arange(125) / 25
    if path.name == "varied.mkv":
        times = np.cumsum(np.random.default_rng(1).integers(1, 80, 125)) / 1000
    late = float(MEDIA[path.name].get("sound_offset", 0.0))
    write_media(path, list(times), numbered_frames(125), noise(48000, times[-1] - late), 48000, **MEDIA[path.name])
    return path


def no_fall_back(*_: object) -> None:
    raise AssertionError("fell back to PyAV")


@pytest.mark.parametrize("decoder", OTHERS)
@pytest.mark.parametrize("name", MEDIA)
def test_decoders_choose_the_same_frames_and_sound(tmp_path: Path, name: str, decoder: str, monkeypatch) -> None:
    path = numbered(tmp_path / name)
    monkeypatch.setattr(indexed, "fall_back", no_fall_back)
    rng = np.random.default_rng(0)
    for fps in (30.0, 12.5, 7.0):
        spec = ClipSpec(16, fps, 24000, 0.8)
        speeds = rng.choice([0.5, 0.8, 1.0, 1.25], 3).tolist()
        starts = (rng.random(3) * (4.9 - np.maximum(16 / fps, 0.8) * np.maximum(speeds, 1))).clip(0).tolist()
        expected = read_clips(path, starts, spec, 56, speeds)
        clips = read_clips(path, starts, spec, 56, speeds, decoder)
        for clip, other in zip(clips, expected, strict=True):
            assert [read_number(f) for f in clip.frames] == [read_number(f) for f in other.frames]
            assert np.abs(clip.frames.astype(int) - other.frames).mean() < 3
            assert abs(align(clip.samples, other.samples)) <= 1


def outcome(
    path: Path, starts: list[float], spec: ClipSpec, speeds: list[float], decoder: str
) -> tuple[list[Clip], str]:
    """The clips, or why there are none."""
    try:
        return read_clips(path, starts, spec, 64, speeds, decoder), ""
    except ClipError as error:
        return [], str(error)


@pytest.mark.parametrize("decoder", OTHERS)
def test_decoders_agree_on_real_files(clips_folder: Path, decoder: str) -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for path in sorted(clips_folder.iterdir()):
        spec = ClipSpec(12, 15.0, 24000, 0.5)
        starts, speeds = rng.uniform(0, 4.5, 2).tolist(), [1.0, 0.8]
        expected, failed = outcome(path, starts, spec, speeds, "pyav")
        clips, failed_too = outcome(path, starts, spec, speeds, decoder)
        assert failed_too == failed
        for clip, other in zip(clips, expected, strict=True):
            assert np.abs(clip.frames.astype(int) - other.frames).mean(axis=(1, 2, 3)).max() < 6, path.name
            np.testing.assert_array_equal(clip.samples, other.samples)
        compared += not failed
    assert compared >= 5


@pytest.mark.parametrize("decoder", OTHERS)
def test_what_a_decoder_would_get_wrong_is_left_to_pyav(tmp_path: Path, decoder: str) -> None:
    """Formats whose seeks miss, and streams between which these decoders cannot choose."""
    times = [i / 25 for i in range(100)]
    sound = {"rate": 48000, "samples": noise(48000, 4.0)}
    for name, options in (
        ("a.ts", {"video_codec": "mpeg2video", "audio_codec": "mp2", "bframes": 2}),
        ("a.mpg", {"video_codec": "mpeg2video", "audio_codec": "mp2"}),
    ):
        path = write_media(tmp_path / name, times, numbered_frames(100), **sound, **options)  # type: ignore[arg-type]
        expected = read_clips(path, [2.0, 0.3], SPEC, 64)
        for clip, other in zip(read_clips(path, [2.0, 0.3], SPEC, 64, decoder=decoder), expected, strict=True):
            np.testing.assert_array_equal(clip.frames, other.frames)
            np.testing.assert_array_equal(clip.samples, other.samples)


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_stream_alone_and_odd_names(tmp_path: Path, decoder: str) -> None:
    path = talking(tmp_path / "a:b %d 'ü'.mp4", seconds=2.0)
    (both,) = read_clips(path, [0.4], SPEC, 64, decoder=decoder)
    (frames,) = read_clips(path, [0.4], ClipSpec(30, 30.0, 24000, 0.0), 64, decoder=decoder)
    (samples,) = read_clips(path, [0.4], ClipSpec(0, 30.0, 24000, 1.0), 64, decoder=decoder)
    np.testing.assert_array_equal(frames.frames, both.frames)
    np.testing.assert_array_equal(samples.samples, both.samples)
    assert len(frames.samples) == len(samples.frames) == 0
    assert read_clips(path, [], SPEC, 64, decoder=decoder) == []


def test_auto_is_pyav_and_others_are_refused_in_one_line() -> None:
    assert choose_decoder(ClipConfig().decoder) == "pyav"
    with pytest.raises(UserError, match="no decoder 'opencv': choose auto, pyav, torchcodec, decord"):
        choose_decoder("opencv")


@pytest.mark.parametrize(("decoder", "fix"), [("torchcodec", "apt-get install ffmpeg"), ("decord", r"avssl\[decord\]")])
def test_a_decoder_that_is_not_installed_names_the_extra(tmp_path: Path, decoder: str, fix: str, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, f"avssl.clips.decoders.{decoder}", raising=False)
    monkeypatch.setitem(sys.modules, decoder, None)
    with pytest.raises(UserError, match=fix) as raised:
        read_clips(tmp_path / "a.mp4", [0.0], SPEC, 64, decoder=decoder)
    assert f"avssl[{decoder}]" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_torchcodec_without_ffmpeg_names_it(monkeypatch) -> None:
    torchcodec = pytest.importorskip("torchcodec")
    monkeypatch.delitem(sys.modules, "avssl.clips.decoders.torchcodec", raising=False)
    monkeypatch.setattr(torchcodec, "ffmpeg_major_version", None, raising=False)
    with pytest.raises(UserError, match="no FFmpeg libraries"):
        choose_decoder("torchcodec")


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
def test_encoding_leaves_the_tests_their_priority(tmp_path):
    before = os.sched_getscheduler(0)
    if not has("libsvtav1"):
        pytest.skip("no encoder for AV1")
    flash_and_click(tmp_path / "a.mp4", video_codec="libsvtav1")
    assert os.sched_getscheduler(0) == before
