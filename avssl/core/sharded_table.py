"""A table whose rows are shared out among the processes, and read on the device."""

import math
from collections.abc import Sequence

import torch

from .collectives import gather, gather_sizes, lookup_sharded, world_size
from .transfer import to_device

REPLICATED = 256 * 2**20
"""Largest table that every process has as a whole, bytes."""

ON_DEVICE = 2 * 2**30
"""Largest part of a table that a process keeps on a GPU, bytes."""


class ShardedTable:
    """The rows of a table [N, …], wherever they are, as they were when this object was made.

    A small table is copied to every process, once, so that reading it exchanges nothing. A larger one stays shared
    out, on the GPUs if it fits there; each reading is then two collective operations, for which no GPU is waited for.

    Args:
        local: the rows of this process, [len(rows), …], on the CPU.
        rows: the numbers of these rows; they ascend with the rank of the process, from 0.
        device: where the rows are needed.
    """

    def __init__(self, local: torch.Tensor, rows: range, device: torch.device):
        self.rows, self.device = rows, device
        sizes = gather_sizes(len(rows), device)
        row_bytes = math.prod(local.shape[1:]) * local.element_size()
        fits = max(sizes) * row_bytes <= ON_DEVICE
        local = local.to(device) if fits else local
        self.replicated = world_size() > 1 and sum(sizes) * row_bytes <= REPLICATED
        if self.replicated:
            self.table, self.rows = gather(local, sizes), range(sum(sizes))
        else:
            self.table = local

    def __call__(self, index: torch.Tensor, sizes: Sequence[int] | None = None) -> torch.Tensor:
        """The rows `index`, int64 [B], as [B, …] on the device. `sizes`: the number that each process requests."""
        index = to_device(index, self.table.device) if self.table.device == self.device else index.cpu()
        if self.replicated:
            return self.table[index]
        return to_device(lookup_sharded(self.table, self.rows, index, sizes), self.device)
