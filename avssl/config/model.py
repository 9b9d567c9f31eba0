"""The options of encoders and heads."""

from dataclasses import dataclass

from .option import option

MODALITIES = "video audio"
"""The modalities that a run may encode; `avssl.clips.dataset.MODALITIES` says what their clips are made of."""


@dataclass
class ModelConfig:
    video: str = option("r2plus1d_18", "the video encoder", choices="r2plus1d_18 r2plus1d_34 tiny")
    audio: str = option("resnet9", "the audio encoder", choices="resnet9 resnet18 tiny")
    hidden: int = option(512, "width of the MLP heads' hidden layer", "units", minimum=1, maximum=65_536)
    dropout: float = option(0.3, "dropout in the MLP heads", minimum=0, maximum=0.95)
    init: list[str] = option(
        [],
        "starting weights, for every encoder that they fit or as video:…, audio:…: pretrained (the encoder's own "
        "library's), a name that avssl models lists, a run folder, or a file",
        unique=True,
        bare=True,
    )
    freeze: list[str] = option([], "encoders that keep their weights", choices=MODALITIES, unique=True, bare=True)
