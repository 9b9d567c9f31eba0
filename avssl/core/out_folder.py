"""The output folder of a long command: its settings, its lock, and errors in one line."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .atomic import atomic_path, read_json, write_json
from .errors import UserError
from .untrusted import open_lock, read_bytes

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
OTHER_FOLDER = "choose another folder with out=…"
VIDEOS = "videos.txt"
"""The file of an output folder that names the videos that it is of."""


def check_disjoint(root: str | Path, out: str | Path) -> None:
    """Raise UserError if one folder contains the other, because outputs would then be read as sources."""
    a, b = Path(root).resolve(), Path(out).resolve()
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise UserError(f"one of out={out} and data.root={root} contains the other: choose an output folder elsewhere")


def check_same(
    folder: str | Path, what: str, before: Mapping[str, Any], now: Mapping[str, Any], fix: str = OTHER_FOLDER
) -> None:
    """Check that a folder was made with the same settings.

    Args:
        folder: the folder, for the message.
        what: the kind of content, such as "a run".
        before: the settings that the folder was made with; those missing from `now` are ignored.
        now: the settings of this command.
        fix: the fix, for the message.

    Raises:
        UserError: a setting differs; the message gives the first one with both values.
    """
    changed = next((name for name in now if before.get(name) != now[name]), None)
    if changed is not None:
        raise UserError(f"{folder} contains {what} with {changed}={before.get(changed)}, not {now[changed]}: {fix}")


def claim_folder(folder: Path, note: str, what: str, settings: Mapping[str, Any]) -> None:
    """Make `folder`, or check that it was made with the same settings. Its file `note` stores them as JSON.

    Raises:
        UserError: the folder was made with other settings, contains something else, or cannot be made.
    """
    if (folder / note).is_file():
        check_same(folder, what, read_json(folder / note, f"remove {folder}, or {OTHER_FOLDER}"), settings)
    elif (
        folder.exists()
        and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir()))
        and not (folder / note).is_file()  # another part of the same command may have made it just now
    ):
        raise UserError(f"{folder} exists, but does not contain {what}: {OTHER_FOLDER}")
    else:
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / note, dict(settings))


def check_videos_of(folder: Path, videos: str, what: str, fix: str = OTHER_FOLDER) -> None:
    """Check that the outputs in a folder, which has the name of a folder of videos, are of these videos.

    Args:
        folder: the folder; its file `videos.txt` names the videos.
        videos: the folder of videos, or the file.
        what: the kind of content, such as "boxes".
        fix: the fix, for the message.

    Raises:
        UserError: they are of other videos of the same name.
    """
    note, now = folder / VIDEOS, str(Path(videos).resolve())
    before = read_bytes(note).decode("utf-8", "surrogateescape") if note.exists() else now
    if before != now:
        raise UserError(f"{folder} contains the {what} of {before}: {fix}")


def note_videos_of(folder: Path, videos: str) -> None:
    """Make a folder, and note in it which videos its outputs are of, see `check_videos_of`."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / VIDEOS) as temporary:
        temporary.write_text(str(Path(videos).resolve()), "utf-8", "surrogateescape")


@contextmanager
def write_errors(out: str | Path) -> Iterator[None]:
    """Turn errors of the file system, such as a full disk, into UserError."""
    try:
        yield
    except OSError as error:
        where = out if error.filename is None else os.fsdecode(error.filename)
        if error.errno in NO_SPACE:
            raise UserError(f"no space is left for {where}: free some, then repeat the command") from None
        raise UserError(f"cannot write {where}: {error.strerror or error}; choose another out=…") from None


@contextmanager
def folder_lock(out: Path, shared: bool = False, name: str = ".lock") -> Iterator[None]:
    """A context that locks a folder for one process at a time. Raises UserError if another process has locked it.

    Args:
        out: the folder.
        shared: lock it for the parts of one command, several processes at a time; no other command can then lock it.
        name: the file that is locked.
    """
    with open_lock(out / name) as lock:
        try:
            import fcntl

            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another command is writing to {out}: wait for it, or choose another out=…") from None
        except (ImportError, OSError):  # a system, or a file system, without locks
            pass
        yield
