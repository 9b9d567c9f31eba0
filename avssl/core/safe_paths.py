"""Untrusted relative paths, checked to stay below their folder."""

import os
from pathlib import Path, PureWindowsPath

from .errors import UserError


def strays(path: object) -> str | None:
    """Why a relative path does not stay below its folder, in a few words; None if it does.

    Forward slashes separate folders. On Windows, so do backslashes, and a drive is rejected.
    """
    if not isinstance(path, str):
        return "is not a text"
    if not path or path.strip("/.") == "" or path.endswith("/"):
        return "names no file"
    if "\0" in path:
        return "contains a NUL"
    if path.startswith("/"):
        return "is absolute"
    if ".." in path.split("/"):
        return "leads out of its folder"
    if os.name == "nt" and (PureWindowsPath(path).drive or "\\" in path):
        return "is a Windows path"
    return None


def below(folder: str | Path, *parts: str, writing: bool = False) -> Path:
    """The path of `folder` joined with `parts`, which are relative paths of one or several names.

    For reading, links below `folder` are followed, because a data set may consist of links. With `writing`, a link
    that leads out of `folder` is an error.

    Raises:
        UserError: a part is absolute, has `..` or a NUL, or names nothing; or, with `writing`, a link leads out.
    """
    for part in parts:
        why = strays(part)
        if why is not None:
            raise UserError(f"the path {part!r} {why}: it must name a file below {folder}")
    path = Path(folder, *parts)
    if writing and not path.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise UserError(f"{path.parent} is a link that leads out of {folder}: remove it")
    return path
