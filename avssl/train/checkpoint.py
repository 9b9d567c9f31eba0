"""One checkpoint file, replaced atomically, loaded with `weights_only=True`; and the state of random numbers."""

from pathlib import Path
from typing import Any

import torch

from ..atomic import atomic_path
from ..core.tensors import load_tensors
from ..errors import UserError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) so that `path` is always a whole file."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of the random numbers, for a checkpoint."""
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"rng": torch.get_rng_state(), "rng_device": on_device}


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on with the random numbers of a checkpoint that holds `random_state`."""
    torch.set_rng_state(state["rng"])
    if device.type == "cuda" and state["rng_device"] is not None:
        torch.cuda.set_rng_state(state["rng_device"], device)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU. UserError where it is missing, damaged, or holds more than data."""
    try:
        found = load_tensors(path)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}: has `avssl train` run there?") from None
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} cannot be read: it holds no state of a training")
    return found
