"""Learning rates."""

import math

from ..config import OptimConfig


def learning_rate(config: OptimConfig, step: int, steps_per_epoch: float, total: int, processes: int = 1) -> float:
    """The learning rate of a step: linear warm-up over `warmup_epochs`, then constant or a cosine to zero (spec §5).

    The constant schedule warms up from `lr` to `lr` × processes, as published; with one process it stays at `lr`. The
    cosine schedule warms up from zero. Each passed milestone divides the rate by ten.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    decay = 0.1 ** sum(step >= epoch * steps_per_epoch for epoch in config.milestones)
    peak = config.lr * processes
    if step < warmup:
        start = config.lr if config.schedule == "constant" else 0.0
        return decay * (start + (peak - start) * (step + 1) / max(1.0, warmup))
    if config.schedule == "constant":
        return decay * peak
    return decay * peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))
