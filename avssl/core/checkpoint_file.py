"""One checkpoint file: written atomically, loaded with `weights_only=True`; and a digest of a model's weights."""

import hashlib
import os
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from .atomic import atomic_path
from .errors import UserError
from .tensors import load_tensors


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) so that `path` is always a complete file."""
    with atomic_path(path) as temporary:
        save_hashed(temporary, state)


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]):
        self.file, self.digest, self.bytes = file, hashlib.sha256(), 0
        self.error: OSError | None = None
        """The error that occurred; torch replaces it by one without the reason."""

    def write(self, data: bytes) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def save_hashed(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Write `state` to a file, sync it to the disk, and return its "bytes" and "sha256". Raises OSError."""
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save(state, hashing)  # type: ignore[arg-type]
        except (RuntimeError, OSError) as error:
            raise hashing.error or error from None
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": hashing.bytes, "sha256": hashing.digest.hexdigest()}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the file `path`, on the CPU. Raises UserError if it is missing, damaged, or contains code."""
    try:
        state = load_tensors(path)
    except FileNotFoundError:
        raise UserError(
            f"the checkpoint {path} does not exist: give a run of `avssl train`, or one of its checkpoints"
        ) from None
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a checkpoint of a run")
    return state


def digest(model: nn.Module) -> str:
    """The SHA-256 of the names and values of a model's weights."""
    sha256 = hashlib.sha256()
    for name, value in model.state_dict().items():
        sha256.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha256.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return sha256.hexdigest()


def file_sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
