"""Picture and sound at one instant in every container, and the nearest frames."""

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
from avssl.core.errors import UserError
from tests.media.in_sync import FORMATS, PRIMED, SPEC, click_time, flash_time
from tests.media.make_media import (
    cut,
    flash_and_click,
    has,
    noise,
    numbered_frames,
    read_number,
    talking,
    write_media,
)


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


@pytest.mark.parametrize("name", FORMATS)
def test_flash_and_click_are_in_the_same_frame_period(folder: Path, name: str) -> None:
    file, options = FORMATS[name]
    for codec in (options.get("video_codec", "libx264"), options.get("audio_codec", "aac")):
        if not has(str(codec)):
            pytest.skip(f"this FFmpeg cannot write {codec}")
    varied = "times" in options
    for start, at in ((0.0, 0.33 if varied else 0.6), (0.62, 1.0)):
        path = folder / name / str(at) / file
        if not path.exists():
            flash_and_click(path, at=at, **options)
        (clip,) = read_clips(path, [start], SPEC, 48)
        muxed = 0.02 if name == "avi_mp3" else 0.0  # an AVI's frames can only be late by whole periods
        in_sync(clip, start, at, 0.05 if varied else 0.04, muxed, name in PRIMED)


@pytest.mark.parametrize("bframes", [0, 2])
def test_what_an_edit_list_hides_is_not_shown(tmp_path: Path, bframes: int) -> None:
    whole = flash_and_click(tmp_path / "whole.mp4", at=1.0, bframes=bframes, rate=48000)
    path = cut(whole, tmp_path / "cut.mp4", 0.6)  # key frames are at 0 and 0.48 s
    with pyav.Media(path) as media:
        assert indexed.frame_table(media).trimmed
    for start in (0.0, 0.2):
        (clip,) = read_clips(path, [start], SPEC, 48)
        in_sync(clip, start, 0.4, 0.04)


@settings(max_examples=10, deadline=None)
@given(
    gaps=st.lists(st.integers(2, 40), min_size=30, max_size=60),
    start=st.floats(0, 0.4),
    fps=st.sampled_from([7.5, 12.0, 24.0, 30.0]),
)
def test_each_frame_is_the_nearest_of_near_ones_and_the_one_shown_of_others(
    tmp_path_factory, gaps: list[int], start: float, fps: float
) -> None:
    times = np.cumsum([0, *gaps]) / 100
    path = tmp_path_factory.mktemp("variable") / "a.mp4"
    write_media(path, list(times), numbered_frames(len(times)), noise(16000, times[-1]), 16000, bframes=2)
    count = max(1, int(min(times[-1] - start, 2.0) * fps))
    (clip,) = read_clips(path, [start], ClipSpec(count, fps, 16000, 0.1), 64)
    for k, image in enumerate(clip.frames):
        wanted, chosen = start + k / fps, times[read_number(image)]
        nearest = np.abs(times - wanted).min()
        shown = max(times[times <= wanted + 2e-3])
        gap = min(times[times > shown], default=np.inf) - shown
        assert abs(chosen - wanted) <= nearest + 1e-4 or (chosen == shown and gap > 0.1)
        assert chosen == shown or gap <= 0.375


def test_12_fps_becomes_30_by_repetition(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", [i / 12 for i in range(30)], numbered_frames(30), noise(16000, 2.5), 16000)
    (clip,) = read_clips(path, [0.5], SPEC, 64)
    expected = [int(np.abs(np.arange(30) / 12 - (0.5 + k / 30)).argmin()) for k in range(30)]
    assert [read_number(f) for f in clip.frames] == expected


def test_one_stream_alone_and_odd_names(tmp_path: Path) -> None:
    path = talking(tmp_path / "a:b %d 'ü'.mp4", seconds=2.0)
    (both,) = read_clips(path, [0.4], SPEC, 64)
    (frames,) = read_clips(path, [0.4], ClipSpec(30, 30.0, 24000, 0.0), 64)
    (samples,) = read_clips(path, [0.4], ClipSpec(0, 30.0, 24000, 1.0), 64)
    np.testing.assert_array_equal(frames.frames, both.frames)
    np.testing.assert_array_equal(samples.samples, both.samples)
    assert len(frames.samples) == len(samples.frames) == 0
    assert read_clips(path, [], SPEC, 64) == []


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


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
def test_encoding_leaves_the_tests_their_priority(tmp_path):
    before = os.sched_getscheduler(0)
    if not has("libsvtav1"):
        pytest.skip("no encoder for AV1")
    flash_and_click(tmp_path / "a.mp4", video_codec="libsvtav1")
    assert os.sched_getscheduler(0) == before
