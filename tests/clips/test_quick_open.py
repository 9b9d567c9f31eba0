"""Files that are opened by their headers alone give the clips that they give when their streams are examined."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avssl.clips.decode import Clip, ClipSpec, read_clips
from avssl.videos import media as module
from avssl.videos.media import Media
from tests.media.make_media import noise, numbered_frames, write_media
from tests.media.make_scene import Scene, write_scene

SPEC = ClipSpec(frames=10, fps=25.0, audio_rate=24000, audio_seconds=0.4)
STARTS = [0.1, 1.3, 0.9]

FILES: dict[str, dict] = {
    "a.mp4": {"bframes": 2},
    "late.mp4": {"sound_offset": 0.3},
    "one_key.m4v": {"bframes": 2, "gop": 250, "container_format": "mp4"},
}


def clips(path: Path, quick: bool, monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    with monkeypatch.context() as patch:
        if not quick:
            patch.setattr(module, "QUICK", frozenset())
        return read_clips(path, STARTS, SPEC, 48)


def check_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ours, theirs in zip(clips(path, True, monkeypatch), clips(path, False, monkeypatch), strict=True):
        np.testing.assert_array_equal(ours.frames, theirs.frames)
        np.testing.assert_array_equal(ours.samples, theirs.samples)


@pytest.mark.parametrize("name", FILES)
def test_headers_give_times_and_clips_of_an_examined_file(tmp_path: Path, name: str, monkeypatch) -> None:
    times = [i / 25 for i in range(60)]
    path = write_media(tmp_path / name, times, numbered_frames(60), noise(48000, 2.4), 48000, **FILES[name])
    with Media(path, quick=True) as quick, Media(path) as full:
        assert quick.quick
        assert not full.quick
        assert quick.video.codec_context.pix_fmt is None  # nothing was decoded
        assert full.video.codec_context.pix_fmt == "yuv420p"
        assert (quick.origin, quick.period) == (full.origin, full.period)
        assert quick.sound().begin == full.sound().begin
    check_same(path, monkeypatch)


def test_the_shape_of_pixels_that_only_the_stream_knows(tmp_path: Path, monkeypatch) -> None:
    scene = Scene(shape=Fraction(4, 3), times=[i / 25 for i in range(60)])
    path = write_scene(tmp_path / "a.mp4", scene)
    data = path.read_bytes()
    assert b"pasp" in data
    path.write_bytes(data.replace(b"pasp", b"free"))  # the container's own record of it
    with Media(path, quick=True) as quick:
        assert quick.quick
    assert clips(path, True, monkeypatch)[0].frames.shape[1:3] == (48, 64)
    check_same(path, monkeypatch)


def test_other_files_of_that_name_are_examined(tmp_path: Path, monkeypatch) -> None:
    times = [i / 25 for i in range(60)]
    path = write_media(tmp_path / "a.mkv", times, numbered_frames(60), noise(48000, 2.4), 48000)
    renamed = path.rename(tmp_path / "a.mp4")
    mpeg4 = write_media(tmp_path / "b.mp4", times, numbered_frames(60), noise(48000, 2.4), 48000, video_codec="mpeg4")
    for other in (renamed, mpeg4):
        with Media(other, quick=True) as found:
            assert not found.quick
        check_same(other, monkeypatch)


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe", "dash"])
def test_the_clock_of_a_fragmented_file_is_that_of_its_first_stream(tmp_path: Path, flags: str, monkeypatch) -> None:
    """Frames that wait for others begin late, and the headers give the audio their start."""
    times = [i / 25 for i in range(60)]
    options = {"movflags": flags, "use_editlist": "0"}
    path = write_media(
        tmp_path / "a.mp4", times, numbered_frames(60), noise(48000, 2.4), 48000, bframes=2, options=options
    )
    with Media(path, quick=True) as quick, Media(path) as full:
        assert quick.origin == full.origin
    check_same(path, monkeypatch)
