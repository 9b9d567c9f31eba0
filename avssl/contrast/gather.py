"""The loss over the global batch of several processes.

Scale: each process's loss is W / M · Σ over its anchors (W processes, M embeddings in all), which is the mean over its
anchors when all hold as many. Its gradient flows into the other processes' embeddings too; the backward pass of the
gather *sums* what all processes send. Averaging parameter gradients over processes, as DistributedDataParallel does,
then gives exactly the gradient of the single-process loss of the global batch, and averaging the losses its value.
"""

from typing import Any

import torch
import torch.distributed as dist

from ..collectives import gather, gather_sizes, world_size
from .composition import Composition
from .loss import contrastive_loss, normalise


class _GatherWithGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        ctx.start, ctx.size = sum(sizes[: dist.get_rank()]), len(x)
        return gather(x, sizes)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.size], None


def gather_with_grad(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """`gather`, whose backward pass sums over processes the gradients of the rows that this one gave."""
    return _GatherWithGrad.apply(x, sizes)


def global_contrastive_loss(
    z: torch.Tensor, codes: torch.Tensor, composition: Composition, temperature: float = 0.07, *, block: int = 0
) -> torch.Tensor:
    """`contrastive_loss` of this process's embeddings [m, D] against those of all processes: a scalar.

    Processes may hold different numbers of embeddings; their sample codes must not collide. Called by all processes
    or none. Without a process group it is `contrastive_loss`. For the scale, see this module's heading.
    """
    if world_size() == 1:
        return contrastive_loss(z, codes, composition, temperature, block=block)
    sizes = gather_sizes(len(z), z.device)
    unit = normalise(z)
    keys = gather(unit.detach(), sizes) if composition.stop_gradient == "keys" else gather_with_grad(unit, sizes)
    key_codes = gather(codes.to(z.device), sizes)
    offset = sum(sizes[: dist.get_rank()])
    loss = contrastive_loss(
        unit, codes, composition, temperature, keys=keys, key_codes=key_codes, offset=offset, block=block
    )
    return loss * (len(z) * len(sizes) / sum(sizes))
