"""A pass over the data between two training steps: something of every video of this process, from its features."""

from collections.abc import Callable, Iterator, Mapping

import torch

from ..clips.dataset import Batch
from ..core.collectives import sum_over_processes, world_size
from ..core.errors import UserError
from ..core.transfer import Rows
from ..models.multi_stream import ByModality
from .objective import Context, Interrupted

LABEL_BATCH = 64
"""Videos per batch of a pass,"""

MOST_LABEL_BATCH = 256
"""and most on a GPU, where a pass has as many as a process's training batch: it has memory for these."""

STORED_BATCH = 1024
"""The same for stored features, which take little memory."""


def pass_batch(context: Context) -> int:
    """Videos per batch of a pass, the same in all processes."""
    if context.config.data.features:
        return STORED_BATCH
    if context.device.type != "cuda":
        return LABEL_BATCH
    return max(LABEL_BATCH, min(MOST_LABEL_BATCH, -(-context.batch // world_size())))


def run_pass(
    context: Context,
    rows: range,
    widths: Mapping[str, int],
    encode: Callable[[Batch], ByModality],
    batches: Iterator[Batch],
    stop: Callable[[], bool],
    progress: Callable[[int, int], None],
) -> tuple[torch.Tensor, ByModality]:
    """What `encode` makes of all videos of this process that can be decoded.

    Args:
        context: of the run.
        rows: the videos of this process.
        widths: the width D of each modality's result.
        encode: a batch of videos [B, …] → float [B, D] by modality.
        batches: the batches of `pass_requests(rows, pass_batch(context), …)`.
        stop: called between batches, equally often by all processes.
        progress: called with the number of videos done in all processes, and their total.

    Returns:
        The videos, int64 [n], and float32 [n, D] by modality.

    Raises:
        Interrupted: `stop` returned True.
        UserError: no video could be decoded.
    """
    index: list[torch.Tensor] = [torch.empty(0, dtype=torch.int64)]
    results = {name: Rows(len(rows), width, context.device) for name, width in widths.items()}
    longest, size = -(-context.videos // world_size()), pass_batch(context)
    progress(0, context.videos)
    for start in range(0, longest, size):  # all processes must call `stop` the same number of times
        if stop():
            raise Interrupted
        if start:
            progress(min(start * world_size(), context.videos), context.videos)
        if start >= len(rows):
            continue
        batch = next(batches)
        context.note_failures(batch)
        if len(batch.index):
            index.append(batch.index)
            for name, x in encode(batch).items():
                results[name].add(x)
    progress(context.videos, context.videos)
    decoded = sum_over_processes(torch.tensor([sum(len(part) for part in index)]))
    if not decoded:
        raise UserError("no video could be decoded for a labelling pass: run `avssl index` again")
    return torch.cat(index), {name: x.whole() for name, x in results.items()}
