"""A folder that a long command fills: whose it is, and what may go wrong with it, said in one line."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .atomic import read_json, write_json
from .errors import UserError
from .untrusted import open_lock

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
OTHER_FOLDER = "choose another folder with out=…"


def check_disjoint(root: str | Path, out: str | Path) -> None:
    """UserError where one of the two folders is in the other: what is written would be taken for a source."""
    a, b = Path(root).resolve(), Path(out).resolve()
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise UserError(f"out={out} and data.root={root} are in one another: choose a folder elsewhere")


def check_same(
    folder: str | Path, what: str, before: Mapping[str, Any], now: Mapping[str, Any], fix: str = OTHER_FOLDER
) -> None:
    """Refuse to mix what was made with other settings.

    Args:
        folder: what the message names.
        what: what the folder holds, such as "a run".
        before: the settings that it was made with; those that `now` does not name are of no account.
        now: the settings of this command.
        fix: what to do about it.

    Raises:
        UserError: the first setting that differs, with both values.
    """
    changed = next((name for name in now if before.get(name) != now[name]), None)
    if changed is not None:
        raise UserError(f"{folder} holds {what} with {changed}={before.get(changed)}, not {now[changed]}: {fix}")


def claim_folder(folder: Path, note: str, what: str, settings: Mapping[str, Any], fix: str = OTHER_FOLDER) -> None:
    """Make `folder`, or find that it is of the same settings; they are kept in its file `note`, as JSON.

    Raises:
        UserError: the folder is of other settings, holds something else, or cannot be made.
    """
    if (folder / note).is_file():
        check_same(folder, what, read_json(folder / note, f"remove {folder}, or {OTHER_FOLDER}"), settings, fix)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and does not hold {what}: {OTHER_FOLDER}")
    else:
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / note, dict(settings))


@contextmanager
def write_errors(out: str | Path) -> Iterator[None]:
    """Errors of the file system become UserError: a full disk, a folder that cannot be written."""
    try:
        yield
    except OSError as error:
        where = out if error.filename is None else os.fsdecode(error.filename)
        if error.errno in NO_SPACE:
            raise UserError(f"no space left for {where}: free some, then repeat the command") from None
        raise UserError(f"cannot write {where}: {error.strerror or error}; choose another out=…") from None


@contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """UserError where another process is in this block for the same folder."""
    with open_lock(out / ".lock") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another command is writing to {out}: wait for it, or choose another out=…") from None
        except (ImportError, OSError):  # a system, or a file system, without locks
            pass
        yield
