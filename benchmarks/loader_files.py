"""The files that `python -m benchmarks loader` reads."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from avssl.config import PrepareConfig
from avssl.core.errors import UserError
from avssl.sample.picture import background
from avssl.videos.transcode import TranscodeRequest, transcode

WIDTH, HEIGHT, FPS, RATE = 320, 240, 30, 44100

KINDS = {
    "h264": (".mp4", "libx264", "aac", {"crf": "23", "preset": "medium"}),
    "mpeg4": (".avi", "mpeg4", "libmp3lame", {"qscale": "4", "flags": "+qscale"}),
    "vp9": (".webm", "libvpx-vp9", "libopus", {"crf": "33", "deadline": "realtime", "cpu-used": "6"}),
}
"""Suffix, encoders and their options; prepared files are made of h264 ones."""


def make_files(folder: Path, kinds: Sequence[str], count: int, seconds: float, seed: int) -> dict[str, list[Path]]:
    """`count` files of each kind, the same scenes in all of them. UserError for a kind that there is not."""
    unknown = [kind for kind in kinds if kind not in KINDS and kind != "prepared"]
    if unknown or not kinds:
        raise UserError(f"sources={list(kinds)}: choose from {', '.join([*KINDS, 'prepared'])}")
    files: dict[str, list[Path]] = {kind: [] for kind in kinds}
    for number in range(count):
        frames, samples = scene(seconds, seed + number)
        for kind in files:
            if kind != "prepared":
                files[kind].append(encode(folder / f"{kind}_{number}", kind, frames, samples))
        if "prepared" in files:
            source = folder / f"h264_{number}.mp4"
            if "h264" not in files:
                encode(source.with_suffix(""), "h264", frames, samples)
            target = folder / f"prepared_{number}.mp4"
            c = PrepareConfig()
            found = transcode(
                TranscodeRequest(str(source), str(target), c.short_side, c.gop, c.crf, c.audio_rate, c.audio_bitrate)
            )
            assert "bytes" in found, found
            files["prepared"].append(target)
    return files


def scene(seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, HEIGHT, WIDTH, 3] at FPS: textures and shapes that drift, grainy; float32 [m] at RATE: noise that
    comes and goes."""
    rng = np.random.default_rng(seed)
    count = round(seconds * FPS)
    top = (WIDTH - HEIGHT) // 2
    smooth = background(rng, count, WIDTH, FPS)[:, top : top + HEIGHT]
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for i in range(count):
        grain = rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
        frames[i] = np.clip(smooth[i] + 0.003 * grain, 0, 1) * 255  # of little grain, H.264 makes B-frames
    t = np.arange(round(seconds * RATE)) / RATE
    wave = np.convolve(rng.standard_normal(len(t)), np.ones(8) / 8, "same") * (0.2 + 0.15 * np.sin(2 * np.pi * t))
    return frames, wave.astype(np.float32)


def encode(stem: Path, kind: str, frames: np.ndarray, samples: np.ndarray) -> Path:
    """The file of a kind at `stem` with its suffix: a key frame every 250 frames, stereo sound."""
    suffix, video_codec, audio_codec, options = KINDS[kind]
    path = stem.with_name(stem.name + suffix)
    rate = 48000 if audio_codec == "libopus" else RATE
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(video_codec, rate=Fraction(FPS), options=options)
        video.height, video.width, video.pix_fmt, video.gop_size = *frames.shape[1:3], "yuv420p", 250
        audio: Any = container.add_stream(audio_codec, rate=rate, layout="stereo")
        audio.bit_rate = 128_000
        resampler = av.AudioResampler(audio.codec_context.format, "stereo", rate)
        step = round(RATE / FPS)
        for i, image in enumerate(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            part = np.ascontiguousarray(np.repeat(samples[None, i * step : (i + 1) * step], 2, 0))
            sound = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
            sound.sample_rate, sound.pts, sound.time_base = RATE, i * step, Fraction(1, RATE)
            for piece in resampler.resample(sound):
                container.mux(audio.encode(piece))
        container.mux(video.encode(None))
        for piece in resampler.resample(None):
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return path
