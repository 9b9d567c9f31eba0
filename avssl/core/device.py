"""The device and the precision of a run. torch is imported only when needed, so that errors come quickly."""

import os
import re
import sys
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

from .cores import available_cores, process_cores
from .errors import UserError
from .plurals import many
from .printable import is_first_process, note, warn
from .verbosity import is_verbose

if TYPE_CHECKING:
    import torch
    from torch import nn

DEVICE = r"auto|cpu|cuda|cuda:[0-9]{1,2}|mps"
"""Devices that avssl computes on."""

AUTO_WORKERS = -1
"""The value of the option `workers` that lets `decoding_workers` choose."""

CPU_WORKERS, GPU_WORKERS = 2, 16
"""The most decoding processes that `workers=-1` starts beside a CPU, which computes too, and beside a GPU."""

CUDNN_BYPASS = 90800, 91500
"""The first version of cuDNN whose half-precision 3D convolutions torch 2.9 avoids, and the first that is mended."""

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


def prepare_device(name: str, fixed_shapes: bool = False) -> "torch.device":
    """Choose the device of a command, and prepare this process to compute on it.

    Args:
        name: the option `device`.
        fixed_shapes: whether nearly all batches have the same shape.

    Raises:
        UserError: there is no such device.
    """
    import torch

    device = choose_device(name)
    if device.type == "cuda":
        if device.index is not None:  # events, pinned memory and NCCL belong to the current GPU, whatever a tensor's is
            torch.cuda.set_device(device)
        exact_float32()
        # cuDNN times its algorithms once for each shape, which pays only if few shapes come back often
        torch.backends.cudnn.benchmark = fixed_shapes
    return device


def exact_float32() -> None:
    """Compute float32 as float32 on GPUs. By default torch rounds the inputs of convolutions to TF32, 10 bits.

    A run in bfloat16 loses nothing: what autocast leaves in float32 (spectrograms, solver, losses) is small.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def decoding_workers(workers: int, device: "torch.device") -> int:
    """The number of decoding processes that the option `workers` means for this process."""
    if workers != AUTO_WORKERS:
        return workers
    if device.type == "cpu":
        return min(CPU_WORKERS, available_cores())
    return auto_workers(process_cores())


def auto_workers(cores: int) -> int:
    """The decoding processes beside a GPU, for a process with this many cores: one core feeds the GPU."""
    return max(1, min(GPU_WORKERS, cores - 1))


def share_cores(device: "torch.device", workers: int, threads: int = 0) -> int:
    """On a CPU, limit the threads so that each decoding worker has a core, because threads on shared cores are slow.

    Args:
        device: the device; for a GPU, the threads stay as they are.
        workers: the option `workers`.
        threads: number of threads of torch, NumPy and scikit-learn; 0: the cores that the workers leave free.

    Returns:
        The number of decoding workers.
    """
    import torch
    from threadpoolctl import threadpool_limits

    processes = decoding_workers(workers, device)
    if device.type == "cpu":
        threads = threads or max(1, available_cores() - processes)
        torch.set_num_threads(threads)
        threadpool_limits(threads)
    if workers == AUTO_WORKERS and is_verbose() and is_first_process():
        cores = available_cores() if device.type == "cpu" else process_cores()
        note(f"workers={processes}: this process has {many(cores, 'core')}, and computes on {device}")
    return processes


def say_if_busy(device: "torch.device", threads: int) -> None:
    """Say that other programs use the cores, if they do: of several threads on shared cores, each waits for the others.

    Args:
        device: the device; for a GPU, nothing is said.
        threads: the option `threads`; nothing is said if it was given.
    """
    import torch

    if threads or device.type != "cpu" or torch.get_num_threads() == 1 or not hasattr(os, "getloadavg"):
        return
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores and is_first_process():
        warn(f"other programs use the cores (load {load:.0f}, {many(cores, 'core')}): threads=1 is then often faster")


def autocast(device: "torch.device", precision: str) -> AbstractContextManager:
    """A context of bfloat16 autocast if `precision` is `bfloat16`, or `auto` on a GPU that supports it."""
    import torch

    automatic = precision == "auto" and device.type == "cuda"
    enabled = precision == "bfloat16" or (automatic and has_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@cache
def has_bfloat16(device: "torch.device") -> bool:
    """Whether a GPU computes in bfloat16. Older ones (V100, T4) only emulate it, slower than float32, and torch's own
    answer counts that as support."""
    import torch

    if torch.version.hip:
        return torch.cuda.is_bf16_supported()
    return torch.cuda.get_device_capability(device) >= (8, 0)


def precision_warning(model: "nn.Module", device: "torch.device", precision: str) -> str:
    """A line about a precision that makes this model slow on this GPU, with the fix; empty if there is none."""
    import torch

    if device.type != "cuda" or torch.version.hip:
        return ""
    if precision == "bfloat16" and not has_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        return f"precision=bfloat16: {name} only emulates bfloat16, slower than float32: set precision=float32"
    half = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    version = torch.backends.cudnn.version() or 0
    if half and avoids_cudnn(torch.__version__, version) and contiguous_conv3d(model):
        return (
            f"torch {torch.__version__} with cuDNN {version} computes bfloat16 3D convolutions slowly and in much more "
            f"memory: install torch 2.10 or newer, or nvidia-cudnn 9.15 or newer, or set precision=float32"
        )
    return ""


def avoids_cudnn(torch_version: str, cudnn_version: int) -> bool:
    """Whether torch computes half-precision 3D convolutions without cuDNN (pytorch/pytorch#166643).

    cuDNN 9.8 to 9.14 gets some of them wrong. torch 2.9.0 therefore avoids every cuDNN since 9.8, later versions those
    up to 9.14. Both do so only for tensors that are contiguous: channels last escapes it.
    """
    release = tuple(int(x) for x in re.findall(r"[0-9]+", torch_version)[:3])
    first, mended = CUDNN_BYPASS
    return release >= (2, 9) and first <= cudnn_version and (release[:3] == (2, 9, 0) or cudnn_version < mended)


def contiguous_conv3d(model: "nn.Module") -> bool:
    """Whether a model has 3D convolutions, larger than one pixel, whose weights are not in channels last."""
    import torch
    from torch import nn

    return any(
        part.weight[0, 0].numel() > 1 and not part.weight.is_contiguous(memory_format=torch.channels_last_3d)
        for part in model.modules()
        if isinstance(part, nn.Conv3d)
    )
