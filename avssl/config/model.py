"""The options of encoders and heads."""

from dataclasses import dataclass

from .encoder_names import FOREIGN, OURS, OWN
from .option import option

MODALITIES = "video audio"
"""The modalities that a run may encode; `avssl.clips.dataset.MODALITIES` says what their clips are made of."""

OTHERS = "; or torchvision:NAME, timm:NAME, hf:FOLDER_OR_ID, onnx:FILE, or your own package.module:callable"


def _encoder(default: str, modality: str) -> str:
    return option(default, f"the {modality} encoder{OTHERS}", choices=" ".join(OURS[modality]), pattern=FOREIGN)


def trusted() -> list[str]:
    """The option that lets a command import the encoders of a run that are code."""
    return option(
        [],
        "your own encoders that opening the run may import, as [package.module:callable]: they are code",
        pattern=OWN,
        unique=True,
    )


@dataclass
class ModelConfig:
    video: str = _encoder("r2plus1d_18", "video")
    audio: str = _encoder("resnet9", "audio")
    temporal_pooling: str = option(
        "mean",
        "how an image network's features of the frames become the clip's; attention: a weighted mean that is trained, "
        "equal weights at first",
        choices="mean attention",
    )
    adapter: int = option(
        0,
        "width of a linear layer after each encoder; 0: only where encoders of different widths share a head",
        "units",
        minimum=0,
        maximum=65_536,
    )
    standardise: bool = option(
        False, "shift and scale each feature to mean 0 and deviation 1 over the videos, before the heads"
    )
    hidden: int = option(512, "width of the MLP heads' hidden layer", "units", minimum=1, maximum=65_536)
    dropout: float = option(0.3, "dropout in the MLP heads", minimum=0, maximum=0.95)
    init: list[str] = option(
        [],
        "starting weights, for every encoder that they fit or as video:…, audio:…: pretrained (the encoder's own "
        "library's), a name that avssl models lists, a run folder, or a file",
        unique=True,
    )
    freeze: list[str] = option([], "encoders that keep their weights", choices=MODALITIES, unique=True)
    given: list[str] = option([], "the options of encoders that the user gave", unique=True, noted=True)
