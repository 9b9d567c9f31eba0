"""Paths that are made of what somebody else wrote: they stay below the folder that they are meant for."""

import os
from pathlib import Path, PureWindowsPath

from .errors import UserError


def strays(path: object) -> str | None:
    """Why a relative path would not stay below its folder, in a few words; None where it does.

    Forward slashes separate folders. On Windows a drive and backslashes count too; elsewhere they are parts of names.
    """
    if not isinstance(path, str):
        return "is no text"
    if not path or path.strip("/.") == "" or path.endswith("/"):
        return "names no file"
    if "\0" in path:
        return "has a NUL in it"
    if path.startswith("/"):
        return "is absolute"
    if ".." in path.split("/"):
        return "leads out of its folder"
    if os.name == "nt" and (PureWindowsPath(path).drive or "\\" in path):
        return "is a path of Windows"
    return None


def below(folder: str | Path, *parts: str, writing: bool = False) -> Path:
    """`folder`/`parts`, each part a relative path of one or several names.

    Links below `folder` are followed for reading: a data set may be made of them. With `writing`, the folder that
    would be written into is not reached by a link that leads elsewhere.

    Raises:
        UserError: a part is absolute, has `..` or a NUL, or names nothing; or, with `writing`, a link leads out.
    """
    for part in parts:
        why = strays(part)
        if why is not None:
            raise UserError(f"the path {part!r} {why}: what was made by others may name files below {folder} alone")
    path = Path(folder, *parts)
    if writing and not path.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise UserError(f"{path.parent} is a link that leads out of {folder}: remove it")
    return path
