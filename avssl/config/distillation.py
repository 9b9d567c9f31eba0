"""The options `distillation.*`: the prototypes of a video's other views as targets (SwAV, DINO)."""

from dataclasses import dataclass

from .option import option


@dataclass
class DistillationConfig:
    """distillation.*"""

    teacher: bool = option(
        True, "whether the targets are a slow copy's, see teacher.*; false: the model's own, without gradient"
    )
