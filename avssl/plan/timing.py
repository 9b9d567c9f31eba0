"""Timing on a device, and random problems to time the solver with."""

import time
from collections.abc import Callable
from statistics import median

import torch

from ..selflabel.sinkhorn import BlockwiseEvidence

CHUNK = 1024
"""Rows of a random problem drawn at a time."""


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(work: Callable[[], object], device: torch.device, budget: float, max_runs: int = 20) -> float:
    """The median time of `work`, s.

    After a warm-up run, `work` is run for `budget` seconds, at most `max_runs` times. If the warm-up takes the whole
    budget, its time is returned.
    """
    first = _time(work, device)
    times: list[float] = [first] if first > budget else []
    while not times or (sum(times) < budget and len(times) < max_runs):
        times.append(_time(work, device))
    return median(times)


def _time(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def random_evidence(rows: int, clusters: int, seed: int) -> BlockwiseEvidence:
    """A random problem: log p of two modalities with unit normal logits, plus 4 at the true cluster.

    Its blocks are recomputed in every pass, so a problem may be larger than the memory.
    """

    def chunk(number: int) -> torch.Tensor:
        g = torch.Generator().manual_seed(1_000_003 * seed + number)
        true = torch.randint(clusters, (CHUNK, 1), generator=g)
        total = torch.zeros(CHUNK, clusters)
        for _ in range(2):
            logits = torch.randn(CHUNK, clusters, generator=g)
            total += logits.scatter_add_(1, true, torch.full((CHUNK, 1), 4.0)).log_softmax(1)
        return total

    def block_of(start: int, stop: int) -> torch.Tensor:
        first = start // CHUNK
        chunks = [chunk(number) for number in range(first, (stop - 1) // CHUNK + 1)]
        joined = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        return joined[start - first * CHUNK : stop - first * CHUNK]

    return BlockwiseEvidence(rows, clusters, block_of)
