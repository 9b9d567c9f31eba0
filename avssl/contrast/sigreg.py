"""SIGReg: along random directions, the embeddings of a batch are distributed normally (LeJEPA, spec §13).

The statistic of a direction compares the characteristic function of the embeddings' components along it with that of a
standard normal distribution (Epps & Pulley 1983). Several processes exchange its cosine and sine sums alone, which is
exact: the loss and the gradient are those of the whole batch in one process.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from ..core.collectives import world_size

POINTS, LAST = 17, 3.0
"""The points t of the characteristic function: 17 from 0 to 3."""

BLOCK = 2**22
"""Most cosines that are computed at once, 16 MB."""

LOW = 0xFFFFFFFF


def _mixed(x: Any) -> Any:
    """32 bits, well mixed; `x` is an int or a tensor int64, of 32 bits. The products stay below 2⁶³."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & LOW
    x = ((x ^ (x >> 15)) * 0x735A2D97) & LOW
    return x ^ (x >> 15)


def unit_directions(width: int, count: int, seed: int, step: int, device: torch.device) -> torch.Tensor:
    """Random unit directions, float32 [width, count], from the seed and the step alone.

    They are hashed from counters on the device: all processes have the same without an exchange, a GPU has those of a
    CPU up to rounding, nothing is copied to it, and a run that resumes needs no state.

    Args:
        width: D, the width of the embeddings.
        count: M, the number of directions.
        seed: the seed of the run.
        step: the training step.
        device: where they are computed.
    """
    pairs = -(-width * count // 2)
    keys = [_mixed((_mixed(_mixed(seed & LOW) ^ salt) + step) & LOW) for salt in (1, 2)]
    counters = _mixed(torch.arange(pairs, device=device))
    first, second = (((_mixed(counters ^ key) >> 8) + 0.5) / 2**24 for key in keys)
    radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
    normal = torch.cat([radius * angle.cos(), radius * angle.sin()])[: width * count].view(width, count)
    return normal / normal.norm(dim=0, keepdim=True).clamp(min=1e-12)


def sigreg(
    z: torch.Tensor,
    directions: torch.Tensor,
    rows: int | None = None,
    together: bool = False,
    points: int = POINTS,
    last: float = LAST,
) -> torch.Tensor:
    """How far the embeddings are from a standard normal distribution, a scalar.

        mean over directions u of  N ∫ |mean of e^{i t u·z} − e^{−t²/2}|² e^{−t²/2} dt

    It is about 1 for N independent draws of a standard normal distribution, whatever N is, and it grows in proportion
    to N for any other distribution. All processes call it together; their means over the batch are summed, and each has
    the same result. The gradient that reaches `z` is W times that of the loss, for W processes, because
    DistributedDataParallel averages the gradients of parameters.

    Args:
        z: embeddings of N rows in V views, float [V, N, D]; N may differ between processes.
        directions: unit directions, float [D, M].
        rows: N in all processes together; None: of this one.
        together: compare the rows of all views as one sample, instead of each view's.
        points: the number of points t of the integral, which is twice that of the trapezoid rule from 0.
        last: the largest t.

    Source: LeJEPA (Balestriero & LeCun 2025), SIGReg with the test of Epps and Pulley.
    """
    with torch.autocast(z.device.type, enabled=False):
        rows = z.shape[1] if rows is None else rows
        sums = _Sums.apply(z.float() @ directions if z.dtype != torch.float64 else z @ directions, points, last)
        if together:
            sums, rows = sums.sum(0, keepdim=True), rows * len(z)
        if world_size() > 1:
            sums = _SumOverProcesses.apply(sums)
        t = _points(points, last, sums)
        phi = (-t * t / 2).exp()
        weight = 2 * last / (points - 1) * phi
        weight[0] /= 2
        weight[-1] /= 2
        cosine, sine = (sums / rows).unbind(1)
        return rows * (((cosine - phi[:, None]).square() + sine.square()) * weight[:, None]).sum(1).mean()


def _points(points: int, last: float, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(points, device=like.device, dtype=like.dtype) * (last / (points - 1))


def _blocks(x: torch.Tensor, points: int, last: float) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Some of the points t at a time: which, the t [T], and t · x [V, T, N, M], of at most `BLOCK` values."""
    t = _points(points, last, x)
    size = max(1, BLOCK // max(1, x.numel()))
    for start in range(0, points, size):
        part = slice(start, start + size)
        yield part, t[part], x[:, None] * t[part, None, None]


class _Sums(torch.autograd.Function):
    """Sums of cos(t · x) and sin(t · x) over the rows of x [V, N, M]: [V, 2, T, M].

    The backward pass computes the cosines and sines again, so that a step does not keep them: T times the memory of x.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, points: int, last: float) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.grid = points, last
        sums = x.new_empty(len(x), 2, points, x.shape[2])
        for part, _, angles in _blocks(x, points, last):
            sums[:, 0, part], sums[:, 1, part] = angles.cos().sum(2), angles.sin().sum(2)
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,), total = ctx.saved_tensors, None
        for part, t, angles in _blocks(x, *ctx.grid):
            cosine, sine = (grads[0][:, k, part, None] * t[:, None, None] for k in (0, 1))
            found = (sine * angles.cos() - cosine * angles.sin()).sum(1)
            total = found if total is None else total + found
        assert total is not None
        return total, None, None


class _SumOverProcesses(torch.autograd.Function):
    """The sum over W processes. Its gradient is the same in each, so that it needs no exchange: W times its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * world_size()
