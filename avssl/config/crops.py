"""The options `crops.*`: small clips beside the whole ones (multi-crop). This file does not import torch."""

from dataclasses import dataclass, replace

from .clip import ClipConfig
from .option import option

SMALL = "small"
"""The name of the small clips in a batch."""

USES = "contrast", "labelling", "distillation", "jepa"
"""The objectives that use small clips."""

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

    def clip(self, whole: ClipConfig) -> ClipConfig:
        """The options of a small clip: the sides of its frames are a multiple of `STRIDE`, if that fits into them."""
        side = min(whole.crop, max(STRIDE, STRIDE * round(self.small_side * whole.crop / STRIDE)))
        if self.small_side == 1:  # for encoders of one size
            side = whole.crop
        frames, samples = (
            max(1, round(self.small_time * x)) for x in (whole.frames, round(whole.audio_seconds * whole.audio_rate))
        )
        return replace(whole, crop=side, frames=frames, audio_seconds=samples / whole.audio_rate)
