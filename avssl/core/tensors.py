"""Untrusted checkpoint files, examined before they are loaded.

torch's `weights_only=True` runs no code from a file, but it trusts the sizes in it: members that unpack to more than
the file, storages larger than their members, one number expanded to 10¹² numbers. This file rejects those beforehand.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from math import prod
from pathlib import Path
from typing import Any

import torch

from .errors import UserError
from .untrusted import MAX_DEPTH, check_file, is_count

MAX_PICKLED_BYTES = 32 << 20
"""Largest part of a checkpoint that is not tensors."""

ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
"""Bytes of an item of each type that plain tensors have."""

HARMLESS = [
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "dict")),
    ("collections", "Counter"), ("collections", "defaultdict"), ("torch", "Size"), ("torch", "device"),
]  # fmt: skip
"""Further types that checkpoints of other programs contain; they take no more memory than their arguments."""


class _Unfit(Exception):
    """A file cannot be loaded safely. The message gives the reason in a few words."""


def load_tensors(path: str | Path, legacy: bool = False) -> Any:
    """The value that `torch.save` wrote to a file: tensors on the CPU, numbers, texts, and containers of them.

    Args:
        path: the file.
        legacy: also accept files of torch before 1.6, which are not zip archives.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is damaged, contains more than data, or would take more memory than its size.
    """
    size = check_file(path)
    try:
        with open(path, "rb") as file:
            archive = file.read(2) == b"PK"
        if archive:
            _check_archive(path, size)
        elif not legacy or zipfile.is_zipfile(path):
            raise _Unfit("it was not written by torch.save")
        value = torch.load(path, map_location="cpu", weights_only=True)
        _check_loaded(value, size)
        return value
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # pickle, zip and torch errors share no base class
        why = (str(error).splitlines() or [type(error).__name__])[0]
        why = why.partition(" Re-running")[0]  # the rest advises loading the file without protection
        raise UserError(f"{path} is not a checkpoint that can be loaded safely: {why[:300]}") from None


def _check_archive(path: str | Path, size: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
            raise _Unfit("it has compressed members")
        if sum(m.file_size for m in members) > size:
            raise _Unfit("it unpacks to more than its size")
        pickled = [m for m in members if m.filename.endswith("/data.pkl")]
        if len(pickled) != 1 or pickled[0].file_size > MAX_PICKLED_BYTES:
            raise _Unfit("it contains no data of torch.save, or too much beside its tensors")
        prefix = pickled[0].filename.removesuffix("data.pkl") + "data/"
        sizes = {m.filename.removeprefix(prefix): m.file_size for m in members if m.filename.startswith(prefix)}
        _Examiner(archive.read(pickled[0]), sizes).load()


class _Other:
    """Replaces an object that does not matter for sizes."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    append = extend = add = __setitem__ = lambda self, *args: None


class _Storage:
    """Replaces a storage: first only its type, then also its number of items."""

    def __init__(self, kind: str, items: int = 0):
        self.kind, self.items = kind, items


class _Examiner(pickle._Unpickler):  # type: ignore[name-defined]  # the one in Python: that in C trusts sizes too
    """Reads the structure of a checkpoint without its tensors, and checks their sizes.

    No name in the file is imported. Each is replaced by one of the classes here, or rejected.
    """

    def __init__(self, data: bytes, sizes: dict[str, int]):
        super().__init__(io.BytesIO(data))
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in ITEM_BYTES:
            return _Storage(name)
        replacements: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *args: tensor,
            ("collections", "OrderedDict"): OrderedDict,
            **dict.fromkeys(HARMLESS, _Other),
        }
        if (module, name) not in replacements:
            raise _Unfit(f"it contains {module}.{name}, which is more than data")
        return replacements[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        word, kind, key, _, items = pid
        if word != "storage" or not isinstance(kind, _Storage) or not is_count(items):
            raise _Unfit("it refers to something other than storages")
        if key not in self.sizes or items * ITEM_BYTES[kind.kind] > self.sizes[key]:
            raise _Unfit("a tensor is larger than its data in the file")
        return _Storage(kind.kind, items)

    @staticmethod
    def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Other:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise _Unfit("a tensor has no storage, or no valid shape")
        if len(shape) != len(stride) or not all(map(is_count, (offset, *shape, *stride))):
            raise _Unfit("a tensor has no valid shape")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if prod(shape) > storage.items or (prod(shape) and last >= storage.items):
            raise _Unfit("a tensor is larger than its storage")
        return _Other()


def _check_loaded(value: Any, size: int) -> None:
    """Raise _Unfit unless tensors are plain and together fit into the file's `size`, containers are not nested too
    deeply, and no container of containers occurs twice."""
    level, seen, room, depth = [value], set(), 4 * size + (1 << 20), 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _Unfit("it is nested too deeply")
        below: list[Any] = []
        for item in level:
            if isinstance(item, torch.Tensor):
                if item.layout is not torch.strided or item.device.type != "cpu" or item.is_quantized:
                    raise _Unfit("a tensor is sparse, quantised, or without data")
                nbytes = item.numel() * item.element_size()
                room -= nbytes
                if nbytes > item.untyped_storage().nbytes() or room < 0:
                    raise _Unfit("a tensor is larger than its storage")
            elif isinstance(item, dict | list | tuple):
                inner = [*item.values()] if isinstance(item, dict) else item
                nested = [x for x in inner if isinstance(x, dict | list | tuple)]
                if nested and id(item) in seen:
                    raise _Unfit("a container contains itself, or occurs many times")
                seen.add(id(item))
                below += nested
                below += [x for x in inner if isinstance(x, torch.Tensor)]
        level = below
