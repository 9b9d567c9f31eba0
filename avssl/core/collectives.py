"""Exchange between the processes of a run. All processes call each function together; a single one exchanges
nothing."""

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


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` over all processes, bit for bit the same on each; `x` itself in a single process.

    `x` has the same shape in all processes. The result may share its memory.
    """
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def gather_sizes(rows: int, device: torch.device) -> list[int]:
    """The number of rows of every process."""
    if world_size() == 1:
        return [rows]
    sizes = [torch.empty(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([rows], device=device))
    return torch.cat(sizes).tolist()


def gather(x: torch.Tensor, sizes: list[int] | None = None) -> torch.Tensor:
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


def lookup_sharded(table: torch.Tensor, rows: range, index: torch.Tensor) -> torch.Tensor:
    """Rows of an integer table [N, …] that is sharded over the processes. Only the requested rows are exchanged.

    Args:
        table: the rows of this process, [len(rows), …].
        rows: the numbers of these rows.
        index: the requested rows, int64 [B]; both may differ between processes.

    Returns:
        The requested rows, [B, …].
    """
    if world_size() == 1:
        return table[index - rows.start]
    sizes = gather_sizes(len(index), index.device)
    requested = gather(index, sizes)
    local = (requested >= rows.start) & (requested < rows.stop)
    values = table.new_zeros(len(requested), *table.shape[1:])
    values[local] = table[requested[local] - rows.start]
    start = sum(sizes[: rank()])
    return sum_over_processes(values)[start : start + len(index)]
