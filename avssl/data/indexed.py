"""What an index was made with: the options that say which videos, or parts of them, have a row."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import DataConfig
from ..core.foreign import field, read_json
from ..core.settings import from_plain
from ..errors import UserError

NOTE = "index.json"

READING = ("window_seconds", "min_seconds", "silence_db", "extensions")
"""Those that new videos are read by, too."""

DECIDING = (
    *READING, "layout", "annotations", "format", "fold", "trimmed", "keep_classes", "require_sound", "card",
)  # fmt: skip


def read_note(index: str | Path) -> dict[str, Any]:
    """What `index.json` holds, its `root` a text; empty where there is none. UserError for a damaged one."""
    path = Path(index) / NOTE
    try:
        found = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{error}; run `avssl index` again, after removing it") from None
    field(found, "root", str, path)
    return found


def root_of(index: str | Path) -> Path | None:
    """The folder of an index's videos; None where there is no index. UserError for a damaged one."""
    root = read_note(index).get("root")
    return None if root is None else Path(root)


def options_of(index: str | Path) -> DataConfig | None:
    """The options that `avssl index` had. None where there is no index, or one that does not tell.

    Raises:
        UserError: the index tells of options that there are none of, or of values that they do not take.
    """
    note = read_note(index)
    return (
        from_plain(DataConfig, field(note, "data", dict, Path(index) / NOTE), Path(index) / NOTE)
        if "data" in note
        else None
    )


def as_indexed(data: DataConfig) -> DataConfig:
    """`data`, with the options of its index in the place of those that are as they are by default."""
    there = options_of(data.index)
    return data if there is None else _filled(data, there, DECIDING)


def _filled(data: DataConfig, there: DataConfig, names: tuple[str, ...]) -> DataConfig:
    default = DataConfig(root="")
    left = [name for name in names if getattr(data, name) == getattr(default, name)]
    return replace(data, **{name: getattr(there, name) for name in left})


def as_read(data: DataConfig) -> DataConfig:
    """`data` as `as_indexed` has it, for a training: it takes the index's rows, and new videos are read as those were.

    Raises:
        UserError: an option that the index was not made with.
    """
    there = options_of(data.index)
    if there is None:
        return data
    found = _filled(data, there, READING)
    for name in READING:
        if getattr(found, name) != getattr(there, name):
            raise UserError(
                f"data.{name}={getattr(found, name)}, and the index {data.index} was made with {getattr(there, name)}: "
                f"give avssl index the same, or leave it out"
            )
    return found
