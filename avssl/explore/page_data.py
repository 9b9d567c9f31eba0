"""The files of the explorer's page: its code, and scripts of data that call `avssl.put(name, value)`."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.atomic import plain, write_text
from ..core.errors import UserError
from ..core.untrusted import parse_json, read_text

VERSION = 2
"""The version of the data. A page of one version cannot read the data of another."""
MAX_BYTES = 64 << 20
"""Size limit of a script of data."""
PAGE, OVERVIEW = "index.html", "data/overview.js"


def write_code(folder: Path) -> Path:
    """Write the page and its code, and return the page."""
    for asset in sorted((files("avssl.explore") / "page").iterdir(), key=lambda asset: asset.name):
        write_text(folder / asset.name, asset.read_text("utf-8"))
    return folder / PAGE


def put(path: Path, name: str, value: Any) -> None:
    """Write a script that gives the page a value. Numbers are rounded to five digits after the point."""
    text = json.dumps(plain(value, digits=5), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    # file names may not be valid Unicode
    write_text(path, f'avssl.put("{name}",{text});\n'.encode("utf-8", "replace").decode("utf-8"))


def taken(path: Path) -> dict[str, Any] | None:
    """The object that a script gives the page; None if there is no such script, or it is damaged."""
    try:
        text = read_text(path, MAX_BYTES)
        value = parse_json(text[text.index(",") + 1 : text.rindex(")")], MAX_BYTES // 4)
    except (OSError, ValueError, UserError):
        return None
    return value if isinstance(value, dict) else None


def read_overview(folder: Path) -> dict[str, Any]:
    """The overview of an existing explorer. Raises UserError if there is none in `folder`."""
    about = taken(folder / OVERVIEW)
    if about is None:
        raise UserError(f"there is no page of clusters in {folder}: first run `avssl clusters` without names=…")
    return about
