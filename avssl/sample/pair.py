"""Two digits side by side: each has half of the picture, and moves and turns within it.

A digit's box covers 30 to 42 % of the picture, because the published measure of sound localisation takes half of the
pixels as its prediction: a box of less than a quarter could not reach an IoU of 0.5 with it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .picture import smooth_path, stencil

WIDTH = (0.43, 0.48)
"""The shorter side of a digit's box, as a fraction of the picture's side."""

AREA = (0.32, 0.405)
"""The area of a digit's box, as a fraction of the picture's."""

LONGEST = 0.94
"""The longer side of a digit's box at most, as a fraction of the picture's side."""


@dataclass(frozen=True)
class Half:
    """A half of the picture, px."""

    origin: tuple[int, int]  # y, x
    sides: tuple[int, int]  # height, width


def halves(rng: np.random.Generator, size: int) -> tuple[Half, Half]:
    """The places of two digits, in random order: left and right, or top and bottom, of a picture of `size` px."""
    middle = size // 2
    if rng.random() < 0.5:
        pair = Half((0, 0), (size, middle)), Half((0, middle), (size, middle))
    else:
        pair = Half((0, 0), (middle, size)), Half((middle, 0), (middle, size))
    return pair if rng.random() < 0.5 else pair[::-1]


def digit_in_half(rng: np.random.Generator, digit: np.ndarray, half: Half, n: int, size: int, fps: float) -> np.ndarray:
    """Draw the opacity of a digit that is stretched to fill most of its half.

    The digit is turned and sheared first and stretched last, so that the sides of its box are exact.

    Args:
        rng: the random numbers.
        digit: [8, 8], 0 to 16.
        half: where the digit stays.
        n: number of frames.
        size: side of a frame, px.
        fps: frames a second.

    Returns:
        float32 [2, n, size, size] in [0, 1]: ink, and ink with rim.
    """
    layers = stencil(rng, digit)
    middle = (layers.shape[1] - 1) / 2
    angle = rng.uniform(-0.1, 0.1) + 0.04 * smooth_path(rng, n, fps)
    shear = rng.uniform(-0.15, 0.15)
    path = np.stack([smooth_path(rng, n, fps), smooth_path(rng, n, fps)], axis=1)
    sides = np.array(half.sides)
    shorter = rng.uniform(*WIDTH)
    longer = min(rng.uniform(*AREA) / shorter, LONGEST)
    wanted = size * np.where(sides < size, shorter, longer)

    # [n, 1, 1] against the points of the outline, [points], and the pixels, [height, width]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    rows, columns = np.nonzero(layers[1] >= 0.5)
    v, u = rows - middle, columns - middle - shear * (rows - middle)
    turned = np.stack([cos[..., 0] * v + sin[..., 0] * u, cos[..., 0] * u - sin[..., 0] * v])
    low, high = turned.min(axis=2).T - 0.5, turned.max(axis=2).T + 0.5  # [n, 2], the edges of the box, stencil px
    stretch = np.minimum(wanted / (high - low).mean(axis=0), sides / (high - low).max(axis=0))
    room = sides - (high - low) * stretch
    centre = np.array(half.origin) + room * (path + 1) / 2 - low * stretch - 0.5

    result = np.zeros((2, n, size, size), np.float32)
    margin = 2 + size // 32  # what is soft at the rim
    top, left = (max(0, start - margin) for start in half.origin)
    bottom, right = (min(size, start + side + margin) for start, side in zip(half.origin, half.sides, strict=True))
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    dy = (y - centre[:, 0, None, None]) / stretch[0]
    dx = (x - centre[:, 1, None, None]) / stretch[1]
    v, u = cos * dy - sin * dx, sin * dy + cos * dx
    places = np.stack([v + middle, u + shear * v + middle])
    for layer, drawn in zip(layers, result, strict=True):
        drawn[:, top:bottom, left:right] = ndimage.map_coordinates(layer, places, order=1, output=np.float32)
    return result
