"""What an index was made with: the options that say which videos, or parts of them, have a row."""

import json
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..config import DataConfig
from ..errors import UserError

READING = ("window_seconds", "min_seconds", "silence_db", "extensions")
"""Those that new videos are read by, too."""

DECIDING = (
    *READING, "layout", "annotations", "format", "fold", "trimmed", "keep_classes", "require_sound", "card",
)  # fmt: skip


def options_of(index: str | Path) -> DataConfig | None:
    """The options that `avssl index` had. None where there is no index, or one that does not tell."""
    try:
        found = json.loads((Path(index) / "index.json").read_text())["data"]
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), found))
    except (OSError, ValueError, KeyError, TypeError, OmegaConfBaseException):
        return None
    assert isinstance(options, DataConfig)
    return options


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
