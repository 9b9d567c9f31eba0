"""The options of optimisation."""

from dataclasses import dataclass

from .option import option


@dataclass
class DescentConfig:
    """The options that training and finetuning share."""

    epochs: int = option(200, "passes over the training videos", "epochs", minimum=1, maximum=100_000)
    batch: int = option(16, "videos per batch in each process", "videos", minimum=1, maximum=65_536)
    momentum: float = option(0.9, "momentum, for sgd and lars", minimum=0, maximum=0.9999)
    weight_decay: float = option(1e-5, "weight decay", minimum=0, maximum=100)
    warmup_epochs: float = option(10.0, "epochs of linear warm-up", "epochs", minimum=0, maximum=100_000)
    milestones: list[float] = option(
        [], "epochs at which the learning rate drops to a tenth", "epochs", minimum=0, maximum=100_000
    )


@dataclass
class OptimConfig(DescentConfig):
    """optim.*"""

    lr: float = option(0.01, "learning rate at the start of warm-up", minimum=0, maximum=1000)
    scale_lr: bool = option(True, "multiply the learning rate after warm-up by the number of processes")
    schedule: str = option("constant", "learning rate after warm-up", choices="constant cosine")
    optimizer: str = option("sgd", "optimiser", choices="sgd adamw lars")
    accumulate: int = option(
        1,
        "batches whose gradients are summed for one step; contrast compares clips within each batch only",
        "batches",
        minimum=1,
        maximum=65_536,
    )
    max_grad_norm: float = option(
        0.0, "scale gradients with a larger norm down to this; 0: never", minimum=0, maximum=1_000_000
    )
    encoder_lr: float = option(1.0, "factor of the encoders' learning rate; heads have lr", minimum=0.0001, maximum=100)
    layer_decay: float = option(
        1.0, "factor of the learning rate from each block of an encoder to the one before it", minimum=0.01, maximum=1
    )
    encoder_start: float = option(
        0.0, "share of the run's steps before which the encoders keep their weights: probe, then finetune", minimum=0,
        maximum=0.99,
    )  # fmt: skip
