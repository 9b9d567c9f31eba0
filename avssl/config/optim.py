"""The options `optim.*`: length of the run, batch, optimiser and learning rates."""

from dataclasses import dataclass
from math import ceil

from .option import option


@dataclass
class DescentConfig:
    """The options that training and finetuning share."""

    epochs: int = option(200, "passes over the training videos", "epochs", minimum=1, maximum=100_000)
    batch: int = option(
        16, "videos per batch in each process; if memory runs out, lower it", "videos", minimum=1, maximum=65_536
    )
    momentum: float = option(0.9, "momentum, for optimizer=sgd and lars", minimum=0, maximum=0.9999)
    weight_decay: float = option(1e-5, "weight decay", minimum=0, maximum=100)
    warmup_epochs: float = option(
        10.0, "epochs over which the learning rate rises linearly at the start", "epochs", minimum=0, maximum=100_000
    )
    milestones: list[float] = option(
        [], "epochs at which the learning rate drops to a tenth", "epochs", minimum=0, maximum=100_000
    )


@dataclass
class OptimConfig(DescentConfig):
    """optim.*"""

    clips: int = option(
        0,
        "length of the run as a number of clips, over all processes and one per video and batch; 0: optim.epochs sets "
        "the length",
        "clips",
        minimum=0,
        maximum=1_000_000_000_000,
    )
    lr: float = option(
        0.01, "learning rate after warm-up for a single process; scale_lr multiplies it", minimum=0, maximum=1000
    )
    scale_lr: bool = option(
        True, "multiply the learning rate by the number of processes; it rises to that during warm-up"
    )
    schedule: str = option(
        "constant", "learning rate after warm-up: constant, or a cosine that falls to 0", choices="constant cosine"
    )
    optimizer: str = option("sgd", "optimiser", choices="sgd adamw lars")
    accumulate: int = option(
        1,
        "batches whose gradients are summed for one step, for a larger batch in the same memory; contrast compares "
        "clips only within each batch",
        "batches",
        minimum=1,
        maximum=65_536,
    )
    max_grad_norm: float = option(
        0.0, "scale gradients down to this norm if theirs is larger; 0: never", minimum=0, maximum=1_000_000
    )
    encoder_lr: float = option(
        1.0, "factor on the learning rate of the encoders; the heads have the factor 1", minimum=0.0001, maximum=100
    )
    layer_decay: float = option(
        1.0,
        "factor on the learning rate from each block of an encoder to the block before it; below 1, early layers "
        "change less",
        minimum=0.01,
        maximum=1,
    )
    encoder_start: float = option(
        0.0,
        "fraction of the run's steps during which the encoders are frozen, so that only the heads are trained (probe, "
        "then finetune)", minimum=0,
        maximum=0.99,
    )  # fmt: skip

    def steps_of(self, videos: int, batch: int) -> int:
        """The number of steps of a run on `videos` training videos, with a global batch of `batch` videos."""
        if self.clips:
            return ceil(self.clips / (batch * self.accumulate))
        return ceil(self.epochs * (videos / (batch * self.accumulate)))

    def epochs_of(self, videos: int) -> float:
        """The number of passes over `videos` training videos: `epochs`, or what `clips` amounts to."""
        return self.clips / videos if self.clips else self.epochs

    @property
    def longer(self) -> str:
        """The option that sets the length of a run, and its value, for messages."""
        return f"optim.clips (now {self.clips})" if self.clips else f"optim.epochs (now {self.epochs})"
