"""Files that are replaced as a whole: a reader finds the old file or the new one, never half of one."""

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
"""A glob of the random part of temporary names."""

STALE_SECONDS = 86_400.0
"""A temporary file that has not changed for this long was left by a killed process, s."""


def stale_paths(folder: Path, names: str) -> Iterator[Path]:
    """Temporary files or folders in `folder`, by a glob of their names, that have not changed for `STALE_SECONDS`."""
    for path in folder.glob(names):
        with suppress(OSError):  # another process may remove it first
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                yield path


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add `path` to errors of the file system that name no file, such as those of `write`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename, error.strerror = str(path), os.strerror(error.errno)
        raise


@contextmanager
def atomic_path(path: str | Path, sweep: bool = False) -> Iterator[Path]:
    """A context that yields a temporary path beside `path`. It replaces `path` at the end, and is removed on errors.

    The temporary name starts with a dot and keeps the suffix, because some writers (np.savez) append a missing one.

    Args:
        path: the file to write; missing folders above it are created.
        sweep: remove temporary files that killed processes left; for large files.

    Raises:
        UserError: the folder cannot be made, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, but a file must be written there: move it away, or choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path.parent}: {error.strerror}; choose another output folder"
        ) from None
    if sweep:
        for stale in stale_paths(path.parent, f".{glob.escape(path.stem)}.{HEX}{glob.escape(path.suffix)}*"):
            with suppress(OSError):
                stale.unlink()
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:12]}{path.suffix}")
    try:
        with naming(path):
            yield temporary
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 with its line ends unchanged. Raises UserError as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON: arrays become lists, paths strings, dataclasses objects, NaN or infinity null."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "remove its folder and run again") -> dict[str, Any]:
    """The object in an untrusted JSON file.

    Raises:
        UserError: the file is missing or damaged, or contains no object; the message gives the `remedy`.
    """
    try:
        content = foreign.read_json(path)
        if isinstance(content, dict):
            return content
        why = f"it contains {foreign.kind_of(content)}"
    except OSError as error:
        why = str(error.strerror)
    except UserError as error:
        why = str(error)
    raise UserError(f"{path} is missing or damaged: {remedy} ({why})")


def plain(value: Any, digits: int | None = None) -> Any:
    """A value converted for JSON, see `write_json`. Numbers are rounded to `digits` after the point, if given."""
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
