"""The loss over the global batch of several processes.

Scale: each process's loss is W / M · Σ over its anchors (W processes, M embeddings in all), which is the mean over its
anchors when all hold as many. Its gradient flows into the other processes' embeddings too; the backward pass of the
gather *sums* what all processes send. Averaging parameter gradients over processes, as DistributedDataParallel does,
then gives exactly the gradient of the single-process loss of the global batch, and averaging the losses its value.
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
    """`gather`, whose backward pass sums over processes the gradients of the rows that this one gave."""
    return _GatherWithGrad.apply(x, sizes)


def global_contrastive_loss(
    z: torch.Tensor, codes: torch.Tensor, composition: Composition, temperature: float = 0.07, *, block: int = 0
) -> torch.Tensor:
    """The contrast of this process's embeddings [m, D] against those of all processes: a scalar.

    Of the composition's form: `contrastive_loss`, or `released_loss`, which `block` does not reach and whose embeddings
    are in the order of `Composition.codes`. Processes may hold different numbers of embeddings; their sample codes must
    not collide. Called by all processes or none. For the scale, see this module's heading. Raises ValueError for
    another order.
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
        parts = list(gather(unit.detach(), sizes).split(sizes))
        del parts[dist.get_rank()]
        others = torch.cat([part.view(2, -1, z.shape[1]) for part in parts], 1).flatten(0, 1)
        return scale * released_loss(unit, others, composition, temperature)
    keys = gather(z.detach(), sizes) if composition.stop_gradient == "keys" else gather_with_grad(z, sizes)
    key_codes = gather(codes.to(z.device), sizes)
    offset = sum(sizes[: dist.get_rank()])
    loss = contrastive_loss(
        z, codes, composition, temperature, keys=keys, key_codes=key_codes, offset=offset, block=block
    )
    return scale * loss


def _check_order(codes: torch.Tensor, composition: Composition) -> None:
    """ValueError unless `codes` int64 [m, A] are those of `Composition.codes`, row by row."""
    videos = codes[: len(codes) // len(composition.modalities) : len(composition.plain), 1]
    if not torch.equal(codes.cpu(), composition.codes(videos)):
        raise ValueError("the released form takes embeddings in the order of Composition.codes")
