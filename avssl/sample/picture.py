"""The frames of a sample video: a real handwritten digit that moves over a drifting, cluttered background."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy import ndimage

from ..core.atomic import atomic_path

CELL = 6  # a pixel of the 8 x 8 handwriting becomes CELL x CELL pixels of the stencil


def stencil(rng: np.random.Generator, digit: np.ndarray) -> np.ndarray:
    """The ink of a handwritten digit and the rim around it, smoothly upsampled, with random thickness of the strokes.

    Args:
        rng: the random numbers.
        digit: [8, 8], or another square whose side divides 48, 0 to 16.

    Returns:
        float32 [2, 12 * CELL, 12 * CELL] in [0, 1], with a border of two cells: ink, and ink with rim.
    """
    ink = ndimage.zoom(
        np.pad(digit / 16.0, len(digit) // 4), 8 * CELL // len(digit), order=3, grid_mode=True, mode="grid-constant"
    )
    edge = rng.uniform(0.35, 0.5)
    rim = ndimage.grey_dilation(ink, (5, 5))
    return (1.0 / (1.0 + np.exp(-(np.stack([ink, rim]) - edge) * 14.0))).astype(np.float32)


def smooth_path(rng: np.random.Generator, n: int, fps: float) -> np.ndarray:
    """A smooth random path within [-1, 1], with random speed: float [n]."""
    t = np.arange(n) / fps
    waves = [np.sin(2 * np.pi * (rng.uniform(0.1, 0.7) * t + rng.random())) for _ in range(2)]
    weight = rng.uniform(0.4, 0.9)
    return weight * waves[0] + (1 - weight) * waves[1]


def moving_ink(ink: np.ndarray, centre: np.ndarray, angle: np.ndarray, scale: float, shear: float, size: int):
    """Draw a stencil on every frame.

    Args:
        ink: a layer of the stencil.
        centre: [n, 2] (y, x), px.
        angle: [n], radians.
        scale: side of the digit's 8 cells, px.
        shear: horizontal shift per unit of height.
        size: side of a frame, px.

    Returns:
        float32 [n, size, size] in [0, 1].
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    dy, dx = y - centre[:, :1, None], x - centre[:, 1:, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    v, u = cos * dy - sin * dx, sin * dy + cos * dx
    zoom, middle = 8 * CELL / scale, (len(ink) - 1) / 2
    coordinates = np.stack([v * zoom + middle, (u + shear * v) * zoom + middle])
    return ndimage.map_coordinates(ink, coordinates, order=1, output=np.float32)


def drifting_texture(rng: np.random.Generator, n: int, size: int, fps: float) -> np.ndarray:
    """A smooth coloured texture that drifts: float32 [n, size, size, 3] in [0, 1]."""
    grid, span = int(rng.integers(3, 8)), 2 * size
    wide = ndimage.zoom(rng.random((grid, grid, 3), dtype=np.float32), (span / grid, span / grid, 1), order=1)
    start, speed = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(-0.3, 0.3, 2) * size / fps
    corners = np.clip(start + speed * np.arange(n)[:, None], 0, span - size).astype(int)
    return np.stack([wide[y : y + size, x : x + size] for y, x in corners])


def drifting_shape(rng: np.random.Generator, n: int, size: int, fps: float) -> np.ndarray:
    """The opacity of a large soft ellipse, box or band that drifts and turns: float32 [n, size, size]."""
    kind, t = rng.integers(3), np.arange(n)[:, None, None] / fps
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    cy, cx = (rng.uniform(0, 1) + rng.uniform(-0.4, 0.4) * t for _ in range(2))
    angle = rng.uniform(0, np.pi) + rng.uniform(-1, 1) * t
    v = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
    u = np.sin(angle) * (y - cy) + np.cos(angle) * (x - cx)
    a, b = rng.uniform(0.12, 0.35, 2)
    if kind == 0:
        inside = 1 - np.hypot(v / a, u / b)
    elif kind == 1:
        inside = 1 - np.maximum(np.abs(v) / a, np.abs(u) / b)
    else:
        inside = 1 - np.abs(v) / (0.6 * a)
    return np.clip(inside * 3, 0, rng.uniform(0.4, 0.9)).astype(np.float32)


def background(rng: np.random.Generator, n: int, size: int, fps: float) -> np.ndarray:
    """Two textures that drift and cross-fade under drifting shapes: float32 [n, size, size, 3] in [0, 1].

    Everything in it is soft, so that it can be drawn at half the size and enlarged.
    """
    full, size = size, size // 2
    fade = (0.5 + 0.5 * smooth_path(rng, n, fps)).astype(np.float32)[:, None, None, None]
    scene = drifting_texture(rng, n, size, fps) * fade
    scene += drifting_texture(rng, n, size, fps) * (1 - fade)
    for _ in range(rng.integers(2, 5)):
        opacity = drifting_shape(rng, n, size, fps)[..., None]
        scene += opacity * (rng.random(3, dtype=np.float32) - scene)
    for axis in (1, 2):
        before = np.concatenate([scene.take([0], axis), scene.take(range(size - 1), axis)], axis)
        after = np.concatenate([scene.take(range(1, size), axis), scene.take([size - 1], axis)], axis)
        shape = [n, full, size, 3] if axis == 1 else [n, full, full, 3]
        scene = np.stack([0.25 * before + 0.75 * scene, 0.75 * scene + 0.25 * after], axis + 1).reshape(shape)
    return scene


def noise(rng: np.random.Generator, n: int, size: int, fps: float) -> np.ndarray:
    """Coloured noise that drifts, and flickers: float32 [n, size, size, 3] in [0, 1]."""
    span = 2 * size
    grain = ndimage.gaussian_filter(rng.standard_normal((span, span, 3)), (*[rng.uniform(0.6, 2.5)] * 2, 0))
    grain = (0.5 + 0.2 * grain / grain.std()).astype(np.float32)
    start, speed = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(-0.4, 0.4, 2) * size / fps
    corners = np.clip(start + speed * np.arange(n)[:, None], 0, span - size).astype(int)
    scene = np.stack([grain[y : y + size, x : x + size] for y, x in corners])
    scene += 0.08 * rng.standard_normal(scene.shape, dtype=np.float32)
    return np.clip(scene, 0, 1)


BACKGROUNDS = {"shapes": background, "noise": noise}


def moving_digit(
    rng: np.random.Generator, digit: np.ndarray, n: int, size: int, fps: float, height: np.ndarray | None = None
) -> np.ndarray:
    """Draw the opacity of a digit that moves over the whole picture.

    Args:
        rng: the random numbers.
        digit: [8, 8], 0 to 16.
        n: number of frames.
        size: side of a frame, px.
        fps: frames a second.
        height: height of the digit in the frame, [n] in [0, 1], 1 at the top; None for a free path.

    Returns:
        float32 [2, n, size, size] in [0, 1]: ink, and ink with rim.
    """
    scale = size * (rng.uniform(0.6, 0.75) if height is None else rng.uniform(0.5, 0.6))
    room = (size - scale) / 2
    path = np.stack([smooth_path(rng, n, fps), smooth_path(rng, n, fps)], axis=1)
    if height is not None:
        path[:, 0] = 1 - 2 * height
    angle = rng.uniform(-0.12, 0.12) + 0.06 * smooth_path(rng, n, fps)
    centre, shear = size / 2 - 0.5 + room * path, rng.uniform(-0.15, 0.15)
    return np.stack([moving_ink(layer, centre, angle, scale, shear, size) for layer in stencil(rng, digit)])


def _span(marked: np.ndarray) -> slice:
    """From the first to the last marked place of a bool [n]."""
    places = np.flatnonzero(marked)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0)


def render_frames(
    rng: np.random.Generator,
    digits: Sequence[tuple[np.ndarray, np.random.Generator]],
    n: int,
    size: int,
    fps: float,
    behind: str = "shapes",
) -> np.ndarray:
    """Draw the frames of a video.

    Args:
        rng: the random numbers of the background and of the noise.
        digits: for each digit its opacity, float32 [2, n, size, size] in [0, 1] (ink, and ink with rim), and the
            random numbers of its colours.
        n: number of frames.
        size: side of a frame, px.
        fps: frames a second.
        behind: what is behind the digits, one of BACKGROUNDS.

    Returns:
        uint8 [n, size, size, 3].
    """
    scene = BACKGROUNDS[behind](rng, n, size, fps)
    scene = 0.5 + rng.uniform(0.3, 0.4) * (scene - 0.5)
    for (ink, rim), colours in digits:
        fill = colours.uniform(0.8, 1.0, 3).astype(np.float32)
        outline = 1 - colours.uniform(0.8, 1.0, 3).astype(np.float32)
        if colours.random() < 0.5:
            fill, outline = outline, fill
        reach = slice(None), *(_span(rim.any(axis=axes)) for axes in ((0, 2), (0, 1)))
        part = scene[reach]  # the rest does not change
        part += rim[reach][..., None] * (outline - part)
        part += ink[reach][..., None] * (fill - part)
    scene += rng.uniform(0.005, 0.015) * rng.standard_normal((n, size, size, 1), dtype=np.float32)
    return (np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8)


Options = Mapping[str, str]
# mbtree's vector code is not deterministic for frames this small.
SAMPLE_VIDEO: Options = {"crf": "20", "preset": "veryfast", "mbtree": "0"}
# AAC's default coder would take as long as everything else together.
SAMPLE_AUDIO: Options = {"aac_coder": "fast"}


def write_mp4(
    path: Path,
    frames: np.ndarray,
    samples: np.ndarray | None,
    fps: float,
    audio_rate: int,
    video_options: Options = SAMPLE_VIDEO,
    audio_options: Options = SAMPLE_AUDIO,
    file_options: Options = {},  # noqa: B006 (it is not changed)
) -> None:
    """Write an mp4 file with H.264 and AAC, which both begin at time 0. The file appears only when it is complete.

    Args:
        path: the file.
        frames: uint8 [n, height, width, 3].
        samples: mono audio, float32 [m] in [-1, 1]; None for a file without audio.
        fps: frames a second.
        audio_rate: samples a second, Hz.
        video_options, audio_options, file_options: FFmpeg's options for the two encoders and the file.
    """
    with atomic_path(path) as part, av.open(str(part), "w", format="mp4", options=dict(file_options)) as container:
        rate = Fraction(fps).limit_denominator(1001)
        video = container.add_stream("libx264", rate=rate, options=dict(video_options))
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt, video.codec_context.thread_count = "yuv420p", 1
        if samples is not None:
            audio = container.add_stream("aac", rate=audio_rate, layout="mono", options=dict(audio_options))
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        if samples is not None:
            audio_frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), "fltp", "mono")
            audio_frame.sample_rate, audio_frame.pts, audio_frame.time_base = audio_rate, 0, Fraction(1, audio_rate)
            container.mux(audio.encode(audio_frame))
            container.mux(audio.encode())
