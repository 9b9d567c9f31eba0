"""The options `crops.*`: small views of a video beside its clips (multi-crop, SwAV)."""

from dataclasses import dataclass

from .option import option


@dataclass
class CropsConfig:
    """crops.*"""

    small: int = option(
        0,
        "small views of each video and modality: parts of a clip that the objectives predict from, and never label",
        minimum=0,
        maximum=64,
    )
