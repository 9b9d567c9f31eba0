"""Decord shows what PyAV shows, and leaves to it what it would get wrong."""

import pytest

from avssl.clips.decode import read_clips
from avssl.clips.decoders import frame_numbers
from tests.media.against_pyav import SPEC, AgainstPyav, needs, no_fall_back, numbered

pytestmark = needs("decord")


class TestDecord(AgainstPyav):
    decoder = "decord"

    @pytest.mark.parametrize("suffix", [".ts", ".avi", ".flv"])
    def test_containers_without_an_index_are_left_to_pyav(self, tmp_path, suffix, monkeypatch):
        path = numbered(
            tmp_path / f"a{suffix}", {"rate": 44100, "audio_codec": "mp2" if suffix == ".ts" else "libmp3lame"}
        )
        monkeypatch.setattr(frame_numbers, "fall_back", no_fall_back)
        with pytest.raises(AssertionError, match="fell back"):
            self.read(path, [0.5])

    @pytest.mark.parametrize("short_side", [24, 36, 48, 72])
    def test_small_widths(self, tmp_path, short_side):
        """Decord delivers none of 24, 48 and 72 px."""
        path = numbered(tmp_path / "a.mp4", {"bframes": 2})
        (clip,) = self.read(path, [0.5], SPEC, short_side)
        (other,) = read_clips(path, [0.5], SPEC, short_side)
        assert clip.frames.shape == other.frames.shape == (30, short_side, short_side, 3)
        assert abs(clip.frames.astype(int) - other.frames).mean() < 3
