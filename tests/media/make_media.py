"""Small videos made with PyAV: a flash and a click at one instant, in many formats."""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLOCK = Fraction(1, 90000)


def tone_burst(rate: int, seconds: float, at: float | None, level: float = 0.5) -> np.ndarray:
    """Silence float32 [n], with 40 ms of a 1 kHz tone from `at` (s) on."""
    t = np.arange(round(seconds * rate)) / rate
    if at is None:
        return np.zeros(len(t), np.float32)
    on = (t >= at) & (t < at + 0.04)
    return (level * np.sin(2 * np.pi * 1000 * (t - at)) * on).astype(np.float32)


def noise(rate: int, seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """Smooth noise float32 [n]."""
    rng = np.random.default_rng(seed)
    wave = np.convolve(rng.standard_normal(round(seconds * rate)), np.ones(16) / 4, "same")
    return (level * np.clip(wave, -3, 3)).astype(np.float32)


def gray_frames(times: Sequence[float], flash: float | None, size: tuple[int, int]) -> list[np.ndarray]:
    """uint8 [h, w, 3] each: dark, and white where the frame begins at `flash` (s)."""
    height, width = size
    return [
        np.full((height, width, 3), 235 if flash is not None and abs(t - flash) < 1e-3 else 20, np.uint8) for t in times
    ]


def numbered_frames(count: int, size: tuple[int, int] = (64, 64)) -> list[np.ndarray]:
    """uint8 [h, w, 3] each: frame i shows i in 8 vertical bars, black for 0 and white for 1: see `read_number`."""
    height, width = size
    return [
        np.repeat(np.repeat([[20 + 215 * (i >> bit & 1) for bit in range(8)]], width // 8, 1), height, 0)
        .astype(np.uint8)[..., None]
        .repeat(3, 2)
        for i in range(count)
    ]


def read_number(image: np.ndarray) -> int:
    """The number that a frame [h, w, 3] of `numbered_frames` shows."""
    bars = image.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1)
    return sum(int(level > 128) << bit for bit, level in enumerate(bars))


def has(encoder: str) -> bool:
    """Can this FFmpeg write it?"""
    try:
        av.Codec(encoder, "w")
    except av.error.FFmpegError:
        return False
    return True


@contextmanager
def _own_priority() -> Iterator[None]:
    """SVT-AV1 makes the process that encodes a real-time one where it may; all that comes after starves others."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_media(
    path: Path,
    times: Sequence[float],
    frames: Sequence[np.ndarray],
    samples: np.ndarray | None,
    rate: int = 24000,
    *,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    layout: str = "mono",
    gop: int = 12,
    bframes: int = 0,
    offset: float = 0.0,
    sound_offset: float = 0.0,
    container_format: str | None = None,
    options: dict[str, str] | None = None,
    audio_options: dict[str, str] | None = None,
) -> Path:
    """A file whose frame i is presented at offset + times[i] (s), and whose sound starts at offset + sound_offset.

    samples float32 [n], the same in every channel; None leaves the sound out, and no frames the video.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _own_priority(), av.open(str(path), "w", format=container_format, options=options or {}) as container:
        packets = []
        gaps = np.diff(times)
        video_rate = Fraction(1 / float(np.median(gaps))).limit_denominator(1001) if len(gaps) else Fraction(25)
        if len(frames):
            video = container.add_stream(video_codec, rate=video_rate)
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuvj420p" if video_codec == "mjpeg" else "yuv420p"
            video.gop_size, video.max_b_frames = gop, bframes
            video.codec_context.thread_count = 1
            constant = len(gaps) == 0 or np.ptp(gaps) < 1e-6
            clock = 1 / video_rate if constant else CLOCK
            if video_codec in ("mpeg4", "mpeg2video"):
                video.bit_rate = 2_000_000
            else:
                video.codec_context.time_base = clock
            if video_codec == "libx264":
                video.options = {"preset": "ultrafast", "bf": str(bframes), "sc_threshold": "0"}
            elif video_codec == "libx265":
                video.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
            elif video_codec.startswith("libvpx"):
                video.options = {"deadline": "realtime", "cpu-used": "8"}
            elif video_codec == "libsvtav1":
                video.options = {"preset": "12", "svtav1-params": "lp=1"}
        if samples is not None:
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
            audio.options = {**({"strict": "experimental"} if audio_codec == "vorbis" else {}), **(audio_options or {})}
        if len(frames):
            for time, image in zip(times, frames, strict=True):
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                frame.pts, frame.time_base = round((time + offset) / clock), clock
                packets += video.encode(frame)
            packets += video.encode(None)
        if samples is not None:
            channels = len(av.AudioLayout(layout).channels)
            wave = np.repeat(samples[None], channels, 0)
            start = round((offset + sound_offset) * rate)
            for first in range(0, wave.shape[1], 4096):
                part = np.ascontiguousarray(wave[:, first : first + 4096])
                sound = av.AudioFrame.from_ndarray(part, "fltp", layout)
                sound.sample_rate, sound.pts, sound.time_base = rate, start + first, Fraction(1, rate)
                packets += audio.encode(sound)
            packets += audio.encode(None)
        packets.sort(key=lambda p: (p.dts if p.dts is not None else p.pts or 0) * p.time_base)
        container.mux(packets)
    return path


def flash_and_click(
    path: Path,
    at: float = 1.0,
    seconds: float = 2.5,
    fps: float = 25.0,
    times: Sequence[float] | None = None,
    rate: int = 24000,
    size: tuple[int, int] = (48, 64),
    **options: object,
) -> Path:
    """A white frame and a tone burst, both at `at` (s), which must be the time of a frame."""
    times = list(times) if times is not None else [i / fps for i in range(round(seconds * fps))]
    sound_offset = float(options.get("sound_offset", 0.0))  # type: ignore[arg-type]
    samples = tone_burst(rate, seconds - sound_offset, at - sound_offset)
    return write_media(path, times, gray_frames(times, at, size), samples, rate, **options)  # type: ignore[arg-type]


def talking(path: Path, seconds: float = 1.5, fps: float = 15.0, rate: int = 16000, **options: object) -> Path:
    """An ordinary usable video: numbered frames and noise."""
    count = round(seconds * fps)
    times = [i / fps for i in range(count)]
    return write_media(path, times, numbered_frames(count), noise(rate, seconds), rate, **options)  # type: ignore[arg-type]


def cut(source: Path, path: Path, start: float) -> Path:
    """The source from `start` (s) on, without coding anew: packets from the key frame before, and an edit list that
    hides what is before `start`."""
    with av.open(str(source)) as old, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        packets = [p for p in old.demux() if p.size]
        key = max(
            p.dts * p.time_base
            for p in packets
            if p.is_keyframe and p.stream.type == "video" and p.pts * p.time_base <= start
        )
        for packet in packets:
            if packet.dts * packet.time_base >= key:
                shift = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return path


def turned(path: Path) -> Path:
    """A landscape picture with a white left, stored to be shown a quarter turned clockwise: the left is up."""
    image = np.full((48, 64, 3), 20, np.uint8)
    image[:, :32] = 235
    write_media(path, [i / 15 for i in range(23)], [image] * 23, noise(16000, 1.5), 16000)
    data = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:at] + clockwise + data[at + 36 :])
    return path
