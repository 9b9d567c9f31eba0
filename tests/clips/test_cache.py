"""Decoded files that are kept in memory: the same clips, within the memory asked for."""

import numpy as np
import pytest

from avssl.cli import main
from avssl.clips.decode import ClipSpec, read_clips
from avssl.clips.decoders import cache as kept
from avssl.clips.decoders import pyav
from avssl.clips.decoders.cache import DecodedCache
from avssl.clips.decoders.span import ClipSpan
from avssl.core.errors import ClipError
from tests.conftest import write_video

SPEC = ClipSpec(frames=8, fps=8.0, audio_rate=16000, audio_seconds=1.0)


def wanted(*starts, spec=SPEC):
    return [ClipSpan(start, spec) for start in starts]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("fps", [7.0, 25.0])
def test_the_clips_are_those_of_the_file(tmp_path, suffix, fps):
    path = write_video(tmp_path / f"v.{suffix}", seconds=4.0, fps=fps)
    files = DecodedCache(100)
    for starts in ([0.0], [2.9], [1.37], [2.2, 0.4], [0.0, 0.1, 3.0], [3.2]):
        told, there = (read(path, wanted(*starts), 40) for read in (files.read, pyav.read))
        for mine, other in zip(told, there, strict=True):
            assert (mine.frames == other.frames).all()
            assert np.abs(mine.samples - other.samples).max() < 1e-3
    fast = wanted(0.5, spec=SPEC.played(1.5))
    assert (files.read(path, fast, 40)[0].frames == pyav.read(path, fast, 40)[0].frames).all()
    assert len(files.files) == 1


def test_a_file_is_decoded_once(tmp_path, monkeypatch):
    path, files = write_video(tmp_path / "v.mp4", seconds=2.0), DecodedCache(100)
    first = files.read(path, wanted(0.5), 40)[0]
    monkeypatch.setattr(kept, "Media", None)
    again = files.read(path, wanted(0.5), 40)[0]
    assert (again.frames == first.frames).all()
    assert (again.samples == first.samples).all()


def test_a_file_that_changes_is_decoded_again(tmp_path):
    path, files = write_video(tmp_path / "v.mp4", seconds=2.0), DecodedCache(100)
    files.read(path, wanted(0.0), 40)
    write_video(path, seconds=3.5)
    files.read(path, wanted(2.4), 40)
    with pytest.raises(ClipError):
        files.read(path, wanted(4.4), 40)
    path.unlink()
    with pytest.raises(ClipError):
        files.read(path, wanted(0.0), 40)


def test_memory_is_bounded(tmp_path):
    paths = [write_video(tmp_path / f"{i}.mp4", seconds=2.0) for i in range(4)]
    all_of_them = DecodedCache(100)
    for path in paths:
        all_of_them.read(path, wanted(0.2), 40)
    each = (100e6 - all_of_them.left) / 4
    files = DecodedCache(2.5 * each / 1e6)
    for path in paths * 2:
        frames = files.read(path, wanted(0.2), 40)[0].frames
        assert (frames == all_of_them.read(path, wanted(0.2), 40)[0].frames).all()
    assert [found is not None for found in files.files.values()] == [True, True, False, False]
    assert files.left > 0


@pytest.mark.parametrize("content", [b"", b"hello" * 500])
def test_what_cannot_be_read_is_a_clip_error(tmp_path, content):
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(ClipError):
        DecodedCache(10).read(tmp_path / "v.mp4", wanted(0.0), 40)


def test_pictures_alone_and_sound_alone(tmp_path):
    path, files = write_video(tmp_path / "v.mp4", seconds=2.0), DecodedCache(100)
    mute, blind = ClipSpec(4, 4.0, 16000, 0.0), ClipSpec(0, 4.0, 16000, 1.0)
    assert files.read(path, wanted(0.3, spec=mute), 40)[0].samples.shape == (0,)
    assert files.read(path, wanted(0.3, spec=blind), 40)[0].frames.shape[0] == 0
    assert len(files.files) == 2  # what is kept of one is not what the other needs


def test_read_clips_keeps_as_asked(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", seconds=2.0)
    monkeypatch.setattr(kept, "_cache", None)
    read_clips(path, [0.0], SPEC, 40)
    assert kept._cache is None
    read_clips(path, [0.0], SPEC, 40, cache_mb=50)
    assert kept._cache is not None
    assert len(kept._cache.files) == 1


def test_another_decoder_keeps_none(indexed, capsys):
    pytest.importorskip("torchcodec")
    assert main(["train", *indexed, "experiment=selavi_small", "clip.cache_mb=10", "clip.decoder=torchcodec"]) == 2
    assert "clip.decoder=pyav" in capsys.readouterr().err
