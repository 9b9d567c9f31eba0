"""Optimisers, and the clipping of gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ..config import OptimConfig
from ..models import MultiStream
from .parameter_groups import parameter_groups


class Lars(Optimizer):
    """SGD with momentum and a learning rate per layer, for large batches (LARS, You et al. 2017).

    v ← μ v + γ · η ‖w‖ / (‖g‖ + λ ‖w‖) · (g + λ w), w ← w − v, with γ = `lr`, λ = `weight_decay`, η = `trust`. Biases
    and norms (tensors of at most one dimension) use only γ, without decay, as in SimCLR and BYOL.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 1e-3):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                update, rate = w.grad, group["lr"]
                if w.ndim > 1:
                    decay, norm = group["weight_decay"], w.norm()
                    denominator = w.grad.norm() + decay * norm
                    update = w.grad + decay * w
                    nonzero = (norm > 0) & (denominator > 0)
                    ratio = torch.where(nonzero, group["trust"] * norm / denominator, torch.ones_like(norm))
                    update = update * ratio
                buffer = self.state[w].setdefault("momentum_buffer", torch.zeros_like(w))
                buffer.mul_(group["momentum"]).add_(update * rate)
                w.sub_(buffer)


def make_optimizer(model: MultiStream, config: OptimConfig) -> Optimizer:
    """The configured optimiser (SGD with momentum, AdamW or LARS) for all parameters except those of frozen
    encoders."""
    groups = parameter_groups(model, config.encoder_lr, config.layer_decay)
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    kind: Any = Lars if config.optimizer == "lars" else SGD
    return kind(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group of `make_optimizer`: `rate` times the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def clip_gradients(model: nn.Module, max_norm: float) -> torch.Tensor:
    """Scale gradients down to the norm `max_norm` (0: never). Returns the norm of all gradients before scaling."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if max_norm:
        nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm
