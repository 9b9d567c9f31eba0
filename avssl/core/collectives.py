"""What processes that train together tell one another. Called by all of them or none; alone, nothing crosses."""

import torch
import torch.distributed as dist


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def rank_slice(count: int) -> range:
    """This process's part of `count` things in a row: as even as can be, in the order of the ranks."""
    return range(rank() * count // world_size(), (rank() + 1) * count // world_size())


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """The sum of `x` over all processes, on each of them, bit for bit the same; `x` itself without a process group.

    Called with the same shape. The result may be the memory of `x`.
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
    """Rows of all processes in the order of their ranks, [Σ sizes, …], from [sizes[rank], …]. No gradient."""
    if world_size() == 1:
        return x
    sizes = gather_sizes(len(x), x.device) if sizes is None else sizes
    padded = x.new_zeros(max(sizes), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def broadcast_from_rank0(x: torch.Tensor) -> torch.Tensor:
    """`x` of the first process; all give one of the same shape and type."""
    if world_size() > 1:
        dist.broadcast(x, 0)
    return x


def lookup_sharded(table: torch.Tensor, rows: range, index: torch.Tensor) -> torch.Tensor:
    """Rows `index`, int64 [B], of a table [N, …] of integers, of which each process holds its `rows`: [B, …].

    Every process asks for as many as it likes. What crosses is what all ask for, not the table.
    """
    if world_size() == 1:
        return table[index - rows.start]
    sizes = gather_sizes(len(index), index.device)
    asked = gather(index, sizes)
    mine = (asked >= rows.start) & (asked < rows.stop)
    found = table.new_zeros(len(asked), *table.shape[1:])
    found[mine] = table[asked[mine] - rows.start]
    start = sum(sizes[: rank()])
    return sum_over_processes(found)[start : start + len(index)]
