"""Finds the run that a word means: a run folder, the name of a run, or the name or folder of its training videos.

This file composes no config and does not import torch, because the command line calls it before anything else.
"""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
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


MOST = 50
"""Newest runs on a data set that its name may mean."""


@dataclass(frozen=True)
class Wish:
    """What a command wants of a run, if a word may mean several. A run that lacks it is taken if all do."""

    file: str = ""
    """A file in the run's folder; empty: a run that is finished."""
    any: bool = False
    """Whether the newest run will do, finished or not."""
    names: str = ""
    """A names.json: the run whose clusters it names comes before others. Empty: none."""

    def fits(self, folder: Path) -> bool:
        return self.any or ((folder / self.file).is_file() if self.file else _is_finished(folder))


@dataclass(frozen=True)
class Chosen:
    """A run, and in `note` why it was chosen among others; empty if there was no choice."""

    folder: Path
    note: str = ""


def is_run(folder: str | Path) -> bool:
    """Whether the folder is a run folder."""
    return os.path.isfile(os.path.join(folder, CONFIG))


def resolve_run(word: str, runs: Path = RUNS, wish: Wish = Wish()) -> Path:
    """The run folder that a word means; the arguments and errors are those of `choose_run`."""
    return choose_run(word, runs, wish).folder


def choose_run(word: str, runs: Path = RUNS, wish: Wish = Wish()) -> Chosen:
    """The run that a word means.

    Args:
        word: a run folder; or the name of a run in `runs`; or the name of a data set or the folder of its videos, for
            its newest run in `runs`; or an empty text, for the newest run of all.
        runs: the folder of run folders.
        wish: what the run should have, where a word may mean several.

    Raises:
        UserError: there is no such run.
    """
    if word and is_run(word):
        return Chosen(Path(word))
    found = newest_first(runs)
    if not word:
        if not found:
            raise UserError(f"no run in {runs}: train one first, with `avssl train my_videos`, or give a run folder")
        return _chosen(found, "", wish)
    if not os.path.isabs(word) and is_run(runs / word):
        return Chosen(runs / word)
    if on_videos := [*islice((folder for folder in found if _learned_from(folder, word)), MOST)]:
        return _chosen(on_videos, f" on {one_line(shown(os.path.basename(os.path.normpath(word))))}", wish)
    raise UserError(_no_run(word, runs, found))


def _chosen(found: list[Path], on: str, wish: Wish) -> Chosen:
    """The newest of several runs that has what is wished; that whose clusters a names.json names comes first."""
    newest, number = found[0], f"{len(found)}{' or more' * (len(found) == MOST)}"
    default = next((folder for folder in found if wish.fits(folder)), newest)
    named = _named_in(wish.names, found) if wish.names and len(found) > 1 else None
    if named is not None and named != default:
        return Chosen(named, f"{one_line(wish.names)} names its clusters; newest of {number}{on}: {one_line(newest)}")
    if default != newest:
        what = "with a page" if wish.file else "finished"
        lacks = "has no page" if wish.file else "is not finished"
        return Chosen(default, f"newest {what} of {number}{on}; {one_line(newest)} {lacks}")
    if len(found) == 1 or not on:
        return Chosen(default)
    others = f"the other: {one_line(found[1])}" if len(found) == 2 else "`avssl runs` lists them"
    return Chosen(default, f"newest of {number}{on}; {others}")


def _named_in(names: str, found: list[Path]) -> Path | None:
    """The run, of several, whose clusters the file of names is about; None if it is about no run, or about others."""
    try:
        content = read_json(names)
    except (OSError, UserError):  # the check of options says what is wrong with it
        return None
    run = content.get("run") if isinstance(content, dict) else None
    if not isinstance(run, str) or not run or "\0" in run:
        return None
    same = [folder for folder in found if os.path.realpath(folder) == os.path.realpath(run)]
    return next(
        iter(same or [folder for folder in found if folder.name == os.path.basename(os.path.normpath(run))]), None
    )


def announce_run(run: Chosen) -> None:
    """Print on standard error which run a command uses, if the user did not give its folder."""
    import sys

    if not is_quiet() and is_first_process():
        note = f" ({run.note})" if run.note else ""
        print(f"run: {one_line(run.folder)}{note}", file=sys.stderr, flush=True)


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


def _status(folder: Path) -> dict[str, Any]:
    try:
        status = read_json(folder / "status.json")
    except (OSError, UserError):
        return {}
    return status if isinstance(status, dict) else {}


def _is_finished(folder: Path) -> bool:
    return _status(folder).get("state") == "finished"


def _time(folder: Path) -> float:
    time: Any = _status(folder).get("time")
    if is_number(time) and 0 < time < 1e11:
        return float(time)
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


def word_for(folder: Path, runs: Path = RUNS, wish: Wish = Wish()) -> str:
    """The shortest word by which a user can name a run: the name of its data set, if that means this run."""
    try:
        name = data_of(folder)[0]
        if name and os.path.samefile(resolve_run(name, runs, wish), folder):
            return shlex.quote(name)
    except (OSError, UserError):
        pass
    return shlex.quote(str(folder))
