"""The newest checkpoint of a run as one state, whoever made it."""

from itertools import chain
from pathlib import Path

from ..core.checkpoint_store import FOLDER, MANIFEST, STATE, State, damage, name_of, read_manifest, steps_of
from ..core.errors import UserError
from ..train.checkpoint_state import checkpoint_errors, load_parts, load_state, tables_of


def load_run_state(folder: Path) -> State:
    """The newest checkpoint of a run, all its processes' parts joined; tables beside what they belong to.

    UserError where there is none, or none is whole.
    """
    there = steps_of(folder / FOLDER)
    if not there:
        raise UserError(f"no checkpoint in {folder / FOLDER}: has `avssl train` run there?")
    problem: str | None = ""
    for step in reversed(there):
        path = folder / FOLDER / name_of(step)
        problem = damage(path)
        if problem is None:
            return _join(path)
    raise UserError(f"all checkpoints in {folder / FOLDER} are damaged ({problem}): train anew")


def load_whole(path: Path) -> State:
    """A checkpoint, all its processes' parts joined. UserError where it cannot be read, or its parts do not fit."""
    problem = damage(path)
    if problem is not None:
        raise UserError(f"the checkpoint {path} is damaged ({problem})")
    return _join(path)


def _join(path: Path) -> State:
    state = load_state(path)
    if state["processes"] != read_manifest(path)["processes"]:
        raise UserError(f"{path / STATE}: processes is {state['processes']}, and {MANIFEST} has another number")
    parts, videos = [*load_parts(path, state["processes"])], state["videos"]["number"]
    if [*chain.from_iterable(part["rows"] for part in parts)] != _joined([p["rows"] for p in parts], videos):
        raise UserError(f"{path}: the rows of its processes are not those of its {videos} videos")
    with checkpoint_errors(path):
        tables = tables_of(iter(parts), range(videos))
    if "labeller" in state:
        state["labeller"] |= {name: x for name, x in tables.items() if name.startswith("labels")}
    return state | {"tables": tables, "failures": {k: v for part in parts for k, v in part["failures"].items()}}


def _joined(rows: list[list[int]], videos: int) -> list[int]:
    """The bounds that the rows of processes have where each begins at the end of the one before."""
    ends = [stop for _, stop in rows]
    return [*chain.from_iterable(zip([0, *ends[:-1]], [*ends[:-1], videos], strict=True))]
