"""Where the crop of an evaluation clip lies in its picture."""

import numpy as np

from ..clips.decoders.span import scaled_size
from ..config import ClipConfig

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The whole of a picture: x0, y0, x1, y1 as fractions."""


def crop_extent(width: int, height: int, clip: ClipConfig) -> tuple[float, float, float, float]:
    """The part of a picture that an evaluation clip shows, x0, y0, x1, y1 as fractions of the picture.

    It undoes the scaling to the short side and the square crop in the middle, with their rounding.

    Args:
        width, height: the upright picture with square pixels, as in the index, px.
        clip: how clips are cut.
    """
    wide, high = scaled_size(width, height, clip.short_side_eval or clip.short_side_min)
    left, top = round(0.5 * (wide - clip.crop)), round(0.5 * (high - clip.crop))
    return left / wide, top / high, (left + clip.crop) / wide, (top + clip.crop) / high


def crop_extents(widths: np.ndarray, heights: np.ndarray, clip: ClipConfig) -> np.ndarray:
    """The same of N pictures: float64 [N, 4], from int [N]."""
    sizes, which = np.unique(np.stack([widths, heights], 1), axis=0, return_inverse=True)
    extents = np.array([crop_extent(int(w), int(h), clip) for w, h in sizes]).reshape(-1, 4)
    return extents[which.reshape(-1)]


def to_picture(boxes: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Boxes in fractions of the crop, [..., 4], as fractions of the picture. `extents` is broadcast against them."""
    low, size = _corner_and_size(extents)
    return low + boxes * size


def to_crop(boxes: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Boxes in fractions of the picture, [..., 4], as fractions of the crop, clipped to it. One outside it is empty."""
    low, size = _corner_and_size(extents)
    return np.clip((boxes - low) / size, 0.0, 1.0)


def _corner_and_size(extents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corner (x0, y0, x0, y0) and the size (w, h, w, h)."""
    extents = np.asarray(extents, np.float64)
    low = extents[..., [0, 1, 0, 1]]
    return low, extents[..., [2, 3, 2, 3]] - low
