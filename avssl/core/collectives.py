"""Exchange between the processes of a run. All processes call each function together; a single one exchanges
nothing."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist


def world_size() -> int:
    """The number of processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, counted from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def rank_slice(count: int) -> range:
    """This process's part of `range(count)`. Parts are in the order of ranks, and their sizes differ by at most 1."""
    return range(rank() * count // world_size(), (rank() + 1) * count // world_size())


def slice_sizes(count: int) -> list[int]:
    """The size of each process's `rank_slice` of `range(count)`."""
    return [(r + 1) * count // world_size() - r * count // world_size() for r in range(world_size())]


def batch_sizes(count: int, own: int) -> list[int]:
    """The size of each process's part of a batch of `count`, of which this one has `own`. They need no exchange."""
    if world_size() == 1:
        return [own]
    sizes = slice_sizes(count)
    assert sizes[rank()] == own, f"{own} videos of a batch of {count}, where the process has {sizes[rank()]}"
    return sizes


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` over all processes, bit for bit the same on each; `x` itself in a single process.

    `x` has the same shape in all processes. The result may share its memory.
    """
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def max_over_processes(x: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum of `x` over all processes; `x` itself in a single process.

    `x` has the same shape in all processes. The result may share its memory.
    """
    if world_size() > 1:
        dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


def start_sum(x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Begin `sum_over_processes`, and return a function that waits for it."""
    work = dist.all_reduce(x, async_op=True) if world_size() > 1 else None

    def wait() -> torch.Tensor:
        if work is not None:
            work.wait()  # between GPUs, this delays the stream, not the process
        return x

    return wait


def gather_sizes(rows: int, device: torch.device) -> list[int]:
    """The number of rows of every process."""
    if world_size() == 1:
        return [rows]
    sizes = [torch.empty(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([rows], device=device))
    return torch.cat(sizes).tolist()


def gather(x: torch.Tensor, sizes: Sequence[int] | None = None) -> torch.Tensor:
    """Rows of all processes in the order of ranks, [Σ sizes, …], from [sizes[rank], …]. No gradient flows."""
    if world_size() == 1:
        return x
    sizes = gather_sizes(len(x), x.device) if sizes is None else sizes
    padded = x.new_zeros(max(sizes), *x.shape[1:])
    padded[: len(x)] = x
    by_rank = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(by_rank, padded)
    return torch.cat([rows[:size] for rows, size in zip(by_rank, sizes, strict=True)])


def broadcast_from_rank0(x: torch.Tensor) -> torch.Tensor:
    """`x` of the first process. All processes pass a tensor of the same shape and type."""
    if world_size() > 1:
        dist.broadcast(x, 0)
    return x


def lookup_sharded(
    table: torch.Tensor, rows: range, index: torch.Tensor, sizes: Sequence[int] | None = None
) -> torch.Tensor:
    """Rows of a table [N, …] that is sharded over the processes. Only the requested rows are exchanged.

    If all is on a GPU and `sizes` are given, this process does not wait for it.

    Args:
        table: the rows of this process, [len(rows), …].
        rows: the numbers of these rows.
        index: the requested rows, int64 [B], on the table's device; both may differ between processes.
        sizes: the number of rows that each process requests; None: they are exchanged.

    Returns:
        The requested rows, [B, …].
    """
    if world_size() == 1:
        return table[index - rows.start]
    sizes = gather_sizes(len(index), index.device) if sizes is None else sizes
    place = gather(index, sizes) - rows.start
    if len(rows):  # a mask of constant shape, because a GPU is asked for the number of rows that a mask selects
        here = (place >= 0) & (place < len(rows))
        found = table[torch.where(here, place, 0)]
        values = torch.where(here.view(-1, *[1] * (found.ndim - 1)), found, found.new_zeros(()))
    else:
        values = table.new_zeros(len(place), *table.shape[1:])
    start = sum(sizes[: rank()])
    return sum_over_processes(values)[start : start + len(index)]
