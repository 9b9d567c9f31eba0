"""The files of a checkpoint, which are untrusted: they are checked as they are opened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.checkpoint_file import load_checkpoint
from ..core.checkpoint_store import STATE, State, part_of
from ..core.errors import UserError
from ..core.untrusted import LARGEST, field, is_count


def tensor_of(dims: int | None = None, floating: bool | None = None) -> Callable[[Any], bool]:
    """A test for tensors with `dims` dimensions, of floats (`floating=True`) or of integers; None: not tested."""

    def fits(value: Any) -> bool:
        if not isinstance(value, torch.Tensor) or value.is_complex():
            return False
        if floating is False and value.dtype is torch.bool:
            return False
        return (dims is None or value.ndim == dims) and (floating is None or value.is_floating_point() == floating)

    return fits


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and tensor_of()(x) for k, x in value.items())


def _is_state_dict(value: Any) -> bool:
    return _is_named(value) and all(x.numel() for x in value.values())


def _are_weights(value: Any) -> bool:
    """Whether this is a weight of at least 0 for each head, [H] by modality."""
    return (
        _is_named(value)
        and len(value) > 0
        and all(tensor_of(1, True)(x) and bool((x >= 0).all() and x.isfinite().all()) for x in value.values())
    )


def _is_normaliser(value: Any) -> bool:
    return tensor_of(4, True)(value) and bool((value > 0).all() and value.isfinite().all())


def _is_positive(value: Any) -> bool:
    return is_count(value) and 0 < value < LARGEST


def check_state(state: Any, path: Path) -> dict[str, Any]:
    """Check the part of a checkpoint that all processes share, and return it.

    Raises:
        UserError: a field of the file `path` is missing or invalid; the message names both.
    """
    field(state, "step", is_count, path)
    field(state, "model", _is_state_dict, path)
    field(field(state, "optimizer", dict, path), "param_groups", list, path)
    field(state["optimizer"], "state", dict, path)
    field(field(state, "videos", dict, path), "number", _is_positive, path)
    field(state["videos"], "digest", str, path)
    field(state, "processes", _is_positive, path)
    for name in ("batch", "begun"):
        if name in state:
            field(state, name, _is_positive, path)
    if "teacher" in state:
        field(state, "teacher", _is_state_dict, path)
    if "contrast_queue" in state:
        queue = field(state, "contrast_queue", dict, path)
        field(queue, "keys", tensor_of(3, True), path)
        field(queue, "videos", tensor_of(1, False), path)
        field(queue, "next", is_count, path)
    if "contrast_normaliser" in state:
        field(state, "contrast_normaliser", _is_normaliser, path)
    if "labeller" in state:
        labeller = field(state, "labeller", dict, path)
        field(labeller, "costs", tensor_of(1, True), path)
        field(labeller, "done", is_count, path)
        if "modality_weights" in labeller:
            field(labeller, "modality_weights", _are_weights, path)
        for name in ("marginals", "log_alpha"):
            if name in labeller:
                field(labeller, name, tensor_of(2, True), path)
    for name in ("memory", "distillation"):
        if name in state:
            field(state, name, dict, path)
    return state


def check_part(part: Any, path: Path) -> dict[str, Any]:
    """Check the part of a checkpoint that belongs to one process, and return it. Raises UserError, as `check_state`
    does."""

    def are_rows(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(map(is_count, value)) and value[0] <= value[1]

    def are_failures(value: Any) -> bool:
        return isinstance(value, dict) and all(isinstance(x, str) for pair in value.items() for x in pair)

    start, stop = field(part, "rows", are_rows, path)
    for name, table in field(part, "tables", _is_named, path).items():
        if table.ndim < 1 or len(table) != stop - start:
            raise UserError(
                f"{path}: tables: {name} has the shape {list(table.shape)}, but the part has {stop - start} rows"
            )
    field(part, "failures", are_failures, path)
    field(part, "rng", lambda x: tensor_of(1)(x) and x.dtype is torch.uint8, path)
    field(part, "rng_device", lambda x: x is None or (tensor_of(1)(x) and x.dtype is torch.uint8), path)
    return part


def check_tables(tables: dict[str, torch.Tensor], clusters: int, widths: dict[str, int]) -> None:
    """Raise ValueError for labels outside the clusters, or features whose width is not in `widths` (by modality)."""
    for name, table in tables.items():
        if name.startswith("labels") and table.numel() and not (table.min() >= -1 and table.max() < clusters):
            raise ValueError(f"{name} has a label outside the {clusters} clusters")
        if name.startswith("labels") and (table.is_floating_point() or table.dtype is torch.bool):
            raise ValueError(f"{name} are {table.dtype}, not numbers of clusters")
        if name.startswith("bank_") and (table.ndim != 2 or table.shape[1] != widths.get(name.removeprefix("bank_"))):
            raise ValueError(f"{name} has the shape {list(table.shape)}")
        if name == "plan" and (table.ndim != 3 or table.shape[2] != clusters or not table.is_floating_point()):
            raise ValueError(f"plan has the shape {list(table.shape)}, but there are {clusters} clusters")
        if name == "seen" and (table.ndim != 1 or table.dtype is not torch.bool):
            raise ValueError("seen is not a mask")


def check_queue(state: dict[str, Any], videos: int, widths: dict[str, int]) -> None:
    """Raise ValueError for a queue that does not fit an index of `videos` rows, or encoders of these `widths`."""
    if "index" not in state.get("memory", {}):
        return
    index, features = state["memory"]["index"], state["memory"].get("features")
    in_range = tensor_of(1, False)(index) and (not len(index) or (index.min() >= -1 and index.max() < videos))
    if not in_range or not _is_named(features) or (len(index) and not features):
        raise ValueError("the queue contains videos that are not in the index")
    for name, x in features.items():
        if x.shape != (len(index), widths.get(name)) or not x.is_floating_point():
            raise ValueError(f"the queue's features of {name} have the shape {list(x.shape)}")


def check_numbers(module: nn.Module, what: str) -> None:
    """Raise ValueError for weights of `what` that are NaN or infinite, or statistics that are NaN.

    A run does not save any: its loss is checked. Masks among the buffers may be infinite.
    """
    wrong = [name for name, x in module.named_parameters() if not x.isfinite().all()]
    wrong += [name for name, x in module.named_buffers() if x.isnan().any()]
    if wrong:
        raise ValueError(f"{what} has values that are no numbers in {wrong[0]}")


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state, but keep its options, because a resumed run has the options that it began with.

    Raises:
        ValueError: the state belongs to other parameters.
    """
    options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, configured in zip(optimizer.param_groups, options, strict=True):
        group.update(configured)
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if not isinstance(value, torch.Tensor) or (value.ndim and value.shape != parameter.shape):
                    raise ValueError(f"{name} of the optimiser does not have its parameter's shape")


@contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Turn any error from a checkpoint that does not fit the model or the options into a UserError."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"the checkpoint {path} does not fit this run ({why}): start a new run with another out=…"
        ) from None


def load_state(path: Path) -> State:
    """The part of a checkpoint that all processes share."""
    return check_state(load_checkpoint(path / STATE), path / STATE)


def load_part(path: Path, number: int) -> State:
    """The part of a checkpoint that belongs to process `number`."""
    return check_part(load_checkpoint(path / part_of(number)), path / part_of(number))


def load_parts(path: Path, processes: int) -> Iterator[State]:
    """Yield the parts of a checkpoint that belong to its processes."""
    return (load_part(path, number) for number in range(processes))


def tables_of(parts: Iterator[State], rows: range) -> dict[str, torch.Tensor]:
    """The rows `rows` of the tables of all processes, by name, from parts `{"rows": [start, stop], "tables": {…}}`."""
    slices: dict[str, list[torch.Tensor]] = {}
    for part in parts:
        start, stop = part["rows"]
        overlap = slice(max(rows.start, start) - start, max(0, min(rows.stop, stop) - start))
        for name, table in part["tables"].items():
            slices.setdefault(name, []).append(table[overlap])
    return {name: torch.cat(tables) for name, tables in slices.items()}


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of torch's random generators, for a checkpoint."""
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"rng": torch.get_rng_state(), "rng_device": on_device}


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore torch's random generators from `random_state` in a checkpoint."""
    torch.set_rng_state(state["rng"])
    if device.type == "cuda" and state["rng_device"] is not None:
        torch.cuda.set_rng_state(state["rng_device"], device)
