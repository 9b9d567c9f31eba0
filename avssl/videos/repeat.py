"""The command that makes an index, to repeat it with another option."""

import shlex
from operator import attrgetter
from typing import Any

from ..config import IndexConfig
from ..config.compose import compose_config
from ..config.option import accepted_keys
from ..config.words import quoted


def repeated(config: IndexConfig) -> str:
    """The command that makes this index, for a shell, with the options that are not the defaults."""
    default, root = compose_config("index", IndexConfig, [f"data.root={quoted(config.data.root)}"]), config.data.root
    words = ["./" + root if root.startswith("-") else root]
    for key in accepted_keys(IndexConfig):
        place = attrgetter(key.name)
        if key.name != "data.root" and not key.name.startswith("launch.") and place(config) != place(default):
            words.append(f"{key.name}={_written(place(config))}")
    return shlex.join(["avssl", "index", *words])


def keeping_silent(config: IndexConfig) -> str:
    """How to keep videos without audio, in words that end with a command."""
    return f"to keep videos without audio: {repeated(config)} data.require_sound=false"


def _written(value: Any) -> str:
    """The value of an option as it is typed after `=`."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return quoted(value) if isinstance(value, str) else "null" if value is None else str(value).lower()
