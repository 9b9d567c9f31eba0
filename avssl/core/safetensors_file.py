"""Untrusted safetensors files: the header is checked before a tensor is created."""

import struct
from math import prod
from pathlib import Path
from typing import Any

import torch

from .errors import UserError
from .untrusted import check_file, is_count, parse_json

MAX_HEADER = 64 << 20
"""Largest header, in bytes; a model of 100,000 tensors has 15 MB."""

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def load_safetensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a file by name, on the CPU, and the texts of its metadata.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is damaged, or has a tensor that is larger than its data or of an unexpected type.
    """
    size = check_file(path)
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if not 2 <= length <= min(size - 8, MAX_HEADER):
                raise ValueError("its header is longer than the file")
            header = parse_json(file.read(length).decode(), 40 * 100_000)
            data = bytearray(file.read())
        if not isinstance(header, dict):
            raise ValueError("its header is not an object")
        metadata = header.pop("__metadata__", None) or {}
        tensors = {name: _tensor(name, entry, data) for name, entry in header.items()}
        if sum(x.numel() * x.element_size() for x in tensors.values()) > len(data):
            raise ValueError("its tensors overlap")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} is not a valid safetensors file: {str(error)[:200]}") from None
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return tensors, {k: v for k, v in texts if isinstance(v, str)}


def _tensor(name: str, entry: Any, data: bytearray) -> torch.Tensor:
    dtype, shape, (begin, end) = DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
    if dtype is None:
        raise ValueError(f"{name[:60]} has the type {str(entry['dtype'])[:20]}")
    if not isinstance(shape, list) or not all(map(is_count, [*shape, begin, end])) or end > len(data):
        raise ValueError(f"{name[:60]} has no valid shape, or lies outside the file")
    if prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"{name[:60]} is larger or smaller than its data")
    if not prod(shape):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=prod(shape), offset=begin).reshape(shape)
