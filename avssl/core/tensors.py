"""Checkpoint files that somebody else may have written: examined before anything of them is loaded.

torch's own `weights_only=True` runs no code of a file, but believes what it says of sizes: members that unpack to more
than the file, storages larger than their members, one number expanded to 10¹² of them. Those are refused here first.
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
from .untrusted import MOST_DEPTH, check_file, is_count

MOST_PICKLED = 32 << 20
"""Bytes of what a checkpoint holds beside its tensors."""

ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
"""Of the types that plain tensors have."""


OTHERS = [
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "dict")),
    ("collections", "Counter"), ("collections", "defaultdict"), ("torch", "Size"), ("torch", "device"),
]  # fmt: skip
"""Names in the checkpoints of other programs that take no more memory than what they are given."""


class _Unfit(Exception):
    """What is wrong with a file, in a few words."""


def load_tensors(path: str | Path, legacy: bool = False) -> Any:
    """What `torch.save` wrote to a file: tensors on the CPU, numbers, texts, and containers of them.

    With `legacy`, files of torch before 1.6 too, which are no archives.

    Raises:
        FileNotFoundError: there is none.
        UserError: the file is damaged, holds more than data, or would take more memory than its size.
    """
    size = check_file(path)
    try:
        with open(path, "rb") as file:
            archive = file.read(2) == b"PK"
        if archive:
            _check_archive(path, size)
        elif not legacy or zipfile.is_zipfile(path):
            raise _Unfit("it is no archive of torch.save")
        found = torch.load(path, map_location="cpu", weights_only=True)
        _check_loaded(found, size)
        return found
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # pickle, zip and torch errors share no base class
        why = (str(error).splitlines() or [type(error).__name__])[0]
        why = why.partition(" Re-running")[0]  # which advises to load it without safety
        raise UserError(f"{path} is not a checkpoint that can be loaded safely: {why[:300]}") from None


def _check_archive(path: str | Path, size: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
            raise _Unfit("it has compressed members")
        if sum(m.file_size for m in members) > size:
            raise _Unfit("it is larger inside than out")
        pickled = [m for m in members if m.filename.endswith("/data.pkl")]
        if len(pickled) != 1 or pickled[0].file_size > MOST_PICKLED:
            raise _Unfit("it holds no data of torch.save, or too much beside its tensors")
        prefix = pickled[0].filename.removesuffix("data.pkl") + "data/"
        sizes = {m.filename.removeprefix(prefix): m.file_size for m in members if m.filename.startswith(prefix)}
        _Examiner(archive.read(pickled[0]), sizes).load()


class _Other:
    """Stands for an object that has no part in sizes."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    append = extend = add = __setitem__ = lambda self, *args: None


class _Storage:
    """Stands for a storage: its type while it is named, its items once they are counted."""

    def __init__(self, kind: str, items: int = 0):
        self.kind, self.items = kind, items


class _Examiner(pickle._Unpickler):  # type: ignore[name-defined]  # in Python: the one in C believes sizes too
    """Reads the structure of a checkpoint with nothing in the places of its tensors, whose sizes it checks.

    No name of the file is looked up: each stands for something of ours, or is refused.
    """

    def __init__(self, data: bytes, sizes: dict[str, int]):
        super().__init__(io.BytesIO(data))
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in ITEM_BYTES:
            return _Storage(name)
        known: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *args: tensor,
            ("collections", "OrderedDict"): OrderedDict,
            **dict.fromkeys(OTHERS, _Other),
        }
        if (module, name) not in known:
            raise _Unfit(f"it holds {module}.{name}, which is more than data")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        word, kind, key, _, items = pid
        if word != "storage" or not isinstance(kind, _Storage) or not is_count(items):
            raise _Unfit("it holds something else than storages")
        if key not in self.sizes or items * ITEM_BYTES[kind.kind] > self.sizes[key]:
            raise _Unfit("a tensor is larger than what the file holds of it")
        return _Storage(kind.kind, items)

    @staticmethod
    def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Other:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise _Unfit("a tensor without a storage, or of no shape")
        if len(shape) != len(stride) or not all(map(is_count, (offset, *shape, *stride))):
            raise _Unfit("a tensor of no shape")
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if prod(shape) > storage.items or (prod(shape) and last >= storage.items):
            raise _Unfit("a tensor is larger than its storage")
        return _Other()


def _check_loaded(found: Any, size: int) -> None:
    """Plain tensors, together no larger than the file's; containers of bounded depth, none within itself or others of
    its like over and over."""
    level, seen, room, depth = [found], set(), 4 * size + (1 << 20), 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise _Unfit("it is nested too deeply")
        below: list[Any] = []
        for value in level:
            if isinstance(value, torch.Tensor):
                if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
                    raise _Unfit("a tensor is sparse, quantised, or nowhere")
                items = value.numel() * value.element_size()
                room -= items
                if items > value.untyped_storage().nbytes() or room < 0:
                    raise _Unfit("a tensor is larger than its storage")
            elif isinstance(value, dict | list | tuple):
                inner = [*value.values()] if isinstance(value, dict) else value
                nested = [x for x in inner if isinstance(x, dict | list | tuple)]
                if nested and id(value) in seen:
                    raise _Unfit("what it holds is in itself, or there many times")
                seen.add(id(value))
                below += nested
                below += [x for x in inner if isinstance(x, torch.Tensor)]
        level = below
