"""The loss over the global batch of several processes.

Scale: the loss of each process is W / M · Σ over its anchors, for W processes and M embeddings in total, which is the
mean over its anchors if all processes have equally many. Its gradient also reaches the embeddings of other processes,
because the backward pass of the gather *sums* the gradients of all processes. The mean of the losses over processes is
then exactly the loss of the global batch in a single process, and the mean of the parameter gradients, which
DistributedDataParallel computes, is exactly its gradient.
"""

from typing import Any

import torch
import torch.distributed as dist

from ..core.collectives import gather, gather_sizes, world_size
from .composition import Composition
from .loss import contrastive_loss, normalise, widen
from .released_loss import released_loss


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
    """`gather` with gradients: the backward pass sums, over all processes, the gradients of this process's rows."""
    return _GatherWithGrad.apply(x, sizes)


def global_contrastive_loss(
    z: torch.Tensor, codes: torch.Tensor, composition: Composition, temperature: float = 0.07, *, block: int = 0
) -> torch.Tensor:
    """The contrastive loss of this process's embeddings against those of all processes, a scalar.

    The composition's form selects `contrastive_loss` or `released_loss`. All processes call it together; the top of
    this file describes the scale.

    Args:
        z: embeddings, float [m, D]; m may differ between processes.
        codes: their codes, int64 [m, A]. Different videos have different sample codes, in all processes.
        composition: decides which pairs are compared.
        temperature: τ.
        block: see `contrastive_loss`; the released form does not use it.

    Raises:
        ValueError: the embeddings of the released form are not in the order of `Composition.codes`.
    """
    released = composition.form == "released"
    if released:
        _check_order(codes, composition)
    if world_size() == 1:
        if released:
            unit = normalise(z)
            return released_loss(unit, unit[:0], composition, temperature)
        return contrastive_loss(z, codes, composition, temperature, block=block)
    sizes, z = gather_sizes(len(z), z.device), widen(z)
    scale = len(z) * len(sizes) / sum(sizes)
    if released:
        unit = normalise(z)
        by_rank = list(gather(unit.detach(), sizes).split(sizes))
        del by_rank[dist.get_rank()]
        others = torch.cat([embeddings.view(2, -1, z.shape[1]) for embeddings in by_rank], 1).flatten(0, 1)
        return scale * released_loss(unit, others, composition, temperature)
    keys = gather(z.detach(), sizes) if composition.stop_gradient == "keys" else gather_with_grad(z, sizes)
    key_codes = gather(codes.to(z.device), sizes)
    offset = sum(sizes[: dist.get_rank()])
    loss = contrastive_loss(
        z, codes, composition, temperature, keys=keys, key_codes=key_codes, offset=offset, block=block
    )
    return scale * loss


def _check_order(codes: torch.Tensor, composition: Composition) -> None:
    """Raise ValueError unless `codes`, int64 [m, A], are in the order of `Composition.codes`."""
    videos = codes[: len(codes) // len(composition.modalities) : len(composition.plain), 1]
    if not torch.equal(codes.cpu(), composition.codes(videos)):
        raise ValueError("the released form needs embeddings in the order of Composition.codes")
