"""How long something takes on a device."""

import time
from collections.abc import Callable
from statistics import median

import torch


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
