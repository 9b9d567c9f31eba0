"""The options `model.*`: encoders and heads."""

from dataclasses import dataclass

from .encoder_names import FOREIGN, OURS, OWN
from .option import option

MODALITIES = "video audio"
"""The modalities that a run may encode; `avssl.clips.dataset.MODALITIES` defines the tensors of their clips."""

OTHERS = "; or torchvision:NAME, timm:NAME, hf:FOLDER_OR_ID, onnx:FILE, or your own package.module:callable"


def _encoder(default: str, modality: str) -> str:
    return option(default, f"the {modality} encoder{OTHERS}", choices=" ".join(OURS[modality]), pattern=FOREIGN)


def trusted() -> list[str]:
    """The option that allows a command to import a run's encoders that are the user's own code."""
    return option(
        [],
        "your own encoders that the command may import to open the run, as package.module:callable; importing runs "
        "their code",
        pattern=OWN,
        unique=True,
    )


@dataclass
class ModelConfig:
    video: str = _encoder("r2plus1d_18", "video")
    audio: str = _encoder("resnet9", "audio")
    temporal_pooling: str = option(
        "mean",
        "how an image network's features of single frames become the clip's feature; attention: a trained weighted "
        "mean that starts with equal weights",
        choices="mean attention",
    )
    video_stride: int = option(
        0,
        "pixels of a frame per position of the video encoder's feature map, made finer by dilated convolutions; 0: the "
        "encoder's own",
        "px",
        minimum=0,
        maximum=64,
    )
    adapter: int = option(
        0,
        "width of a trained linear layer after each encoder; 0: only if encoders of different widths share a head",
        "units",
        minimum=0,
        maximum=65_536,
    )
    standardise: bool = option(
        False, "standardise each feature over the videos, to mean 0 and deviation 1, before the heads"
    )
    hidden: int = option(512, "width of the MLP heads' hidden layer", "units", minimum=1, maximum=65_536)
    dropout: float = option(0.3, "dropout in the MLP heads", minimum=0, maximum=0.95)
    init: list[str] = option(
        [],
        "starting weights: pretrained (from the encoder's own library), a name that `avssl models` lists, a run "
        "folder, or a file; for every encoder that they fit, or for one as video:… or audio:…",
        unique=True,
    )
    freeze: list[str] = option(
        [], "encoders that are not trained: they keep their starting weights", choices=MODALITIES, unique=True
    )
    given: list[str] = option([], "options of encoders that the user gave", unique=True, noted=True)
