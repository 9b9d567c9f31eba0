"""Where a run computes, and in what precision."""

import os
from contextlib import AbstractContextManager

import torch
from threadpoolctl import threadpool_limits

from ..config.checks import check_device
from .cores import available_cores
from .errors import UserError


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. UserError for a device that is not here, or none that avssl computes on."""
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and "LOCAL_RANK" in os.environ:
            name = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: {str(error).splitlines()[0]} (try device=cpu)") from None
    return device


def share_cores(device: torch.device, workers: int, threads: int = 0) -> None:
    """On a CPU, leave the decoding workers a core each: threads that wait for one another on a busy core crawl.

    `threads` > 0 is how many to take instead. The linear algebra of NumPy and scikit-learn takes as many.
    """
    if device.type == "cpu":
        threads = threads or max(1, available_cores() - workers)
        torch.set_num_threads(threads)
        threadpool_limits(threads)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bfloat16 autocast as asked for; `auto` only on GPUs that have it."""
    auto = device.type == "cuda" and torch.cuda.is_bf16_supported()
    enabled = precision == "bfloat16" or (precision == "auto" and auto)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
