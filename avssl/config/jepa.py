"""The options `jepa.*`: joint-embedding prediction without a teacher (LeJEPA)."""

from dataclasses import dataclass

from .option import option


@dataclass
class JepaConfig:
    """jepa.*"""

    weight: float = option(
        0.02,
        "lambda: weight of the term that keeps embeddings normally distributed; the prediction has 1 - lambda",
        minimum=0.0001,
        maximum=0.9999,
    )
