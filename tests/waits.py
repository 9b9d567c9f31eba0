"""Count what would wait for a GPU: values that a function reads from tensors of the device.

Without a GPU, the tensors that are marked stand for those of the device, and what is computed from them is marked too.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "_unique2", "unique_consecutive", "unique_dim",
         "is_nonzero", "equal", "bincount")  # fmt: skip
"""Operators whose result, or its shape, is a value on the device."""


class Waits(TorchDispatchMode):
    """A context that counts, in `found`, the operators that read a marked tensor."""

    def __init__(self, *marked: torch.Tensor):
        super().__init__()
        self.marked = WeakTensorKeyDictionary()
        self.found: Counter[str] = Counter()
        self.mark(*marked)

    def mark(self, *tensors: torch.Tensor) -> None:
        for x in tensors:
            self.marked[x] = True

    def is_marked(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor) and x in self.marked

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = tree_leaves((args, kwargs or {}))
        marked = any(map(self.is_marked, inputs))
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in tree_leaves(args[1])
        )
        if marked and (name in READS or by_mask):
            self.found[name] += 1
        result = func(*args, **(kwargs or {}))
        if marked:
            self.mark(*(x for x in tree_leaves(result) if isinstance(x, torch.Tensor)))
        return result

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also count the methods that read a tensor without an operator."""
        for name in ("tolist", "numpy", "cpu"):
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(x: torch.Tensor, *args: Any, **options: Any) -> Any:
            self.found[name] += self.is_marked(x)
            return method(x, *args, **options)

        return counted
