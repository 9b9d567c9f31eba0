"""A folder that a long command fills: whose it is, and what may go wrong with it, said in one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError
from .foreign import open_lock

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def check_disjoint(root: str | Path, out: str | Path) -> None:
    """UserError where one of the two folders is in the other: what is written would be taken for a source."""
    a, b = Path(root).resolve(), Path(out).resolve()
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise UserError(f"out={out} and data.root={root} are in one another: choose a folder elsewhere")


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
