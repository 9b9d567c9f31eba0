"""The options `crops.*`: small clips beside the whole ones (multi-crop). This file does not import torch."""

from dataclasses import dataclass

from .option import option

STRIDE = 16
"""Most video encoders reduce the sides of frames by this factor."""


@dataclass
class CropsConfig:
    """crops.*"""

    small: int = option(
        0,
        "small clips of each video and modality: the whole clips are what they predict and are compared with; 0: none",
        "clips",
        minimum=0,
        maximum=32,
    )
    small_side: float = option(
        0.43,
        "side of a small clip's frames, as a fraction of clip.crop; rounded to a multiple of 16 px",
        minimum=0.05,
        maximum=1,
    )
    small_area: list[float] = option(
        [0.05, 0.14],
        "smallest and largest part of a frame's area that a small clip shows; SwAV: [0.05,0.14], DINO: [0.05,0.4]",
        minimum=0.01,
        maximum=1,
        length=2,
    )
    small_time: float = option(
        0.5, "fraction of the clip's frames and of its audio in a small clip", minimum=0.05, maximum=1
    )

    def side(self, crop: int) -> int:
        """The side of a small clip's frames (px) for whole ones of `crop`: a multiple of `STRIDE`, if that fits."""
        return min(crop, max(STRIDE, STRIDE * round(self.small_side * crop / STRIDE)))

    def length(self, whole: int) -> int:
        """The number of frames, or of samples, in a small clip of a whole one of `whole`."""
        return max(1, round(self.small_time * whole))
