"""The device and the precision of a run. torch is imported only when needed, so that errors come quickly."""

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
"""Files of which Linux has at least one if torch can use a GPU."""


def check_device(name: str) -> None:
    """Raise UserError for a word that is not a device, and for a GPU on a machine that clearly has none. This does not
    import torch; `choose_device` finds the other errors."""
    if not re.fullmatch(DEVICE, name):
        raise UserError(f"device={name[:60]} is not one of auto, cpu, cuda, cuda:N, mps")
    no_cuda = sys.platform == "darwin" or (sys.platform == "linux" and not any(map(os.path.exists, GPUS)))
    if (name.startswith("cuda") and no_cuda) or (name == "mps" and sys.platform != "darwin"):
        raise UserError(f"device={name}: this machine has no such device (try device=cpu)")


def choose_device(name: str) -> "torch.device":
    """The device to compute on; `auto` is a CUDA GPU, or else the CPU. Raises UserError for a missing device."""
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
    """On a CPU, limit the threads so that each decoding worker has a core, because threads on shared cores are slow.

    Args:
        device: the device; for a GPU, nothing is changed.
        workers: number of decoding workers.
        threads: number of threads of torch, NumPy and scikit-learn; 0: the cores that the workers leave free.
    """
    import torch
    from threadpoolctl import threadpool_limits

    if device.type == "cpu":
        threads = threads or max(1, available_cores() - workers)
        torch.set_num_threads(threads)
        threadpool_limits(threads)


def autocast(device: "torch.device", precision: str) -> AbstractContextManager:
    """A context of bfloat16 autocast if `precision` is `bfloat16`, or `auto` on a GPU that supports it."""
    import torch

    auto = device.type == "cuda" and torch.cuda.is_bf16_supported()
    enabled = precision == "bfloat16" or (precision == "auto" and auto)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
