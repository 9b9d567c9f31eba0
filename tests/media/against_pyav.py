"""What a decoder that is no PyAV must show: the frames that PyAV does. The sound is PyAV's whatever the decoder, and so
are the opening of a file, its refusal and the choice of its frames: tests of those are of PyAV alone."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avssl.clips.decode import Clip, ClipSpec, choose_decoder, read_clips
from avssl.clips.decoders import frame_numbers
from avssl.core.errors import ClipError, UserError
from avssl.videos.source import Member
from tests.media.make_media import (
    cut,
    flash_and_click,
    has,
    noise,
    numbered_frames,
    read_number,
    talking,
    turned,
    write_media,
)
from tests.media.make_scene import Scene, drawn, read_picture, set_matrix, write_hidden_frames, write_scene

SPEC = ClipSpec(frames=30, fps=30.0, audio_rate=24000, audio_seconds=1.0)
SHORT = {"times": [i / 25 for i in range(25)], "heard": (0.0, 1.0)}

NATIVE: dict[str, dict] = {
    "a.mp4": {"bframes": 3, "layout": "stereo"},
    "gop.mp4": {"bframes": 2, "gop": 250},
    "varied.mkv": {"audio_codec": "libopus", "bframes": 2},
    "vp9.webm": {"video_codec": "libvpx-vp9", "audio_codec": "libopus"},
    "late.mov": {"offset": 3.0, "sound_offset": 0.1, "audio_codec": "pcm_s16le"},
}
"""Files that decoders do themselves: frames out of order, rare key frames, varied times, a late start."""

FORMATS: dict[str, tuple[str, dict]] = {
    "start_7s": ("a.mkv", {"offset": 7.0}),
    "start_2s_mp4": ("a.mp4", {"offset": 2.0, "bframes": 2}),
    "late_sound_mp4": ("a.mp4", {"sound_offset": 0.3}),
    "ts": ("a.ts", {"bframes": 2}),
    "ts_far": ("a.ts", {"bframes": 2, "gop": 250}),
    "ts_hevc": ("a.ts", {"video_codec": "libx265", "bframes": 3}),
    "ts_hevc_far": ("a.ts", {"video_codec": "libx265", "bframes": 3, "gop": 250}),
    "ts_mpeg2": ("a.ts", {"video_codec": "mpeg2video", "audio_codec": "mp2", "bframes": 2}),
    "mpg": ("a.mpg", {"video_codec": "mpeg2video", "audio_codec": "mp2"}),
    "flv": ("a.flv", {"rate": 44100}),
    "flv_far": ("a.flv", {"rate": 44100, "gop": 250}),
    "vp8": ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus"}),
    "avi_mpeg4": ("a.avi", {"video_codec": "mpeg4", "audio_codec": "libmp3lame", "rate": 44100}),
    "avi_mpeg4_bframes": ("a.avi", {"video_codec": "mpeg4", "audio_codec": "pcm_s16le", "bframes": 2}),
    "avi_h264": ("a.avi", {"audio_codec": "pcm_s16le"}),
    "avi_h264_bframes": ("a.avi", {"audio_codec": "pcm_s16le", "bframes": 3}),
    "avi_mpeg2_bframes": ("a.avi", {"video_codec": "mpeg2video", "audio_codec": "pcm_s16le", "bframes": 2}),
    "avi_mjpeg": ("a.avi", {"video_codec": "mjpeg", "audio_codec": "pcm_s16le", "rate": 22050}),
    "mov_mpeg4": ("a.mov", {"video_codec": "mpeg4", "audio_codec": "pcm_s16le"}),
    "av1": ("a.mp4", {"video_codec": "libsvtav1"}),
}
"""Each container with each picture's codec, near to key frames and far from them: whoever decodes them."""


def needs(decoder: str) -> pytest.MarkDecorator:
    """Skips where the decoder does not load, and says why."""
    try:
        choose_decoder(decoder)
    except UserError as error:
        return pytest.mark.skipif(True, reason=str(error))
    return pytest.mark.skipif(False, reason="it loads")


def numbered(path: Path, options: dict) -> Path:
    """125 numbered frames with noise, 25 a second; at irregular times in varied.mkv."""
    times = np.arange(125) / 25
    if path.name == "varied.mkv":
        times = np.cumsum(np.random.default_rng(1).integers(1, 80, 125)) / 1000
    options = {"rate": 48000, **options}
    late = float(options.get("sound_offset", 0.0))
    wave = noise(options["rate"], times[-1] - late)
    return write_media(path, list(times), numbered_frames(125), wave, **options)


def same(clips: list[Clip], expected: list[Clip], read=read_number) -> None:
    """Assert that the clips have the same frames, but for rounding, and the same sound."""
    for clip, other in zip(clips, expected, strict=True):
        assert [read(f) for f in clip.frames] == [read(f) for f in other.frames]
        assert clip.frames.shape == other.frames.shape
        assert np.abs(clip.frames.astype(int) - other.frames).mean() < 3
        np.testing.assert_array_equal(clip.samples, other.samples)


def no_fall_back(*_: object) -> None:
    raise AssertionError("fell back to PyAV")


class AgainstPyav:
    """Tests of `decoder`: the file of each decoder has a class of them."""

    decoder: str

    def read(self, path, starts, spec=SPEC, short_side=64, speeds=None) -> list[Clip]:
        return read_clips(path, starts, spec, short_side, speeds, self.decoder)

    def outcome(self, path: Path, starts: list[float], decoder: str) -> tuple[list[Clip], str]:
        """The clips, or why there are none."""
        try:
            return read_clips(path, starts, ClipSpec(12, 15.0, 24000, 0.5), 64, [1.0, 0.8], decoder), ""
        except ClipError as error:
            return [], str(error)

    @pytest.mark.parametrize("name", NATIVE)
    def test_it_chooses_the_same_frames_itself(self, tmp_path, name, monkeypatch):
        path = numbered(tmp_path / name, NATIVE[name])
        monkeypatch.setattr(frame_numbers, "fall_back", no_fall_back)
        rng = np.random.default_rng(0)
        for fps in (30.0, 12.5, 7.0):
            spec = ClipSpec(16, fps, 24000, 0.8)
            speeds = rng.choice([0.5, 0.8, 1.0, 1.25], 3).tolist()
            starts = (rng.random(3) * (4.9 - np.maximum(16 / fps, 0.8) * np.maximum(speeds, 1))).clip(0).tolist()
            same(self.read(path, starts, spec, 56, speeds), read_clips(path, starts, spec, 56, speeds))

    @pytest.mark.parametrize("name", FORMATS)
    def test_every_format_is_shown_as_pyav_shows_it(self, tmp_path, name):
        file, options = FORMATS[name]
        for codec in (options.get("video_codec", "libx264"), options.get("audio_codec", "aac")):
            if not has(codec):
                pytest.skip(f"this FFmpeg cannot write {codec}")
        path = numbered(tmp_path / file, options)
        starts = [3.3, 0.0, 1.13]
        same(self.read(path, starts), read_clips(path, starts, SPEC, 64))

    def test_real_files(self, clips_folder):
        rng = np.random.default_rng(0)
        compared = 0
        for path in sorted(clips_folder.iterdir()):
            starts = rng.uniform(0, 4.5, 2).tolist()
            expected, failed = self.outcome(path, starts, "pyav")
            clips, failed_too = self.outcome(path, starts, self.decoder)
            assert failed_too == failed
            for clip, other in zip(clips, expected, strict=True):
                assert np.abs(clip.frames.astype(int) - other.frames).mean(axis=(1, 2, 3)).max() < 6, path.name
                np.testing.assert_array_equal(clip.samples, other.samples)
            compared += not failed
        assert compared >= 5

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        gaps=st.lists(st.integers(2, 40), min_size=30, max_size=60),
        start=st.floats(0, 0.4),
        fps=st.sampled_from([7.5, 12.0, 24.0, 30.0]),
    )
    def test_frames_at_any_times(self, tmp_path_factory, gaps, start, fps):
        times = np.cumsum([0, *gaps]) / 100
        path = tmp_path_factory.mktemp("variable") / "a.mp4"
        write_media(path, list(times), numbered_frames(len(times)), noise(16000, times[-1]), 16000, bframes=2)
        spec = ClipSpec(max(1, int(min(times[-1] - start, 2.0) * fps)), fps, 16000, 0.1)
        same(self.read(path, [start], spec), read_clips(path, [start], spec, 64))

    @pytest.mark.parametrize("seed", range(14))
    def test_a_drawn_video(self, tmp_path, seed):
        scene = drawn(seed)
        if not has(scene.video_codec) or not has(str(scene.audio_codec)):
            pytest.skip(f"this FFmpeg cannot write {scene.video_codec} or {scene.audio_codec}")
        path = write_scene(tmp_path / f"a{scene.suffix}", scene)
        spec = ClipSpec(frames=10, fps=20.0, audio_rate=16000, audio_seconds=0.5)
        begin, end = scene.usable
        if end - begin < 0.6:
            return
        starts = [begin + 0.05, (begin + end) / 2 - 0.25]
        same(self.read(path, starts, spec, 24), read_clips(path, starts, spec, 24), read_picture)

    # turned, squeezed, cut, held

    @pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
    def test_it_is_set_upright(self, tmp_path, matrix):
        path = write_scene(tmp_path / "a.mp4", Scene(matrix=matrix, **SHORT))
        (clip,) = self.read(path, [0.2], ClipSpec(10, 20.0, 16000, 0.5), 24)
        assert None not in [read_picture(image) for image in clip.frames]

    def test_a_turned_video(self, tmp_path):
        (clip,) = self.read(turned(tmp_path / "a.mp4"), [0.1], SPEC, 48)
        assert clip.frames.shape == (30, 64, 48, 3)
        assert clip.frames[0, :24].mean() > 200  # the left went up
        assert clip.frames[0, 40:].mean() < 60

    @pytest.mark.parametrize(("matrix", "one"), [((0, 0, 0, 0), 1), ((2, 0, 0, 2), 1 << 16), ((1, 0, 0, 1), 1)])
    def test_a_matrix_that_is_no_orientation_is_passed_over(self, tmp_path, matrix, one):
        path = set_matrix(write_scene(tmp_path / "a.mp4", Scene(**SHORT)), *matrix, one=one)
        (clip,) = self.read(path, [0.2], ClipSpec(10, 20.0, 16000, 0.5), 24)
        assert None not in [read_picture(image) for image in clip.frames]

    def test_a_tag_turns_where_there_is_no_matrix(self, tmp_path):
        source = write_scene(tmp_path / "a.ts", Scene(".ts", matrix=(0, 1, -1, 0), **SHORT))
        path = tmp_path / "a.mkv"
        with av.open(str(source)) as old, av.open(str(path), "w") as new:
            streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
            streams[old.streams.video[0].index].metadata["rotate"] = "90"
            for packet in old.demux():
                if packet.size:
                    packet.stream = streams[packet.stream.index]
                    new.mux(packet)
        (clip,) = self.read(path, [0.2], ClipSpec(10, 20.0, 16000, 0.5), 24)
        assert None not in [read_picture(image) for image in clip.frames]

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
    def test_pixels_that_are_not_square(self, tmp_path, suffix):
        scene = Scene(suffix, audio_codec="libmp3lame", shape=Scene().shape * 2, **SHORT)
        (clip,) = self.read(write_scene(tmp_path / f"a{suffix}", scene), [0.2], ClipSpec(10, 20.0, 16000, 0.5), 24)
        assert clip.frames.shape[1:3] == (24, 32)
        assert None not in [read_picture(image) for image in clip.frames]

    def test_the_short_side_and_the_aspect(self, tmp_path):
        wide = flash_and_click(tmp_path / "a.mp4", size=(48, 128))
        assert self.read(wide, [0.5], SPEC, 96)[0].frames.shape == (30, 96, 256, 3)
        tall = flash_and_click(tmp_path / "b.mp4", size=(128, 48))
        assert self.read(tall, [0.5], SPEC, 24)[0].frames.shape == (30, 64, 24, 3)

    @pytest.mark.parametrize("bframes", [0, 2])
    def test_what_an_edit_list_hides_is_not_shown(self, tmp_path, bframes):
        whole = numbered(tmp_path / "whole.mp4", {"bframes": bframes})
        path = cut(whole, tmp_path / "cut.mp4", 0.6)  # key frames are at 0 and 0.48 s
        same(self.read(path, [0.0, 0.2]), read_clips(path, [0.0, 0.2], SPEC, 64))
        assert read_number(self.read(path, [0.0])[0].frames[0]) == 15

    @pytest.mark.skipif(not has("libvpx"), reason="this FFmpeg cannot write VP8")
    def test_frames_that_others_only_refer_to(self, tmp_path):
        path = write_hidden_frames(tmp_path)
        (clip,) = self.read(path, [0.4], ClipSpec(5, 25.0, 16000, 0.0), 24)
        assert [read_picture(image) for image in clip.frames] == [10, 11, 11, 13, 14]

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    @pytest.mark.parametrize("times", [[0.0, 0.04], [i / 25 for i in range(25)]])
    def test_the_last_frame_is_held(self, tmp_path, suffix, times):
        held = 4.0 - times[-1]
        path = write_scene(tmp_path / f"a{suffix}", Scene(suffix, times=times, held=held, heard=(0.0, 4.0)))
        spec = ClipSpec(10, 20.0, 16000, 0.5)
        for clip in self.read(path, [1.5, 3.5], spec, 24):
            assert [read_picture(image) for image in clip.frames] == [len(times) - 1] * 10
        with pytest.raises(ClipError, match="missing"):
            self.read(path, [4.4], ClipSpec(10, 20.0, 16000, 0.0), 24)

    def test_a_slide_is_shown_until_the_next(self, tmp_path):
        path = write_scene(tmp_path / "a.mp4", Scene(times=[0.0, 4.0], held=1.0, heard=(0.0, 5.0)))
        (clip,) = self.read(path, [3.6], ClipSpec(10, 20.0, 16000, 0.5), 24)
        assert [read_picture(image) for image in clip.frames] == [0] * 8 + [1] * 2

    # what cannot be read, and what is left behind

    def test_a_short_shortfall_holds_the_frame_and_pads_the_sound(self, tmp_path):
        path = talking(tmp_path / "a.mp4", seconds=1.6)
        (clip,) = self.read(path, [0.8])  # 0.2 s short
        assert [read_number(f) for f in clip.frames[-5:]] == [23] * 5
        assert np.abs(clip.samples[-2000:]).max() == 0
        assert np.abs(clip.samples[:15000]).max() > 0.05
        for beyond in (1.0, 100.0):
            with pytest.raises(ClipError):
                self.read(path, [beyond])

    def test_missing_streams(self, tmp_path):
        mute = write_media(tmp_path / "mute.mp4", [i / 15 for i in range(30)], numbered_frames(30), None)
        sound = write_media(tmp_path / "sound.mp4", [], [], noise(24000, 2.0))
        with pytest.raises(ClipError, match="no sound"):
            self.read(mute, [0.0])
        with pytest.raises(ClipError, match="no video"):
            self.read(sound, [0.0])

    def test_one_stream_alone_and_odd_names(self, tmp_path):
        path = talking(tmp_path / "a:b %d 'ü'.mp4", seconds=2.0)
        (both,) = self.read(path, [0.4])
        (frames,) = self.read(path, [0.4], ClipSpec(30, 30.0, 24000, 0.0))
        (samples,) = self.read(path, [0.4], ClipSpec(0, 30.0, 24000, 1.0))
        np.testing.assert_array_equal(frames.frames, both.frames)
        np.testing.assert_array_equal(samples.samples, both.samples)
        assert len(frames.samples) == len(samples.frames) == 0
        assert self.read(path, []) == []

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_a_member_of_a_shard(self, tmp_path, suffix):
        path = talking(tmp_path / f"a{suffix}")
        shard = tmp_path / "a,b,end,0 'ü'.tar"
        shard.write_bytes(b"\0" * 512 + path.read_bytes() + b"\0" * 1024)
        member = Member(str(shard), 512, path.stat().st_size)
        spec = ClipSpec(4, 4.0, 24000, 1.0)
        same(self.read(member, [0.2], spec), self.read(path, [0.2], spec))

    def test_another_file_is_not_read_and_a_pipe_not_waited_for(self, tmp_path):
        video = write_scene(tmp_path / "v.ts", Scene(".ts", **SHORT))
        (tmp_path / "joined.mkv").write_bytes(f"ffconcat version 1.0\nfile '{video}'\n".encode())
        with pytest.raises(ClipError, match="unreadable"):
            self.read(tmp_path / "joined.mkv", [0.2], SPEC, 24)
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "pipe.mp4")
            with pytest.raises(ClipError, match="not a file"):
                self.read(tmp_path / "pipe.mp4", [0.0], SPEC, 24)

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(seed=st.integers(0, 10**6), part=st.floats(0.05, 1.0))
    def test_damage_is_a_clip_or_a_clip_error(self, tmp_path_factory, seed, part):
        folder = tmp_path_factory.getbasetemp() / f"damage_{self.decoder}"
        source = folder / "source.mkv"
        if not source.exists():
            talking(source, seconds=2.0)
        rng = np.random.default_rng(seed)
        data = bytearray(source.read_bytes())
        data = data[: int(len(data) * part)]
        for at in rng.integers(0, len(data), 5):
            data[at] ^= 1 << int(rng.integers(8))
        path = folder / "damaged.mkv"
        path.write_bytes(bytes(data))
        try:
            (clip,) = self.read(path, [0.4])
        except ClipError:
            return
        assert clip.frames.shape[0] == 30
        assert np.isfinite(clip.samples).all()

    @pytest.mark.parametrize("suffix", [".ts", ".mkv"])
    def test_nothing_is_printed(self, tmp_path, suffix, capfd):
        path = talking(tmp_path / f"a{suffix}", seconds=2.0, rate=48000)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2 + 100])
        with pytest.raises(ClipError):
            self.read(path, [1.0])
        assert capfd.readouterr() == ("", "")

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count open files")
    def test_files_are_closed(self, tmp_path):
        path = talking(tmp_path / "a.mp4")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            self.read(path, [0.2])
            with pytest.raises(ClipError):
                self.read(path, [9.0])
        assert len(os.listdir("/proc/self/fd")) <= before + 1
