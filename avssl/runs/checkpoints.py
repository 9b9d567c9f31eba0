"""Checkpoints of a run as one state, whatever the number of processes that wrote them."""

from itertools import chain
from pathlib import Path

from ..core.checkpoint_store import FOLDER, MANIFEST, STATE, State, damage, name_of, read_manifest, steps_of
from ..core.errors import UserError
from ..train.checkpoint_state import checkpoint_errors, load_parts, load_state, tables_of


def load_run_state(folder: Path) -> State:
    """The newest undamaged checkpoint of a run, with the parts of all its processes joined.

    Raises:
        UserError: there is no checkpoint, or all are damaged.
    """
    steps = steps_of(folder / FOLDER)
    if not steps:
        raise UserError(f"there is no checkpoint in {folder / FOLDER}: train the run first")
    problem: str | None = ""
    for step in reversed(steps):
        path = folder / FOLDER / name_of(step)
        problem = damage(path)
        if problem is None:
            return _join(path)
    raise UserError(f"all checkpoints in {folder / FOLDER} are damaged ({problem}): train the run again")


def load_whole(path: Path) -> State:
    """A checkpoint with the parts of all its processes joined.

    Raises:
        UserError: the checkpoint is damaged, or its parts do not fit together.
    """
    problem = damage(path)
    if problem is not None:
        raise UserError(f"the checkpoint {path} is damaged ({problem})")
    return _join(path)


def _join(path: Path) -> State:
    state = load_state(path)
    if state["processes"] != read_manifest(path)["processes"]:
        raise UserError(
            f"{path / STATE}: it is from {state['processes']} processes, but {MANIFEST} gives another number"
        )
    parts, videos = [*load_parts(path, state["processes"])], state["videos"]["number"]
    if [*chain.from_iterable(part["rows"] for part in parts)] != _joined([p["rows"] for p in parts], videos):
        raise UserError(f"{path}: the rows of its processes do not match its {videos} videos")
    with checkpoint_errors(path):
        tables = tables_of(iter(parts), range(videos))
    if "labeller" in state:
        state["labeller"] |= {name: x for name, x in tables.items() if name.startswith("labels")}
    return state | {"tables": tables, "failures": {k: v for part in parts for k, v in part["failures"].items()}}


def _joined(rows: list[list[int]], videos: int) -> list[int]:
    """The bounds of the processes' rows, flattened, if each process begins where the previous one ends."""
    ends = [stop for _, stop in rows]
    return [*chain.from_iterable(zip([0, *ends[:-1]], [*ends[:-1], videos], strict=True))]
