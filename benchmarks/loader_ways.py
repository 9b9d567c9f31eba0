"""The ways to take two clips out of a file that `python -m benchmarks loader` times: ours, and what others do."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch

from avssl.clips.dataset import crop
from avssl.clips.decode import ClipSpec, choose_decoder, read_clips
from avssl.clips.spectrogram import spectrogram
from avssl.config import ClipConfig
from avssl.core.errors import UserError


class View(NamedTuple):
    """What a training step takes of a clip: uint8 [T, crop, crop, 3], and a spectrogram, float [1, bands, frames]."""

    frames: np.ndarray
    spectrogram: torch.Tensor


Way = Callable[[Path, Sequence[float], int], list[View]]
"""(file, starts in s, short side in px) → a view for each start, the crop being the centre's."""


def make_way(name: str, config: ClipConfig) -> Way:
    """`published`, `whole`, or ours with a decoder of that name. UserError where what it needs is missing."""
    if name == "published":
        return _published(config)
    return _whole(config) if name == "whole" else _ours(name, config)


def _ours(decoder: str, config: ClipConfig) -> Way:
    spec, transform = ClipSpec.of(config), spectrogram(config)
    choose_decoder(decoder)

    def read(path: Path, starts: Sequence[float], short_side: int) -> list[View]:
        clips = read_clips(path, starts, spec, short_side, decoder=decoder)
        sounds = transform(torch.from_numpy(np.stack([clip.samples for clip in clips])))
        return [View(crop(c.frames, config.crop, 0.5, 0.5), s) for c, s in zip(clips, sounds, strict=True)]

    return read


def _published(config: ClipConfig) -> Way:
    """The published loader as described: each clip opens the file anew, decodes from the last key frame on, and turns
    its frames to RGB, to floats and to their size; an ffmpeg process decodes the whole sound track, of which one
    second is kept, and python_speech_features makes the filter banks."""
    if importlib.util.find_spec("python_speech_features") is None:
        raise UserError("python_speech_features is not installed: pip install python_speech_features")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise UserError("no ffmpeg on the PATH")
    from python_speech_features import logfbank

    program, rate = ffmpeg, config.audio_rate

    def sound(path: Path, start: float) -> torch.Tensor:
        words = [program, "-v", "error", "-nostdin", "-i", f"file:{path}", "-vn", "-ac", "1", "-ar", str(rate)]
        raw = subprocess.run([*words, "-f", "s16le", "-"], capture_output=True, check=True).stdout
        first = round(start * rate)
        samples = np.frombuffer(raw, np.int16)[first : first + round(config.audio_seconds * rate)]
        bands = logfbank(
            samples, rate, config.window_ms / 1000, config.hop_ms / 1000, config.mels, nfft=1024, preemph=0.97
        )
        return torch.from_numpy(((bands.T - config.audio_mean) / config.audio_std).astype(np.float32))[None]

    def read(path: Path, starts: Sequence[float], short_side: int) -> list[View]:
        views = []
        for start in starts:
            end = start + config.frames / config.fps
            with av.open(str(path)) as container:
                stream: Any = container.streams.video[0]
                container.seek(int(start / stream.time_base), stream=stream, backward=True)
                images, times = _decode(container, stream, start - 0.5 / config.fps, end)
            frames = _resize(torch.from_numpy(np.stack(images)), short_side)[_nearest(times, start, config)]
            views.append(View(crop(frames.numpy(), config.crop, 0.5, 0.5), sound(path, start)))
        return views

    return read


def _whole(config: ClipConfig) -> Way:
    """Decode every frame and all of the sound, as a reader of whole videos does, then cut; the rest as in ours."""
    transform, rate, length = spectrogram(config), config.audio_rate, round(config.audio_seconds * config.audio_rate)

    def read(path: Path, starts: Sequence[float], short_side: int) -> list[View]:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            images, times = _decode(container, container.streams.video[0], -np.inf, np.inf)
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("flt", "mono", rate)
            parts = [part for f in container.decode(audio=0) for part in resampler.resample(f)]
            samples = np.concatenate([f.to_ndarray()[0] for f in [*parts, *resampler.resample(None)]])
        views = []
        for start in starts:
            frames = np.stack([images[i] for i in _nearest(times, start, config)])
            sound = samples[round(start * rate) :][:length]
            cut = crop(_resize(torch.from_numpy(frames), short_side).numpy(), config.crop, 0.5, 0.5)
            views.append(View(cut, transform(torch.from_numpy(sound)[None])[0]))
        return views

    return read


def _decode(container: Any, stream: Any, begin: float, end: float) -> tuple[list[np.ndarray], list[float]]:
    """RGB frames [h, w, 3] from time `begin` to `end` (s), and their times (s)."""
    images: list[np.ndarray] = []
    times: list[float] = []
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
        if frame.time >= begin:
            images.append(frame.to_rgb().to_ndarray())
            times.append(frame.time)
        if frame.time >= end:
            break
    return images, times


def _nearest(times: Sequence[float], start: float, config: ClipConfig) -> list[int]:
    """For each frame of a clip, which of `times` is nearest."""
    wanted = start + np.arange(config.frames) / config.fps
    return [int(i) for i in np.abs(np.asarray(times)[None] - wanted[:, None]).argmin(1)]


def _resize(frames: torch.Tensor, short_side: int) -> torch.Tensor:
    """uint8 [T, h, w, 3] of that short side, by way of floats."""
    scale = short_side / min(frames.shape[1:3])
    size = [round(side * scale) for side in frames.shape[1:3]]
    floats = frames.permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(floats, size, mode="bilinear", align_corners=False)
    return small.permute(0, 2, 3, 1).round().clamp(0, 255).byte()
