"""Copies between the host and the device that nothing waits for."""

from functools import lru_cache

import torch


def to_device(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`x` on `device`. A copy to a GPU waits in its stream, through pinned memory, and this process continues."""
    if device.type == "cuda" and x.device.type == "cpu":
        return (x if x.is_pinned() else x.pin_memory()).to(device, non_blocking=True)
    return x.to(device)


@lru_cache(64)
def constant(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Numbers on a device, int64 [n]. They are sent there once, because a step sends its batch alone. Do not change
    them."""
    return torch.tensor(values, dtype=torch.int64).to(device)


def start_to_host(x: torch.Tensor) -> torch.Tensor:
    """`x` on the CPU, in pinned memory. From a GPU it is complete after `finish`."""
    return x.to("cpu", non_blocking=x.device.type == "cuda")


def finish(device: torch.device) -> None:
    """Wait until the device has computed and sent everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Rows:
    """Rows that a device computes in parts, float32 [n, D], collected without waiting for it.

    They stay on a GPU if they take less than a quarter of its free memory, or else go to pinned memory.

    Args:
        most: the largest number of rows.
        width: D.
        device: where they are computed.
    """

    def __init__(self, most: int, width: int, device: torch.device):
        self.count, self.device = 0, device
        on_gpu = device.type == "cuda"
        fits = on_gpu and 4 * most * width < torch.cuda.mem_get_info(device)[0] // 4
        self.table = torch.empty(most, width, device=device if fits else "cpu", pin_memory=on_gpu and not fits)

    def add(self, x: torch.Tensor) -> None:
        """Append the rows x, [b, D]."""
        self.table[self.count : self.count + len(x)].copy_(x, non_blocking=True)
        self.count += len(x)

    def whole(self) -> torch.Tensor:
        """All rows that were added; waits for the device."""
        finish(self.device)
        return self.table[: self.count]
