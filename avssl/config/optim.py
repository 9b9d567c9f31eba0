"""Optimisation."""

from dataclasses import dataclass

from .option import option


@dataclass
class DescentConfig:
    """What training and finetuning have in common."""

    epochs: int = option(200, "passes over the training videos", "epochs", minimum=1, maximum=100_000)
    batch: int = option(16, "videos per batch and process", "videos", minimum=1, maximum=65_536)
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
    scale_lr: bool = option(True, "is the learning rate after warm-up times the number of processes?")
    schedule: str = option("constant", "learning rate after warm-up", choices="constant cosine")
    optimizer: str = option("sgd", "optimiser", choices="sgd adamw lars")
    accumulate: int = option(
        1,
        "batches whose gradients are summed up for one step; contrast sees each apart",
        "batches",
        minimum=1,
        maximum=65_536,
    )
    max_grad_norm: float = option(
        0.0, "gradients are scaled down to this norm; 0 leaves them", minimum=0, maximum=1_000_000
    )
