"""Clips of ordinary files: nearest frames, seeks, damage and ends."""

import numpy as np
import pytest

from avssl.data.decode import ClipSpec, read_clips
from avssl.errors import ClipError
from tests.conftest import write_video

SPEC = ClipSpec(frames=30, fps=30.0, audio_rate=24000, audio_seconds=1.0)


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
