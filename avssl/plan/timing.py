"""How long something takes on a device, and random problems to time the solver on."""

import time
from collections.abc import Callable
from statistics import median

import torch

from ..selflabel.sinkhorn import BlockwiseEvidence

CHUNK = 1024
"""Rows of a random problem that are drawn at once."""


def synchronise(device: torch.device) -> None:
    """Wait for what the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(work: Callable[[], object], device: torch.device, budget: float, most: int = 20) -> float:
    """Median time of `work`, run again and again for `budget` seconds, at most `most` times, and once before; of that
    run itself where it takes all of the budget."""
    once = _time(work, device)
    taken: list[float] = [once] if once > budget else []
    while not taken or (sum(taken) < budget and len(taken) < most):
        taken.append(_time(work, device))
    return median(taken)


def _time(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    begun = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begun


def random_evidence(rows: int, clusters: int, seed: int) -> BlockwiseEvidence:
    """A random problem: log p of two modalities whose logits are unit normal, and 4 more on the true cluster.

    Its blocks are made anew at every pass, so that a problem may be larger than the memory.
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
