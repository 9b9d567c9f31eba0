"""Where a run computes, and in what precision. torch is imported once it is needed: refusals are quick."""

import os
import re
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from .cores import available_cores
from .errors import UserError

if TYPE_CHECKING:
    import torch

DEVICE = r"auto|cpu|cuda|cuda:[0-9]{1,2}|mps"
"""Devices that avssl computes on."""

GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", "/dev/nvhost-gpu")
"""One of these is there on a Linux with a GPU that torch can use."""


def check_device(name: str) -> None:
    """UserError for a word that is no device, and for a GPU where there clearly is none; others show once torch is
    imported."""
    if not re.fullmatch(DEVICE, name):
        raise UserError(f"device={name[:60]} cannot be (auto | cpu | cuda | cuda:N | mps)")
    no_cuda = sys.platform == "darwin" or (sys.platform == "linux" and not any(map(os.path.exists, GPUS)))
    if (name.startswith("cuda") and no_cuda) or (name == "mps" and sys.platform != "darwin"):
        raise UserError(f"device={name}: there is no such device here (try device=cpu)")


def choose_device(name: str) -> "torch.device":
    """`auto` is the GPU where there is one. UserError for a device that is not here, or none that avssl computes on."""
    import torch

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


def share_cores(device: "torch.device", workers: int, threads: int = 0) -> None:
    """On a CPU, leave the decoding workers a core each: threads that wait for one another on a busy core crawl.

    `threads` > 0 is how many to take instead. The linear algebra of NumPy and scikit-learn takes as many.
    """
    import torch
    from threadpoolctl import threadpool_limits

    if device.type == "cpu":
        threads = threads or max(1, available_cores() - workers)
        torch.set_num_threads(threads)
        threadpool_limits(threads)


def autocast(device: "torch.device", precision: str) -> AbstractContextManager:
    """bfloat16 autocast as asked for; `auto` only on GPUs that have it."""
    import torch

    auto = device.type == "cuda" and torch.cuda.is_bf16_supported()
    enabled = precision == "bfloat16" or (precision == "auto" and auto)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
