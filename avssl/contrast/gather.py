"""The loss over the global batch of several processes.

Scale: the loss of each process is W / M · Σ over its anchors, for W processes and M embeddings in total, which is the
mean over its anchors if all processes have equally many. Its gradient also reaches the embeddings of other processes,
because the backward pass of the gather *sums* the gradients of all processes. The mean of the losses over processes is
then exactly the loss of the global batch in a single process, and the mean of the parameter gradients, which
DistributedDataParallel computes, is exactly its gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from ..core.collectives import gather, gather_sizes, world_size
from ..core.transfer import to_device
from .composition import Composition
from .loss import (
    Index,
    Side,
    labels_of_videos,
    loss_of_sides,
    normalise,
    on_device,
    parts_of_videos,
    side_of_small,
    sides_of_videos,
    widen,
)
from .released_loss import released_loss


class _GatherWithGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        ctx.start, ctx.size = sum(sizes[: dist.get_rank()]), len(x)
        return gather(x, sizes)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.size], None


def gather_with_grad(x: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """`gather` with gradients: the backward pass sums, over all processes, the gradients of this process's rows."""
    return _GatherWithGrad.apply(x, sizes)


def global_contrastive_loss(
    z: torch.Tensor,
    videos: torch.Tensor,
    composition: Composition,
    temperature: float = 0.07,
    *,
    block: int = 0,
    sizes: Sequence[int] | None = None,
    small: torch.Tensor | None = None,
) -> torch.Tensor:
    """The contrastive loss of this process's embeddings against those of all processes, a scalar.

    The composition's form selects `contrastive_loss` or `released_loss`. All processes call it together; the top of
    this file describes the scale. With `sizes`, no process waits for its GPU.

    Args:
        z: embeddings of B videos, float [M, D], in the order of `Composition.codes`.
        videos: numbers that identify the videos in all processes, int64 [B]; B may differ between processes.
        composition: decides which pairs are compared.
        temperature: τ.
        block: see `contrastive_loss`; the released form does not use it.
        sizes: the number of videos of each process; None: they are exchanged.
        small: embeddings of M small clips of each video and modality, float [modalities · B · M, D], nested as
            modality, video, clip (multi-crop, SwAV, Caron et al. 2020). They are further anchors, compared with the
            embeddings of whole clips, and never keys. The loss is then the mean over all anchors.

    Raises:
        ValueError: the number of embeddings is not that of `Composition.codes`, or the composition has the released
            form, which has no small clips.
    """
    released, per_video = composition.form == "released", len(composition.modalities) * len(composition.plain)
    if z.ndim != 2 or len(z) != len(videos) * per_video:
        raise ValueError(
            f"{len(videos)} videos have {len(videos) * per_video} embeddings in the order of Composition.codes, not "
            f"{list(z.shape)}"
        )
    if small is not None and (released or len(small) % (len(videos) * len(composition.modalities))):
        raise ValueError(f"{list(small.shape)} are no embeddings of small clips of {len(videos)} videos")
    if world_size() == 1:
        if released:
            unit = normalise(z)
            return released_loss(unit, unit[:0], composition, temperature)
        _check_temperature(temperature)
        with torch.autocast(z.device.type, enabled=False):
            found = sides_of_videos(z, to_device(videos, z.device), composition)
            return _mean_over_anchors(found, small, [len(videos)], composition, temperature, block)
    sizes, z = gather_sizes(len(videos), z.device) if sizes is None else list(sizes), widen(z)
    rows = [size * per_video for size in sizes]
    scale = len(videos) * len(sizes) / sum(sizes)
    if released:
        unit = normalise(z)
        by_rank = list(gather(unit.detach(), rows).split(rows))
        del by_rank[dist.get_rank()]
        others = torch.cat([embeddings.view(2, -1, z.shape[1]) for embeddings in by_rank], 1).flatten(0, 1)
        return scale * released_loss(unit, others, composition, temperature)
    _check_temperature(temperature)
    with torch.autocast(z.device.type, enabled=False):
        keys = gather(z.detach(), rows) if composition.stop_gradient == "keys" else gather_with_grad(z, rows)
        numbers = gather(to_device(videos, z.device), sizes)
        found = _sides(z, keys, numbers, sizes, composition)
        return scale * _mean_over_anchors(found, small, sizes, composition, temperature, block)


def _mean_over_anchors(
    found: tuple[Side, Side, int, list[tuple[Index, Index]]],
    small: torch.Tensor | None,
    sizes: Sequence[int],
    composition: Composition,
    temperature: float,
    block: int,
) -> torch.Tensor:
    """The loss of what `_sides` returns; with embeddings of small clips, the mean over these anchors as well."""
    loss = loss_of_sides(*found, composition, temperature, block)
    if small is None or not len(small):
        return loss
    anchors, keys, labels, _ = found
    own = sizes[dist.get_rank()] if world_size() > 1 else sizes[0]
    few = side_of_small(small, anchors, own, composition)
    count = len(small) // (own * len(composition.modalities))
    parts = on_device(parts_of_videos(own, sum(sizes), composition, count), small.device)
    loss_of_small = loss_of_sides(few, keys, labels, parts, composition, temperature, block)
    share = len(small) / (len(small) + len(anchors.z))
    return (1 - share) * loss + share * loss_of_small


def _sides(
    z: torch.Tensor, keys: torch.Tensor, numbers: torch.Tensor, sizes: list[int], composition: Composition
) -> tuple[Side, Side, int, list[tuple[Index, Index]]]:
    """What `loss.sides` returns, for the keys of all processes in the order of ranks.

    Only the numbers of the videos, int64 [N], are known to the device alone; all other codes, and the sizes, follow
    from the composition, so that nothing is read back.
    """
    modalities, views, width = len(composition.modalities), len(composition.plain), z.shape[1]
    own, total, start = sizes[dist.get_rank()], sum(sizes), sum(sizes[: dist.get_rank()])
    by_rank = keys.split([size * modalities * views for size in sizes])
    # in the order of `Composition.codes` of all videos, where a modality is a slice
    keys = torch.cat([part.view(modalities, -1, width) for part in by_rank], 1).flatten(0, 1)
    table, labels = labels_of_videos(numbers, composition)
    place = torch.arange(modalities * total * views, device=z.device).view(modalities, total, views)
    mine = slice(start, start + own)
    anchors = Side(normalise(z), table[:, mine].flatten(), place[:, mine].flatten())
    parts = parts_of_videos(own, total, composition)
    return anchors, Side(normalise(keys), table.flatten(), place.flatten()), labels, on_device(parts, z.device)


def _check_temperature(temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive")
