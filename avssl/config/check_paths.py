"""Checks of the options that are paths, before any work: whether each is a file or a folder, readable or writable.

An option declares its kind of path with `path=`. A missing file is an error here; a missing folder is reported by the
command, which knows what creates it.
"""

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .option import Key, accepted_keys, shown


def _whole(path: str) -> str:
    return shown(path, 300)


def check_paths(config: Any) -> None:
    """Check every path in `config`, an instance of a schema.

    Raises:
        UserError: a file is given in place of a folder or the reverse, a path cannot be read or written, its name is
            not Unicode, or the shell did not expand a `~`.
    """
    for key in accepted_keys(type(config)):
        if not key.path:
            continue
        value = config
        for part in key.name.split("."):
            value = getattr(value, part)
        for path in value if isinstance(value, list) else [value]:
            if path:
                _check(key, path)


def _check(key: Key, path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:  # neither a config, nor a table, nor an index can contain it
        raise UserError(f"{key.name}={_whole(path)} is not Unicode: rename it ({key.text})") from None
    if path.startswith("~") and os.path.expanduser(path) != path and not os.path.lexists(path):
        raise UserError(
            f"{key.name}={_whole(path)}: the shell does not expand this ~; write {os.path.expanduser(path)}"
        )
    if key.path == "new folder" or (key.path == "new" and os.path.isdir(path)):
        check_new(f"{key.name}={_whole(path)}", Path(path))
    elif key.path in ("new", "new file"):
        if os.path.isdir(path) or (path.endswith("/") and key.path != "new"):
            raise UserError(f"{key.name}={_whole(path)} is a folder: give a file ({key.text})")
        if os.path.lexists(path) and not os.path.isfile(path):
            raise UserError(f"{key.name}={_whole(path)} is not a file that can be overwritten ({key.text})")
        check_new(f"{key.name}={_whole(path)}", Path(path).absolute().parent)
    else:
        _check_read(key, path)


def _check_read(key: Key, path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if key.path == "file":
            raise UserError(f"{key.name}={_whole(path)} does not exist ({key.text})") from None
        mode = None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{key.name}={_whole(path)} cannot be read: {why} ({key.text})") from None
    if mode is None:
        pass
    elif key.path in ("folder", "run") and not stat.S_ISDIR(mode):
        raise UserError(f"{key.name}={_whole(path)} is a file: give a folder ({key.text})")
    elif key.path == "file" and stat.S_ISDIR(mode):
        raise UserError(f"{key.name}={_whole(path)} is a folder: give a file ({key.text})")
    elif not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UserError(
            f"{key.name}={_whole(path)} is neither a file nor a folder, but a device or a pipe ({key.text})"
        )
    elif not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise UserError(f"{key.name}={_whole(path)} cannot be read: permission denied ({key.text})")
    if key.path == "run" and not os.path.isfile(os.path.join(path, "config.yaml")):
        raise UserError(
            f"{key.name}={_whole(path)} is not a run folder (no config.yaml): give the folder that `avssl train` wrote"
        )


def check_new(option: str, folder: Path) -> None:
    """Raise UserError if `folder` cannot be made or written to; `option` is the option and its value, for the message.

    It tries to make a folder. Only that detects a file system that is read-only, full or not for files (such as /proc),
    because root may write even where permissions deny it.
    """
    above = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    if not above.is_dir():
        raise UserError(f"{option}: {_whole(str(above))} is a file; choose another folder")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".avssl-", dir=above))
    except OSError as error:
        raise UserError(f"{option}: cannot write to {_whole(str(above))} ({error.strerror}); choose another") from None


def check_inside(option: str, out: str | Path, root: str | Path) -> None:
    """Raise UserError if the output `out` lies in the folder of videos `root`, where it would be indexed as a video."""
    if Path(out).resolve().is_relative_to(Path(root).resolve()):
        raise UserError(
            f"{option}={_whole(str(out))} lies in the folder of videos {_whole(str(root))}, so it would be indexed "
            "as a video: choose a folder outside it"
        )
