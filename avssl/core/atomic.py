"""Files that are either the old ones or the new ones, never half of one."""

import glob
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from . import untrusted as foreign
from .errors import UserError

HEX = "[0-9a-f]" * 12
"""Glob of the middle part of temporary names."""

LEFT = 86_400.0
"""What was begun as many s ago, and is not whole, is of a process that was killed."""


def left_behind(folder: Path, names: str) -> Iterator[Path]:
    """Temporary files or folders in `folder`, by a glob of their names, that were last changed over `LEFT` ago."""
    for path in folder.glob(names):
        with suppress(OSError):  # another process takes it away
            if time.time() - path.stat().st_mtime > LEFT:
                yield path


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of the file system name `path` where they name no file, as those of writing do."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename, error.strerror = str(path), os.strerror(error.errno)
        raise


@contextmanager
def atomic_path(path: str | Path, sweep: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends, and is removed when the block fails.

    The temporary name starts with a dot and keeps the suffix, because some writers (np.savez) append a missing one.
    Folders above `path` are made. With `sweep`, for large files, temporary ones of killed processes are removed.

    Raises:
        UserError: the folder cannot be made, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a file is to be written there: move it away or choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path.parent}: {error.strerror}; choose another output folder"
        ) from None
    if sweep:
        for left in left_behind(path.parent, f".{glob.escape(path.stem)}.{HEX}{glob.escape(path.suffix)}*"):
            with suppress(OSError):
                left.unlink()
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:12]}{path.suffix}")
    try:
        with naming(path):
            yield temporary
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, line ends as they are. Raises UserError as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON: arrays become lists, paths strings, dataclasses objects, NaN and inf null."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "remove its folder and run again") -> dict[str, Any]:
    """The object in a JSON file, whoever wrote it. UserError with the remedy for one that is missing or damaged, or
    holds something else."""
    try:
        found = foreign.read_json(path)
        if isinstance(found, dict):
            return found
        why = f"it holds {foreign.kind_of(found)}"
    except OSError as error:
        why = str(error.strerror)
    except UserError as error:
        why = str(error)
    raise UserError(f"{path} is missing or damaged: {remedy} ({why})")


def plain(value: Any, digits: int | None = None) -> Any:
    """As JSON takes it: see `write_json`. With `digits`, numbers are rounded to as many after the point."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "tolist"):  # numpy and torch, scalars too
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, float):
        return None if not math.isfinite(value) else value if digits is None else round(value, digits)
    return str(value) if isinstance(value, Path) else value
