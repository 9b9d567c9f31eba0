"""k-means of many rows on their device, shared out among processes (Lloyd's iterations from k-means++).

scikit-learn's, in the first process alone, took longer than the others would wait for it.
"""

from dataclasses import dataclass

import torch

from ..core.collectives import gather, gather_sizes, rank, sum_over_processes

SEED_ROWS = 10
"""Rows per cluster from which k-means++ draws the first centres,"""

MIN_SEED_ROWS = 20_000
"""and at least so many."""

ITERATIONS = 100
"""Most iterations of a start."""

TOLERANCE = 1e-4
"""A start ends if the centres' squared movement is below this, times the mean variance of the columns."""

CHUNK = 2**24
"""Most distances computed at a time."""


@dataclass
class Found:
    """The result of k-means."""

    centres: torch.Tensor
    """float32 [K, D], the same in all processes."""
    labels: torch.Tensor
    """The nearest centre of each row of this process, int64 [n]."""
    inertia: float
    """The sum of squared distances to it, over the rows of all processes."""


@torch.no_grad()
def lloyd(x: torch.Tensor, clusters: int, seed: int, starts: int = 1) -> Found:
    """Cluster the rows of all processes. All processes call this together, and each computes its own part.

    The result depends on the seed and the rows, and only by rounding on the number of processes. Sums are float64, and
    no operator is used whose order of additions varies between runs.

    Args:
        x: rows of this process, float32 [n, D], on any device. Their mean should be near 0, because rounding hides
            differences that are small beside it.
        clusters: K, at most the number of rows.
        seed: random seed of the first centres.
        starts: number of starts, of which the one with the least inertia is returned.

    Raises:
        ValueError: in all processes alike, for NaN or infinite values.
    """
    sizes = gather_sizes(len(x), x.device)
    total = sum(sizes)
    squares = sum_over_processes(torch.stack([x.sum(0, dtype=torch.float64), x.double().square().sum(0)]))
    if not bool(squares.isfinite().all()):
        raise ValueError("the rows contain NaN or infinite values")
    variance = float((squares[1] / total - (squares[0] / total).square()).mean())
    best: Found | None = None
    for start in range(starts):
        rng = torch.Generator().manual_seed((seed + start * 7919) % 2**63)
        found = _start(x, _seeds(x, clusters, sizes, rng), TOLERANCE * variance)
        if best is None or found.inertia < best.inertia:
            best = found
    assert best is not None
    return best


def _start(x: torch.Tensor, centres: torch.Tensor, tolerance: float) -> Found:
    for _ in range(ITERATIONS):
        sums, counts, _, _ = _assigned(x, centres)
        # a cluster that lost its rows keeps its centre
        new = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres.double()).float()
        moved = float((new - centres).double().square().sum())
        centres = new
        if moved <= tolerance:
            break
    _, _, labels, inertia = _assigned(x, centres)
    return Found(centres, labels, inertia)


def _assigned(x: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """The sums, float64 [K, D], and numbers, [K], of the rows of all processes nearest to each centre; the labels of
    this process's rows; and the inertia."""
    clusters, width = centres.shape
    sums = torch.zeros(clusters, width + 2, dtype=torch.float64, device=x.device)
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    lengths = centres.square().sum(1) / 2
    size = max(1, CHUNK // max(clusters, width))
    for first in range(0, len(x), size):
        rows = x[first : first + size]
        nearest = torch.addmm(lengths, rows, centres.T, alpha=-1).argmin(1)
        labels[first : first + size] = nearest
        apart = (rows - centres[nearest]).square().sum(1)
        extended = torch.cat([rows.double(), torch.ones_like(apart)[:, None], apart[:, None]], 1)
        sums += _summed(extended, nearest, clusters)
    sums = sum_over_processes(sums)
    return sums[:, :width], sums[:, width], labels, float(sums[:, width + 1].sum())


def _summed(rows: torch.Tensor, labels: torch.Tensor, clusters: int) -> torch.Tensor:
    """The sum of the rows of each label, float64 [K, D]."""
    if rows.device.type == "cpu":
        return rows.new_zeros(clusters, rows.shape[1]).index_add_(0, labels, rows)
    one_hot = torch.nn.functional.one_hot(labels, clusters).float()  # on a GPU, index_add_ adds in any order
    return (one_hot.T @ rows.float()).double()


def _seeds(x: torch.Tensor, clusters: int, sizes: list[int], rng: torch.Generator) -> torch.Tensor:
    """The first centres, float32 [K, D], by greedy k-means++ (Arthur and Vassilvitskii 2007) on drawn rows, the same
    rows for any number of processes."""
    total, start = sum(sizes), sum(sizes[: rank()])
    drawn = torch.randperm(total, generator=rng)[: max(MIN_SEED_ROWS, SEED_ROWS * clusters)].sort().values
    mine = drawn[(drawn >= start) & (drawn < start + len(x))] - start
    rows = gather(x[mine.to(x.device)])
    trials = 2 + int(torch.tensor(float(clusters)).log())
    # all random numbers at once: one copy to the device
    draws = torch.rand(clusters, trials, generator=rng, dtype=torch.float64).to(x.device)
    squared = rows.square().sum(1)
    first = (draws[0, 0] * len(rows)).long().clamp(max=len(rows) - 1)
    chosen, nearest = [first], _squared_distances(rows, squared, first[None])[0]
    for number in range(1, clusters):
        edges = nearest.double().cumsum(0)
        candidates = torch.searchsorted(edges, draws[number] * edges[-1], right=True).clamp(max=len(rows) - 1)
        apart = torch.minimum(_squared_distances(rows, squared, candidates), nearest)
        best = apart.sum(1, dtype=torch.float64).argmin()
        chosen.append(candidates[best])
        nearest = apart[best]
    return rows[torch.stack(chosen)]


def _squared_distances(rows: torch.Tensor, squared: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Squared distances of all rows to the rows `index`, [t, n]."""
    return (squared[index][:, None] - 2 * rows[index] @ rows.T + squared).clamp(min=0)
