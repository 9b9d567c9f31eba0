"""Clips of ordinary files: nearest frames, seeks, damage and ends."""

import ctypes

import av
import numpy as np
import pytest

from avssl.clips.dataset import crop
from avssl.clips.decode import ClipSpec, read_clips
from avssl.core.errors import ClipError
from avssl.videos.media import Media, mono
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
    with pytest.raises(ClipError, match=r"missing|no frames|no audio"):
        read_clips(path, [1.2], SPEC, 48)


def allocated() -> int | None:
    """Bytes that C code has allocated and not freed; None where the C library does not tell."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    names = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]
    mallinfo.restype = type("Info", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in names]})
    return mallinfo().uordblks


@pytest.mark.skipif(allocated() is None, reason="mallinfo2 is glibc's")
def test_files_that_are_left_half_way_leave_nothing_behind(tmp_path):
    path = write_video(tmp_path / "v.mp4", seconds=1.0)

    def read(times: int) -> None:
        for _ in range(times):
            with Media(path) as media:
                next(media.packets())

    read(50)
    before = allocated()
    read(400)
    assert allocated() - before < 400 * 64  # a packet is 104 bytes


def test_planes_one_after_the_other_are_cropped_as_pixels_are():
    planes = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 50), dtype=np.uint8)
    frames = planes.transpose(0, 2, 3, 1)
    square = crop(frames, 32, 0.5, 1.0)
    assert square.flags.c_contiguous
    assert (square == frames[:, 4:36, 18:50]).all()
    assert (square == crop(np.ascontiguousarray(frames), 32, 0.5, 1.0)).all()


def test_stereo_is_mixed_as_any_number_of_channels_is():
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((2, 4096)) * 10.0 ** rng.uniform(-45, 3, (2, 4096))).astype(np.float32)
    samples[:, :4] = [[0, 1e-45, 3e-45, 1], [1e-45, 1e-45, 0, np.nan]]
    planar = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
    packed = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), "flt", "stereo")
    expected = samples.mean(axis=0, dtype=np.float64).astype(np.float32)
    for frame in (planar, packed):
        np.testing.assert_array_equal(mono(frame), expected)


def test_clips_that_share_frames_are_those_read_alone(tmp_path):
    path = write_video(tmp_path / "v.mp4", seconds=3.0, fps=12.0)  # every frame is shown two or three times
    starts = [0.5, 0.7, 0.6]
    for start, clip in zip(starts, read_clips(path, starts, SPEC, 48), strict=True):
        (alone,) = read_clips(path, [start], SPEC, 48)
        assert (clip.frames == alone.frames).all()


@pytest.mark.parametrize("width", [66, 72, 340])
def test_the_last_columns_are_right_at_every_width(tmp_path, width):
    """FFmpeg 8 converts these wrongly to planes, if it need not scale; it converts them rightly to triples."""
    path, rng = tmp_path / "v.mkv", np.random.default_rng(0)
    with av.open(path, "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
        for _ in range(25):
            image = rng.integers(0, 256, (48, width, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        file.mux(stream.encode(None))
    with av.open(path) as file:
        expected = next(file.decode(video=0)).to_ndarray(format="rgb24", interpolation="BILINEAR")
    (clip,) = read_clips(path, [0.0], ClipSpec(1, 25.0, 24000, 0.0), 48)
    assert np.abs(clip.frames[0].astype(int) - expected).max() <= 1
