"""How an option is declared: a dataclass field with its help line, its unit and the values that it accepts.

A number has a finite minimum and maximum. A value that would hang the run or fill the memory is thus refused before any
work. This file imports neither Hydra nor torch, so that errors come quickly.
"""

import math
import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, get_args, get_origin

from ..core.device import AUTO_WORKERS
from ..core.device import DEVICE as DEVICE
from ..core.errors import UserError

MISSING: Any = "???"
"""The default of an option that has to be given. It is OmegaConf's, which takes long to import."""

DAY = 86_400
"""Seconds in a day."""

MAX_SEED = 2**32 - 1
"""The largest seed that NumPy and scikit-learn accept."""

LONGEST_TEXT = 4096
"""Longest text, in bytes; Linux accepts no longer path."""

LONGEST_NAME = 255
"""Longest part of a path, in bytes."""

SHOWN = 60
"""Longest part of a wrong value that a message repeats, in characters."""


def option(
    default: Any, text: str, unit: str = "", choices: str = "", minimum: float | None = None,
    maximum: float | None = None, path: str = "", pattern: str = "", empty: bool | None = None, unique: bool = False,
    noted: bool = False, length: int = 0,
) -> Any:  # fmt: skip
    """A dataclass field for an option.

    Args:
        default: the default value; `MISSING` for a required option.
        text: its text in the help.
        unit: the unit of a number, and of `minimum` and `maximum`.
        choices: the allowed values, as "a b c".
        minimum, maximum: bounds of a number, both included.
        path: the kind of path. The command reads a "folder", a "file" or "either", and writes a "new folder", a "new
            file" or "new" (either). "run" is a run folder.
        pattern: regular expression that a text has to match; with `choices`, it describes further allowed values.
        empty: whether the text or list may be empty; None: only if the default is empty.
        unique: whether the items of a list must differ.
        noted: True for a value that the files of a run contain, and that is checked, but that users cannot set.
        length: the number of items of a list; 0: any.

    The bounds, choices and pattern of a list apply to each item.
    """
    metadata = {
        "help": text, "unit": unit, "choices": choices.split(), "minimum": minimum, "maximum": maximum, "path": path,
        "pattern": pattern, "empty": empty, "unique": unique, "noted": noted,
        "length": length,
    }  # fmt: skip
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def device_option() -> Any:
    """The option of the device that a command computes on."""
    text = "where to compute; auto: a CUDA GPU if there is one, else the CPU; or cpu, cuda, cuda:N, mps"
    return option("auto", text, pattern=DEVICE)


def workers_option() -> Any:
    """The option of the decoding processes of a command."""
    text = (
        "decoding processes; -1: 2 on a CPU, and beside a GPU one less than the cores of the process, at most 16; 0: "
        "decode in the process that computes"
    )
    return option(AUTO_WORKERS, text, minimum=AUTO_WORKERS, maximum=1024)


def threads_option() -> Any:
    """The option of the threads that a command computes with on a CPU."""
    text = "CPU threads for the computation; 0: the cores that decoding leaves free"
    return option(0, text, minimum=0, maximum=1024)


def json_option() -> Any:
    """The option `json` of the commands whose result other programs read."""
    return option(False, "print the result as one JSON document; everything else goes to standard error")


def section(kind: type, text: str, noted: bool = False) -> Any:
    """A dataclass field for a section of options: `text` is its heading in the help, `noted` as in `option`."""
    return field(default_factory=kind, metadata={"help": text, "noted": noted})


def other(base: type, name: str, default: Any, text: str = "", **changed: Any) -> Any:
    """The option `name` of the schema `base` with another default and, if given, another text and other bounds."""
    metadata = {**base.__dataclass_fields__[name].metadata, **({"help": text} if text else {}), **changed}  # type: ignore[attr-defined]
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def description(kind: type) -> Any:
    """A nested dataclass that a data set's file fills in. Users cannot set it."""
    return field(default_factory=kind, metadata={"description": True})


@dataclass
class Key:
    """One option of a schema, as `option` declared it. `kind` is the type of the value, or of a list's items."""

    name: str
    default: Any
    text: str
    unit: str
    choices: list[str]
    minimum: float | None
    maximum: float | None
    path: str
    pattern: str
    empty: bool
    unique: bool
    kind: type
    many: bool
    optional: bool
    length: int = 0


def accepted_keys(schema: type, noted: bool = False) -> list[Key]:
    """All options that a command accepts: its own, and those of the schema in its attribute `takes`."""
    other_schema = getattr(schema, "takes", None)
    own = keys_of(schema, noted=noted)
    names = {key.name for key in own}
    others = keys_of(other_schema, noted=noted) if other_schema else []
    return [*(key for key in others if key.name not in names), *own]


def keys_of(schema: type, prefix: str = "", noted: bool = False) -> list[Key]:
    """The options that a config dataclass declares, nested ones as `section.key`; `noted` adds the noted values."""
    keys = []
    inherited = getattr(getattr(schema, "takes", None), "__dataclass_fields__", {})
    for f in fields(schema):
        m = f.metadata
        if m.get("description") or inherited.get(f.name) is f or (m.get("noted") and not noted):
            continue
        nested = next((t for t in (f.type, *get_args(f.type)) if is_dataclass(t)), None)
        if nested is not None:
            keys += keys_of(nested, f"{prefix}{f.name}.", noted)  # type: ignore[arg-type]
            continue
        default = f.default_factory() if f.default_factory is not NO_DEFAULT else f.default
        many = get_origin(f.type) is list
        kinds = [t for t in get_args(f.type) or (f.type,) if t is not type(None)]
        empty = default in ("", []) if m["empty"] is None else m["empty"]
        keys.append(
            Key(
                prefix + f.name, default, m["help"], m["unit"], m["choices"], m["minimum"], m["maximum"], m["path"],
                m["pattern"], empty, m["unique"], kinds[0], many, type(None) in get_args(f.type),
                m["length"],
            )  # type: ignore[arg-type]
        )  # fmt: skip
    return keys


def check_config(config: Any) -> None:
    """Check every value of `config`, an instance of a schema: bounds, choices, patterns, lengths.

    Types are not checked: OmegaConf does that when it merges values into the schema. No file is opened.

    Raises:
        UserError: names the first value that its option does not accept, in one line.
    """
    for key in accepted_keys(type(config), noted=True):
        value = config
        for part in key.name.split("."):
            value = getattr(value, part)
        check_value(key, value)


def check_value(key: Key, value: Any) -> None:
    """Check one value of the option's type, or None for no value. Raises UserError, as `check_config` does."""
    if value is None:
        return
    if isinstance(value, list):
        if not value and not key.empty:
            raise UserError(f"{key.name}=[] is empty: give at least one ({key.text})")
        if key.length and len(value) != key.length:
            raise UserError(f"{key.name} has {len(value)} values: give {key.length} ({key.text})")
        for item in value:
            _check_item(key, item)
        twice = [item for place, item in enumerate(value) if item in value[:place]] if key.unique else []
        if twice:
            raise UserError(f"{key.name} has {shown(twice[0])} more than once ({key.text})")
        return
    if value == "" and key.empty:
        return
    _check_item(key, value)


def _check_item(key: Key, value: Any) -> None:
    if key.choices and value not in key.choices and not (key.pattern and re.fullmatch(key.pattern, str(value))):
        raise UserError(f"{key.name}={shown(value)} is not one of {_accepted(key)}{nearest(str(value), key.choices)}")
    if isinstance(value, str):
        _check_text(key, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(key, value)


def _accepted(key: Key) -> str:
    """The choices, and what else the help text says is accepted."""
    choices = ", ".join(key.choices)
    return f"{choices}{key.text[key.text.index(';') :]}" if key.pattern and ";" in key.text else choices


def _check_number(key: Key, value: float) -> None:
    if not math.isfinite(value):
        raise UserError(f"{key.name}={value} is not a finite number ({key.text})")
    unit = f" {key.unit}" if key.unit else ""
    if key.minimum is not None and value < key.minimum:
        raise UserError(f"{key.name}={shown(value)} is below the minimum {shown(key.minimum)}{unit} ({key.text})")
    if key.maximum is not None and value > key.maximum:
        raise UserError(f"{key.name}={shown(value)} is above the maximum {shown(key.maximum)}{unit} ({key.text})")


def _check_text(key: Key, value: str) -> None:
    if not value:
        none = f", or {key.name}=null for none" if key.optional and not key.many else ""
        raise UserError(f"{key.name}= is empty: give a value{none} ({key.text})")
    if "\0" in value:
        raise UserError(f"{key.name}={shown(value)} contains a NUL character ({key.text})")
    if len(value.encode(errors="surrogateescape")) > LONGEST_TEXT:
        raise UserError(f"{key.name}={shown(value)} is longer than {LONGEST_TEXT} bytes ({key.text})")
    if key.path and any(len(p.encode(errors="surrogateescape")) > LONGEST_NAME for p in PurePath(value).parts):
        raise UserError(
            f"{key.name}={shown(value)} contains a name longer than {LONGEST_NAME} bytes, the limit of file "
            f"systems ({key.text})"
        )
    if key.pattern and not key.choices and not re.fullmatch(key.pattern, value):
        raise UserError(f"{key.name}={shown(value)} is not a valid value ({key.text})")


def shown(value: Any, maximum: int = SHOWN) -> str:
    """A value as messages show it, cut to `maximum` characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) < 1e15:
        return str(int(value)) if value == int(value) else f"{value:.6g}"
    text = (
        str(value)
        if not isinstance(value, int) or value.bit_length() < 256
        else f"a number of {value.bit_length()} bits"
    )
    return text if len(text) <= maximum else f"{text[:maximum]}…"


def nearest(word: str, names: list[str]) -> str:
    """`; did you mean …?` with the closest of `names`, or an empty text if none is close."""
    close = get_close_matches(word[:SHOWN], names, 1, 0.6) or [
        n for n in names if n.split(".")[-1] == word.split(".")[-1]
    ]
    return f"; did you mean {close[0]}?" if close else ""
