"""Clips by presentation time: picture and sound start together, whatever the container."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avssl.data.decode import ClipSpec, read_clips
from avssl.errors import ClipError
from tests.conftest import write_video

SPEC = ClipSpec(frames=30, fps=30.0, audio_rate=24000, audio_seconds=1.0)


def flash_and_click(path: Path, at: float, video: str, audio: str, rate: int, layout: str = "mono", fps: int = 25):
    """3 s of black and silence with one white frame, and a click that begins with it."""
    with av.open(str(path), "w") as out:
        picture = out.add_stream(video, rate=fps)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        if video == "libx264":
            picture.options = {"g": "50", "bf": "2"}
        sound = out.add_stream(audio, rate=rate, layout=layout)
        for k in range(3 * fps):
            level = 255 if k == round(at * fps) else 0
            out.mux(picture.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), format="rgb24")))
        out.mux(picture.encode(None))
        channels = len(sound.layout.channels)
        samples = np.zeros((channels, 3 * rate), np.float32)
        click = round(at * rate)
        samples[:, click : click + rate // 50] = 0.8 * np.sign(np.sin(np.arange(rate // 50) * 2 * np.pi * 1000 / rate))
        resampler = av.AudioResampler(format=sound.format.name, layout=layout, rate=rate)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        fifo = av.AudioFifo()
        for ready in resampler.resample(frame):
            fifo.write(ready)
        size = sound.codec_context.frame_size or 1024
        while (ready := fifo.read(size, partial=True)) is not None:
            out.mux(sound.encode(ready))
        out.mux(sound.encode(None))


@pytest.mark.parametrize(
    ("name", "video", "audio", "rate", "layout"),
    [
        ("b_frames_aac.mp4", "libx264", "aac", 24000, "mono"),
        ("surround.mp4", "libx264", "aac", 48000, "5.1"),
        ("mp3.mkv", "libx264", "libmp3lame", 44100, "stereo"),
        ("opus.webm", "libvpx", "libopus", 48000, "stereo"),
        ("pcm.avi", "mpeg4", "pcm_s16le", 8000, "mono"),
        ("start_time.ts", "libx264", "aac", 44100, "stereo"),
        ("pcm_96k.mov", "mpeg4", "pcm_s16le", 96000, "mono"),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.9])
def test_flash_and_click_fall_together(tmp_path, name, video, audio, rate, layout, start):
    at = 1.2 if start else 0.6
    try:
        flash_and_click(tmp_path / name, at, video, audio, rate, layout)
    except (av.error.FFmpegError, ValueError) as error:  # an FFmpeg built without this encoder
        pytest.skip(f"cannot make {name}: {error}")
    (clip,) = read_clips(tmp_path / name, [start], SPEC, 32)
    assert clip.frames.shape == (30, 32, 32, 3)
    assert clip.samples.shape == (24000,)
    bright = clip.frames.mean((1, 2, 3))
    seen = start + int(np.argmax(bright > 128)) / 30
    heard = start + int(np.argmax(np.abs(clip.samples) > 0.3)) / 24000
    assert bright.max() > 128
    assert abs(seen - heard) <= 1 / 25
    # MPEG-TS cannot say that AAC's priming is to be dropped: picture and sound are both later by 1024 samples
    assert heard == pytest.approx(at, abs=0.03 if name.endswith(".ts") else 0.012)


def test_frames_are_the_nearest_in_time(tmp_path):
    path = write_video(tmp_path / "slow.mp4", seconds=2.0, fps=12.0)
    (clip,) = read_clips(path, [0.5], SPEC, 64)
    shown = clip.frames.mean((1, 2, 3)) / 10
    times = 0.5 + np.arange(30) / 30
    assert np.abs(shown - times * 12).max() < 0.5 + 0.35  # half a source frame, and what coding costs


def test_a_clip_from_the_middle_equals_that_of_a_whole_read(tmp_path):
    path = write_video(tmp_path / "v.mp4", seconds=4.0, fps=25.0)
    alone = read_clips(path, [2.3], SPEC, 48)[0]
    both = read_clips(path, [0.1, 2.3], SPEC, 48)[1]
    assert (alone.frames == both.frames).all()
    assert np.abs(alone.samples - both.samples).max() < 1e-3


@pytest.mark.parametrize("damage", ["empty", "text", "half", "missing"])
def test_what_cannot_be_read_is_a_clip_error(tmp_path, damage):
    path = write_video(tmp_path / "v.mp4")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"hello" * 500, "half": path.read_bytes()[:4000]}[damage])
    with pytest.raises(ClipError):
        read_clips(path, [0.0], SPEC, 48)


def test_beyond_the_end_is_a_clip_error_not_zeros(tmp_path):
    path = write_video(tmp_path / "v.mp4", seconds=1.5)
    with pytest.raises(ClipError, match=r"missing|no frames|no sound"):
        read_clips(path, [1.2], SPEC, 48)
