"""The options `localisation.*`: learn where in the frames the sound is."""

from dataclasses import dataclass

from .option import option


@dataclass
class LocalisationConfig:
    """localisation.*"""

    form: str = option(
        "max",
        "what a position of the frames contributes. max: only the most similar position counts (EZ-VSL); soft: all "
        "positions count by their similarity, and the background of the same frames is a negative (LVS)",
        choices="max soft",
    )
    temperature: float = option(
        0.03, "temperature of the similarities; EZ-VSL has 0.03, LVS 0.07", minimum=0.001, maximum=10
    )
    projection: int = option(
        128,
        "width of the embeddings in which positions of the frames are compared with the audio",
        "units",
        minimum=2,
        maximum=65_536,
    )
    window: int = option(
        1,
        "side of the square of positions over which similarities are averaged, an odd number: about the size of the "
        "objects, so that heat maps are highest at their centre; the form soft has none",
        "positions",
        minimum=1,
        maximum=63,
    )
