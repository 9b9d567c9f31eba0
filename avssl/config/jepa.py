"""The options `jepa.*`: joint-embedding prediction without a teacher (LeJEPA)."""

from dataclasses import dataclass

from .option import option


@dataclass
class JepaConfig:
    """jepa.*"""

    lam: float = option(
        0.02,
        "lambda, the weight of the term that spreads the embeddings out; the prediction has the weight 1 - lambda. A "
        "larger batch needs less",
        minimum=0.0001,
        maximum=0.9999,
    )
    projection: int = option(
        64,
        "width of the embeddings that predict each other; at most model.hidden, from which they are computed",
        "units",
        minimum=2,
        maximum=65_536,
    )
    directions: int = option(
        1024,
        "random directions, new in each step, along which the embeddings are compared with a normal distribution",
        minimum=16,
        maximum=65_536,
    )
    released: list[str] = option(
        [],
        "follow published code in these points. centre: a video's centre is the mean of all its views, not of its "
        "global ones; rows: the embeddings of all views are compared with a normal distribution together, not view by "
        "view; weight: the prediction's weight is 1",
        choices="centre rows weight",
        unique=True,
    )
