"""Options in a file: the config of a run or of an index. They are checked like those of a command; `${…}` is not
resolved."""

import math
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..core.errors import UserError
from ..core.untrusted import LARGEST
from .compose import check_config, keys_of, nearest

SHOWN = 300
"""Longest error message, in characters; without a limit, a long value would flood the terminal."""


def from_plain(schema: type, content: dict[str, Any], where: str | Path) -> Any:
    """An instance of the dataclass `schema` from the content of the file `where`; a missing option gets its default.

    Raises:
        UserError: a key is unknown, or a value has the wrong type, is out of range or not finite, or contains `${…}`.
    """
    try:
        _check_plain(content, "")
        _check_known(schema, content, "")
        config = OmegaConf.merge(_structured(schema), content)
        assert isinstance(config, DictConfig)
        for key in keys_of(schema):  # some defaults name another option or are missing: the file has to give these
            section, _, name = key.name.rpartition(".")
            at = OmegaConf.select(config, section) if section else config
            if OmegaConf.is_interpolation(at, name) or OmegaConf.is_missing(at, name):
                raise UserError(f"{key.name} is missing")
        typed = OmegaConf.to_object(config)
        check_config(typed)
        return typed
    except OmegaConfBaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        name = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
        raise UserError(f"{where}: {name}{': ' if name else ''}{lines[0][:SHOWN]}") from None
    except UserError as error:
        raise UserError(f"{where}: {str(error)[:SHOWN]}") from None


@cache
def _structured(schema: type) -> DictConfig:
    """The defaults of `schema`, which `OmegaConf.merge` copies; making them takes longer than all else here."""
    return OmegaConf.structured(schema)


def _check_known(schema: type, content: dict[str, Any], prefix: str) -> None:
    """Raise UserError for a key that `schema` does not have, and for a section in place of an option or the reverse."""
    declared = {f.name: f for f in fields(schema)}
    for name, value in content.items():
        if name not in declared:
            raise UserError(
                f"{prefix}{name} is not an option of this version of avssl{nearest(name[:60], list(declared))}"
            )
        kind = declared[name].type
        nested = next((t for t in (kind, *get_args(kind)) if is_dataclass(t)), None)
        if nested is not None and not isinstance(value, dict):
            raise UserError(f"{prefix}{name} is a section of options, not a value")
        if declared[name].metadata.get("description"):
            continue  # OmegaConf checks the description of a data set
        if nested is not None:
            _check_known(nested, value, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif isinstance(value, dict) or (isinstance(value, list) and any(isinstance(x, dict | list) for x in value)):
            raise UserError(f"{prefix}{name} is a single option, not a section of options")


def _check_plain(value: Any, name: str) -> None:
    """Raise UserError for a key that is not text, and for a value that is not finite, is too large or contains `${…}`.

    The recursion is bounded, because `avssl.core.untrusted` limits the depth of the files that it reads.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UserError(f"{name or 'the file'} has the key {key!r}, which is not a name")
            _check_plain(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, name)
    elif isinstance(value, str) and ("${" in value or value == MISSING):
        raise UserError(f"{name}={value[:60]} is a reference: a file must contain plain values")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name}={value} is NaN or infinite")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise UserError(f"{name}={str(value)[:30]}… is too large")
