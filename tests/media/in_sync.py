"""Formats with a flash and a click at one instant, and when a clip of them has each."""

import numpy as np

from avssl.clips.decode import Clip, ClipSpec
from tests.media.make_media import tone_burst

SPEC = ClipSpec(frames=30, fps=30.0, audio_rate=24000, audio_seconds=1.0)


def flash_time(clip: Clip) -> tuple[float, float]:
    """First and last time of the bright frames, from the clip's start (s)."""
    bright = np.flatnonzero(clip.frames.mean(axis=(1, 2, 3)) > 128)
    assert len(bright), "no flash"
    return bright[0] / SPEC.fps, bright[-1] / SPEC.fps


def click_time(clip: Clip) -> float:
    """Onset of the tone burst, from the clip's start (s)."""
    burst = tone_burst(SPEC.audio_rate, 0.04, 0.0)
    return int(np.correlate(clip.samples, burst, "valid").argmax()) / SPEC.audio_rate


PRIMED = {"ts", "ts_mpeg2", "mpg", "flv", "avi_mp3", "start_2s_mp4"}
"""These cannot, or do not, say that the encoder's priming is to be dropped: it is the start of their presentation."""

VARIABLE = [0.0, 0.05, 0.12, 0.3, 0.33, 0.36, 0.6, 0.9, 0.94, 1.0, 1.04, 1.2, 1.25, 1.3, 1.6, 1.9, 2.2, 2.45]
FORMATS: dict[str, tuple[str, dict]] = {
    "mp4": ("a.mp4", {}),
    "bframes": ("a.mp4", {"bframes": 3}),
    "variable": ("a.mp4", {"times": VARIABLE}),
    "variable_mkv": ("a.mkv", {"times": VARIABLE, "audio_codec": "libopus", "rate": 48000}),
    "start_7s": ("a.mkv", {"offset": 7.0}),
    "late_sound": ("a.mkv", {"sound_offset": 0.3}),
    "late_sound_mp4": ("a.mp4", {"sound_offset": 0.3}),
    "ts": ("a.ts", {"bframes": 2, "rate": 48000}),
    "ts_mpeg2": ("a.ts", {"video_codec": "mpeg2video", "audio_codec": "mp2", "rate": 48000, "bframes": 2}),
    "mpg": ("a.mpg", {"video_codec": "mpeg2video", "audio_codec": "mp2", "rate": 48000}),
    "mov": ("a.mov", {"audio_codec": "pcm_s16le", "rate": 48000}),
    "flv": ("a.flv", {"rate": 44100}),
    "vp8_opus": ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus", "rate": 48000}),
    "vp9_opus": ("a.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "rate": 48000}),
    "vorbis": ("a.webm", {"video_codec": "libvpx", "audio_codec": "vorbis", "rate": 44100, "layout": "stereo"}),
    "avi_mp3": ("a.avi", {"video_codec": "mpeg4", "audio_codec": "libmp3lame", "rate": 44100}),
    "avi_pcm": ("a.avi", {"video_codec": "mjpeg", "audio_codec": "pcm_s16le", "rate": 22050}),
    "surround": ("a.mkv", {"audio_codec": "ac3", "layout": "5.1", "rate": 48000}),
    "8k": ("a.mkv", {"audio_codec": "pcm_s16le", "rate": 8000}),
    "96k": ("a.mkv", {"audio_codec": "flac", "rate": 96000, "layout": "stereo"}),
    "44k_aac": ("a.mkv", {"rate": 44100, "layout": "stereo"}),
    "surround_aac": ("a.mp4", {"layout": "5.1", "rate": 48000, "bframes": 2}),
    "mp3": ("a.mkv", {"audio_codec": "libmp3lame", "rate": 44100, "layout": "stereo"}),
    "mp3_mp4": ("a.mp4", {"audio_codec": "libmp3lame", "rate": 22050}),
    "opus_stereo": ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus", "rate": 48000, "layout": "stereo"}),
    "avi_8k": ("a.avi", {"video_codec": "mpeg4", "audio_codec": "pcm_s16le", "rate": 8000}),
    "odd_rate": ("a.mkv", {"audio_codec": "pcm_s16le", "rate": 11127, "bframes": 2}),
    "mov_96k": ("a.mov", {"video_codec": "mpeg4", "audio_codec": "pcm_s16le", "rate": 96000}),
    "start_2s_mp4": ("a.mp4", {"offset": 2.0, "bframes": 2}),
    "av1": ("a.mp4", {"video_codec": "libsvtav1"}),
}
