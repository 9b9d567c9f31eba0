"""TorchCodec shows what PyAV shows, and leaves to it what it would get wrong."""

import sys

import pytest

from avssl.clips.decode import choose_decoder
from avssl.clips.decoders import frame_numbers
from avssl.core.errors import UserError
from tests.media.against_pyav import AgainstPyav, needs, no_fall_back, numbered


@needs("torchcodec")
class TestTorchcodec(AgainstPyav):
    decoder = "torchcodec"

    @pytest.mark.parametrize("suffix", [".ts", ".mpg"])
    def test_containers_in_which_its_seeks_miss_are_left_to_pyav(self, tmp_path, suffix, monkeypatch):
        path = numbered(tmp_path / f"a{suffix}", {"video_codec": "mpeg2video", "audio_codec": "mp2"})
        monkeypatch.setattr(frame_numbers, "fall_back", no_fall_back)
        with pytest.raises(AssertionError, match="fell back"):
            self.read(path, [0.5])


def test_torchcodec_without_ffmpeg_names_it(monkeypatch) -> None:
    torchcodec = pytest.importorskip("torchcodec")
    monkeypatch.delitem(sys.modules, "avssl.clips.decoders.torchcodec", raising=False)
    monkeypatch.setattr(torchcodec, "ffmpeg_major_version", None, raising=False)
    with pytest.raises(UserError, match="no FFmpeg libraries"):
        choose_decoder("torchcodec")
