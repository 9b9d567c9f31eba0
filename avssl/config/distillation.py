"""The options `distillation.*`: the prototypes of a video's other views as targets (SwAV, DINO)."""

from dataclasses import dataclass

from .option import option


@dataclass
class DistillationConfig:
    """distillation.*"""

    target: str = option(
        "sinkhorn",
        "what the other views predict. sinkhorn: codes that use all prototypes equally, from three alternations over "
        "the batch and the queue (SwAV); softmax: the same from one alternation; centring: a softmax of the scores "
        "minus their running mean (DINO)",
        choices="sinkhorn softmax centring",
    )
    teacher: bool = option(
        True, "whether the targets are a slow copy's, see teacher.*; false: the model's own, without gradient"
    )
    prototypes: int = option(
        30,
        "number of prototypes, K, which are the clusters of `avssl clusters`; SwAV uses 3,000, DINO 65,536",
        minimum=2,
        maximum=1_000_000,
    )
    width: int = option(
        128, "width of the embeddings that are compared with the prototypes", "units", minimum=2, maximum=65_536
    )
    layers: int = option(
        2, "layers of the head before the prototypes: SwAV has 2, DINO 3", "layers", minimum=1, maximum=8
    )
    temperature: float = option(0.1, "divisor of the similarities that predict", minimum=0.001, maximum=100)
    target_temperature: float = option(
        0.02,
        "divisor of the similarities that make targets: epsilon of the alternations (SwAV: 0.05), tau_t of centring "
        "(DINO: 0.07); lower it if the loss stays at log(prototypes)",
        minimum=0.001,
        maximum=100,
    )
    first_target_temperature: float | None = option(
        None,
        "target_temperature at step 0, which changes linearly until distillation.warmup; none: target_temperature "
        "throughout",
        minimum=0.001,
        maximum=100,
    )
    warmup: float = option(
        0.3,
        "fraction of the run's steps until the target's divisor is target_temperature",
        minimum=0,
        maximum=1,
    )
    centre_momentum: float = option(
        0.9, "momentum of the running mean that target=centring subtracts", minimum=0, maximum=0.9999
    )
    queue: int = option(
        0,
        "past embeddings of each view that are balanced with each batch, for target=sinkhorn and softmax; at least a "
        "few per prototype together with the batch",
        "embeddings",
        minimum=0,
        maximum=1_000_000,
    )
    freeze_epochs: float = option(
        1.0, "epochs before the prototypes move; until then only the encoders and heads do", "epochs",
        minimum=0, maximum=1000,
    )  # fmt: skip
