"""Finds the run that a word means: a run folder, the name of a run, or the name or folder of its training videos.

This file composes no config and does not import torch, because the command line calls it before anything else.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.printable import is_first_process, one_line
from ..core.untrusted import is_number, read_json, read_text, read_yaml
from ..core.verbosity import is_quiet
from .option import nearest, shown

RUNS = Path("runs")
"""The folder where `avssl train` makes run folders."""

CONFIG = "config.yaml"

DEPTH = 3
"""Levels below the folder of runs at which run folders are looked for."""

NEAREST_OF = 50
"""Newest runs whose data sets are suggested for a name that no run has."""


def is_run(folder: str | Path) -> bool:
    """Whether the folder is a run folder."""
    return os.path.isfile(os.path.join(folder, CONFIG))


def resolve_run(word: str, runs: Path = RUNS) -> Path:
    """The run folder that a word means.

    Args:
        word: a run folder; or the name of a run in `runs`; or the name of a data set or the folder of its videos, for
            its newest run in `runs`; or an empty text, for the newest run of all.
        runs: the folder of run folders.

    Raises:
        UserError: there is no such run.
    """
    if word and is_run(word):
        return Path(word)
    found = newest_first(runs)
    if not word:
        if not found:
            raise UserError(f"no run in {runs}: train one first, with `avssl train my_videos`, or give a run folder")
        return found[0]
    if not os.path.isabs(word) and is_run(runs / word):
        return runs / word
    for folder in found:
        if _learned_from(folder, word):
            return folder
    raise UserError(_no_run(word, runs, found))


def announce_run(folder: Path) -> None:
    """Print on standard error which run a command uses, if the user did not give its folder."""
    import sys

    if not is_quiet() and is_first_process():
        print(f"run: {one_line(folder)}", file=sys.stderr, flush=True)


def newest_first(runs: Path = RUNS) -> list[Path]:
    """The run folders in `runs`, by their last sign of life: the time in status.json, else of the config's file."""
    return sorted(_runs_below(runs, DEPTH), key=_time, reverse=True)


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return
    for path in map(Path, below):
        if is_run(path):
            yield path
        elif depth > 1:
            yield from _runs_below(path, depth - 1)


def _time(folder: Path) -> float:
    try:
        status = read_json(folder / "status.json")
        time: Any = status.get("time") if isinstance(status, dict) else None
        if is_number(time) and 0 < time < 1e11:
            return float(time)
    except (OSError, UserError):
        pass
    try:
        return (folder / CONFIG).stat().st_mtime
    except OSError:
        return 0.0


def _learned_from(folder: Path, word: str) -> bool:
    """Whether the run in `folder` was trained on the data set of this name, or on the videos in this folder."""
    names = {os.path.basename(os.path.normpath(word)), os.path.basename(os.path.realpath(word))}
    try:
        text = read_text(folder / CONFIG)
        # most configs do not contain the words of the name, so they need not be parsed
        if not any(all(part in text for part in re.findall(r"[a-zA-Z0-9_]+", name)) for name in names):
            return False
        name, root = data_of(folder)
    except (OSError, UserError):
        return False
    return name in names or bool(root and os.path.isdir(word) and os.path.realpath(root) == os.path.realpath(word))


def data_of(folder: Path) -> tuple[str, str]:
    """The name of the data set of a run, and the folder of its videos; empty if its config has none.

    Raises:
        OSError, UserError: the config cannot be read.
    """
    data = read_yaml(folder / CONFIG).get("data")
    data = data if isinstance(data, dict) else {}
    name, root = data.get("name"), data.get("root")
    return "" if name is None else str(name), "" if root is None else str(root)


def _no_run(word: str, runs: Path, found: list[Path]) -> str:
    text = one_line(shown(word, 300))
    if os.path.isdir(word):
        return f"{text} is not a run folder (no {CONFIG}), and no run in {runs} was trained on it: `avssl train {text}`"
    names: dict[str, None] = {}
    for folder in found[:NEAREST_OF]:
        try:
            names |= dict.fromkeys([folder.name, data_of(folder)[0]])
        except (OSError, UserError):
            continue
    if close := nearest(os.path.basename(os.path.normpath(word)), [name for name in names if name]):
        return f"{text} is not a run folder, and no run in {runs} has this name{close}"
    return (
        f"{text} is not a run folder, and no run in {runs} has this name: give the folder that `avssl train` wrote "
        "(`avssl runs` lists them)"
    )


def word_for(folder: Path, runs: Path = RUNS) -> str:
    """The shortest word by which a user can name a run: the name of its data set, if that means this run."""
    try:
        name = data_of(folder)[0]
        if name and os.path.samefile(resolve_run(name, runs), folder):
            return shlex.quote(name)
    except (OSError, UserError):
        pass
    return shlex.quote(str(folder))
