"""Copies from the host to the device that nothing waits for."""

import torch


def to_device(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`x` on `device`. A copy to a GPU waits in its stream, through pinned memory, and this process continues."""
    if device.type == "cuda" and x.device.type == "cpu":
        return (x if x.is_pinned() else x.pin_memory()).to(device, non_blocking=True)
    return x.to(device)
