"""The kernels of torch's synchronised batch norm, which exist only for GPUs, on the CPU."""

from typing import Any

import torch


def _rows(x: torch.Tensor) -> torch.Tensor:
    """[B, C, …] → [rows, C]."""
    return x.movedim(1, -1).flatten(0, -2).float()


def _shaped(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return x.view(1, -1, *[1] * (like.dim() - 2))


def stats(x: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    rows = _rows(x)
    return rows.mean(0), (rows.var(0, unbiased=False) + eps).rsqrt()


def gather_stats(
    x: torch.Tensor, mean: torch.Tensor, invstd: torch.Tensor, running_mean: Any, running_var: Any, momentum: float,
    eps: float, counts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    weights = (counts / counts.sum())[:, None]
    joint = (mean * weights).sum(0)
    var = ((invstd**-2 - eps + (mean - joint).square()) * weights).sum(0)
    if running_mean is not None:
        n = counts.sum()
        running_mean.lerp_(joint, momentum)
        running_var.lerp_(var * n / (n - 1), momentum)
    return joint, (var + eps).rsqrt()


def elemt(x: torch.Tensor, weight: Any, bias: Any, mean: torch.Tensor, invstd: torch.Tensor, eps: float) -> Any:
    y = (x - _shaped(mean, x)) * _shaped(invstd, x)
    return y if weight is None else y * _shaped(weight, x) + _shaped(bias, x)


def backward_reduce(
    grad: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, invstd: torch.Tensor, weight: Any, *_: bool
) -> tuple[torch.Tensor, ...]:
    sum_dy, sum_dy_xmu = _rows(grad).sum(0), (_rows(grad) * (_rows(x) - mean)).sum(0)
    return sum_dy, sum_dy_xmu, sum_dy_xmu * invstd, sum_dy


def backward_elemt(
    grad: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, invstd: torch.Tensor, weight: Any, sum_dy: torch.Tensor,
    sum_dy_xmu: torch.Tensor, counts: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    n = counts.sum()
    scale = invstd if weight is None else invstd * weight
    centred = x - _shaped(mean, x)
    across = centred * _shaped(invstd.square() * sum_dy_xmu / n, x)
    return (grad - _shaped(sum_dy / n, x) - across) * _shaped(scale, x)


KERNELS = {
    "batch_norm_stats": stats,
    "batch_norm_gather_stats_with_counts": gather_stats,
    "batch_norm_elemt": elemt,
    "batch_norm_backward_reduce": backward_reduce,
    "batch_norm_backward_elemt": backward_elemt,
}
