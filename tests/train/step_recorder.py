"""A device that is not there, which records what a training step asks of the host.

`DeviceTensor`s hold their values in the memory of the CPU but say that they are on `cuda:0`, so that everything that
avssl does for a GPU happens, with real values. What would make the host wait for a GPU is counted, with the line of
avssl that asked for it:

- read: a value, or a shape that depends on values, goes to the host (item, tolist, bool, cpu, nonzero, boolean masks)
- pageable: memory that is not pinned is copied to the device
- copy: pinned memory is copied to the device, which the host does not wait for
- collective: an exchange between processes that the host waits for
- wait: an event, or an exchange, of less than a step ago is waited for
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.train.norm_kernels import KERNELS

DEVICE = torch.device("cuda:0")
WAITING = ("read", "pageable", "collective", "wait")
"""What a step must not do."""

ROOT = Path(__file__).parents[2]
aten = torch.ops.aten
DATA_DEPENDENT = {
    "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "equal",
    "_local_scalar_dense", "is_nonzero", "argwhere", "nonzero_numpy", "repeat_interleave",
}  # fmt: skip
"""Operations whose result on a GPU the host must know before it can go on."""


class DeviceTensor(torch.Tensor):
    """A tensor that says it is on the device; `inner` holds its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "DeviceTensor":
        # C++ takes it for one on "meta", which needs no driver
        self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device="meta",
        )  # fmt: skip
        self.inner = inner
        return self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a DeviceTensor outside its recorder")


class Recorder(TorchDispatchMode):
    """Computes on `DeviceTensor`s, and counts what would make the host wait, in `counts`: (kind, line) → number."""

    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # torch then does not look for a driver
        self.counts: Counter[tuple[str, str]] = Counter()
        self.pinned: set[int] = set()
        self.held: list[torch.Tensor] = []  # so that no other tensor gets the address of a pinned one
        self.now = 0.0
        """The time, in steps. The test moves it on."""

    def early(self, since: float) -> bool:
        """Whether the device has had less than a whole step of further work since a time."""
        return self.now - since < 0.99

    def note(self, kind: str, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if f.filename.startswith(str(ROOT / "avssl"))]
        where = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}" if frames else "torch"
        self.counts[kind, f"{what} in {where}"] += 1

    def total(self, *kinds: str) -> int:
        return sum(number for (kind, _), number in self.counts.items() if kind in kinds)

    def describe(self, *kinds: str) -> str:
        return "\n".join(f"{n:3} {kind}: {what}" for (kind, what), n in sorted(self.counts.items()) if kind in kinds)

    def pin(self, x: torch.Tensor) -> torch.Tensor:
        copy = x.clone()
        self.held.append(copy)
        self.pinned.add(copy.untyped_storage().data_ptr())
        return copy

    def is_pinned(self, x: torch.Tensor) -> bool:
        return type(x) is torch.Tensor and x.untyped_storage().data_ptr() in self.pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        wrappers: dict[int, DeviceTensor] = {}

        def unwrapped(x: Any) -> Any:
            if isinstance(x, DeviceTensor):
                wrappers[id(x.inner)] = x
                return x.inner
            return x

        values, options = tree_map(unwrapped, (args, kwargs))
        asked = kwargs.get("device")
        on_device = bool(wrappers) if asked is None else torch.device(asked).type in ("cuda", "meta")
        if asked is not None:
            options["device"] = torch.device("cpu")
        pin = options.pop("pin_memory", None)
        if wrappers or on_device:
            self._watch(name, args, kwargs, bool(wrappers), on_device)
        result = KERNELS.get(name, func)(*values, **options)
        if torch.Tag.inplace_view in func.tags and wrappers:
            with no_dispatch():
                func(*args, **kwargs)  # the shape that the wrapper shows changes too
        if not isinstance(result, torch.Tensor | tuple | list):
            return result
        if pin or (name == "_to_copy" and wrappers and not on_device and kwargs.get("non_blocking")):
            result = self.pin(result)  # torch's non-blocking copies to the host are pinned
        if not on_device:
            return result

        def wrapped(x: Any) -> Any:
            if not isinstance(x, torch.Tensor):
                return x
            return wrappers[id(x)] if id(x) in wrappers else DeviceTensor(x)

        return tree_map(wrapped, result)

    def _watch(self, name: str, args: Any, kwargs: Any, reads: bool, on_device: bool) -> None:
        if name == "_to_copy":
            if reads and not on_device and not kwargs.get("non_blocking"):
                self.note("read", "to")
            if on_device and not reads:
                self._copied(args[0], bool(kwargs.get("non_blocking")))
        elif name == "copy_":
            target, source = args[:2]
            blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            if isinstance(target, DeviceTensor) and type(source) is torch.Tensor and source.ndim:
                self._copied(source, not blocking)
            to_host = isinstance(source, DeviceTensor) and type(target) is torch.Tensor
            if to_host and (blocking or not self.is_pinned(target)):
                self.note("read", "copy_")
        elif name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            self._indexed(args)
        elif name in DATA_DEPENDENT and reads and not (name == "repeat_interleave" and "output_size" in kwargs):
            self.note("read", name)
        elif reads:
            self._mixed(name, args)

    def _copied(self, source: torch.Tensor, non_blocking: bool) -> None:
        pinned = self.is_pinned(source) and non_blocking
        self.note("copy" if pinned else "pageable", f"{source.numel() * source.element_size()} bytes")

    def _indexed(self, args: Any) -> None:
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                self.note("read", "boolean mask")
            elif type(index) is torch.Tensor and isinstance(args[0], DeviceTensor):
                self.note("pageable", "an index on the CPU")

    def _mixed(self, name: str, args: Any) -> None:
        flat = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else [arg])]
        if any(type(x) is torch.Tensor and x.ndim for x in flat):
            raise RuntimeError(f"{name} of tensors on the CPU and on the device")


class _Event:
    """A CUDA event that is done once the device has had a whole step of further work."""

    def __init__(self, recorder: Recorder):
        self.recorder, self.at = recorder, -2.0

    def record(self, *_: Any) -> None:
        self.at = self.recorder.now

    def query(self) -> bool:
        return not self.recorder.early(self.at)

    def synchronize(self) -> None:
        if self.recorder.early(self.at):
            self.recorder.note("wait", "event")


class _Work:
    """An exchange that runs beside the step."""

    def __init__(self, recorder: Recorder, on_host: bool):
        self.recorder, self.on_host, self.at = recorder, on_host, recorder.now

    def wait(self) -> None:
        if self.on_host and self.recorder.early(self.at):
            self.recorder.note("wait", "exchange")

    def is_completed(self) -> bool:
        return not self.recorder.early(self.at)


@contextmanager
def device_recorder(processes: int = 1) -> Iterator[Recorder]:
    """A context in which `cuda:0` exists, as a `Recorder`; the other of two `processes` has the values of this one."""
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        made = torch.tensor

        def tensor(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
            if device is None or torch.device(device).type != "cuda":
                return made(data, *args, device=device, **kwargs)
            return made(data, *args, **kwargs).to(DEVICE)

        patch.setattr(torch, "tensor", tensor)
        patch.setattr(torch.Tensor, "pin_memory", lambda x, *_: recorder.pin(x))
        patch.setattr(torch.Tensor, "tolist", _tolist(recorder, torch.Tensor.tolist))
        patch.setattr(torch.Tensor, "is_pinned", lambda x, *_: recorder.is_pinned(x))
        patch.setattr(torch.cuda, "Event", lambda *_, **__: _Event(recorder))
        patch.setattr(torch.cuda, "synchronize", lambda *_: recorder.note("wait", "synchronize"))
        patch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.zeros(8, dtype=torch.uint8))
        patch.setattr(torch.cuda, "current_stream", lambda *_: None)
        patch.setattr(torch.cuda, "device", lambda *_: ExitStack())
        if processes > 1:
            _processes(recorder, patch, processes)
        stack.enter_context(recorder)
        yield recorder


def _tolist(recorder: Recorder, original: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    def tolist(x: torch.Tensor) -> Any:
        if not isinstance(x, DeviceTensor):
            return original(x)
        recorder.note("read", "tolist")
        return x.inner.tolist()

    return tolist


def _processes(recorder: Recorder, patch: pytest.MonkeyPatch, processes: int) -> None:
    def exchange(what: str, copies: Callable[..., None]) -> Callable[..., Any]:
        def called(*args: Any, async_op: bool = False, **kwargs: Any) -> Any:
            copies(*args)
            host = not any(isinstance(x, DeviceTensor) for x in tree_leaves(args))
            if host and not async_op:
                recorder.note("collective", what)
            return _Work(recorder, host) if async_op else None

        return called

    def gathered(parts: list[torch.Tensor], x: torch.Tensor, *_: Any) -> None:
        for part in parts:
            part.copy_(x)

    def joined(out: torch.Tensor, x: torch.Tensor, *_: Any) -> None:
        out.view(processes, -1).copy_(x.reshape(1, -1).expand(processes, -1))

    def objects(parts: list[Any], x: Any, *_: Any) -> None:
        parts[:] = [x] * processes

    patch.setattr(dist, "is_initialized", lambda: True)
    patch.setattr(dist, "get_world_size", lambda *_: processes)
    patch.setattr(dist, "get_rank", lambda *_: 0)
    patch.setattr(dist, "new_group", lambda *_, **__: None)
    patch.setattr(dist, "barrier", exchange("barrier", lambda *_: None))
    patch.setattr(dist, "all_reduce", exchange("all_reduce", lambda *_: None))
    patch.setattr(dist, "broadcast", exchange("broadcast", lambda *_: None))
    patch.setattr(dist, "all_gather", exchange("all_gather", gathered))
    for name in ("all_gather_into_tensor", "all_gather_single"):  # one function, whose name torch changes
        patch.setattr(dist, name, exchange(name, joined), raising=False)
    patch.setattr(dist, "all_gather_object", exchange("all_gather_object", objects))
    world = SimpleNamespace(_get_backend_name=lambda: "nccl")
    patch.setattr(dist, "group", SimpleNamespace(WORLD=world))
    patch.setattr("avssl.train.run_state.DistributedDataParallel", _Parallel)


class _Parallel(nn.Module):
    """DistributedDataParallel without its exchange of gradients, which is torch's, and NCCL's own."""

    def __init__(self, module: nn.Module, **_: Any):
        super().__init__()
        self.module, self.require_backward_grad_sync = module, True

    def forward(self, *args: Any) -> Any:
        return self.module(*args)
