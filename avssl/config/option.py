"""How an option is declared, and what values it takes: a dataclass field with its help line, its unit and its bounds.

A number has a minimum and a maximum, both finite, so that every value which would hang, fill the memory or diverge is
refused in one line before any work. No import of Hydra or torch: refusals are quick.
"""

import math
import re
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, get_args, get_origin

from ..core.device import DEVICE as DEVICE
from ..core.errors import UserError

DAY = 86_400
"""s"""

MAX_SEED = 2**32 - 1
"""NumPy and scikit-learn take no larger seed."""

LONGEST_TEXT = 4096
"""Characters of a text, and bytes of a path: Linux takes no longer one."""

LONGEST_NAME = 255
"""Bytes of one part of a path."""

SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def option(
    default: Any, text: str, unit: str = "", choices: str = "", minimum: float | None = None,
    maximum: float | None = None, path: str = "", pattern: str = "", empty: bool | None = None, unique: bool = False,
    noted: bool = False,
) -> Any:  # fmt: skip
    """A dataclass field for an option.

    `choices` ("a b c") are its allowed values; `minimum` and `maximum` bound a number, in `unit`; `pattern` is the
    regular expression of a text. Of a list, all of these hold for each item, and with `unique` no item comes twice.
    `path` says what the text names: "folder", "file" or "either" of them, which is read; "new folder", "new file"
    or "new" for either, which is written; or "run", the folder of a run. A text or list may be `empty` where it is
    so by default, unless stated otherwise. What is `noted` is no option: a file of a run holds it, and it is checked.
    """
    metadata = {
        "help": text, "unit": unit, "choices": choices.split(), "minimum": minimum, "maximum": maximum, "path": path,
        "pattern": pattern, "empty": empty, "unique": unique, "noted": noted,
    }  # fmt: skip
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type, text: str, noted: bool = False) -> Any:
    """A nested dataclass with a heading in the help; or `noted`, as of `option`."""
    return field(default_factory=kind, metadata={"help": text, "noted": noted})


def other(base: type, name: str, default: Any, text: str = "", **changed: Any) -> Any:
    """The option `name` of the schema `base` with another default, another text and other bounds, where given."""
    metadata = {**base.__dataclass_fields__[name].metadata, **({"help": text} if text else {}), **changed}  # type: ignore[attr-defined]
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def description(kind: type) -> Any:
    """A nested dataclass that a data set's file fills in, and that is no option."""
    return field(default_factory=kind, metadata={"description": True})


@dataclass
class Key:
    """One option of a schema, as declared: see `option`. `kind` is the type of the value, or of a list's items."""

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


def accepted_keys(schema: type, noted: bool = False) -> list[Key]:
    """All options that a command takes: its own, and those of the schema that it `takes`."""
    taken = getattr(schema, "takes", None)
    own = keys_of(schema, noted=noted)
    names = {key.name for key in own}
    return [*(key for key in (keys_of(taken, noted=noted) if taken else []) if key.name not in names), *own]


def keys_of(schema: type, prefix: str = "", noted: bool = False) -> list[Key]:
    """The options that a config dataclass declares, nested ones as `section.key`; with what is `noted`, if asked."""
    found = []
    taken = getattr(getattr(schema, "takes", None), "__dataclass_fields__", {})
    for f in fields(schema):
        m = f.metadata
        if m.get("description") or taken.get(f.name) is f or (m.get("noted") and not noted):
            continue
        nested = next((t for t in (f.type, *get_args(f.type)) if is_dataclass(t)), None)
        if nested is not None:
            found += keys_of(nested, f"{prefix}{f.name}.", noted)  # type: ignore[arg-type]
            continue
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        many = get_origin(f.type) is list
        kinds = [t for t in get_args(f.type) or (f.type,) if t is not type(None)]
        empty = default in ("", []) if m["empty"] is None else m["empty"]
        found.append(
            Key(
                prefix + f.name, default, m["help"], m["unit"], m["choices"], m["minimum"], m["maximum"], m["path"],
                m["pattern"], empty, m["unique"], kinds[0], many, type(None) in get_args(f.type),
            )  # type: ignore[arg-type]
        )  # fmt: skip
    return found


def check_config(config: Any) -> None:
    """Check every value of `config`, an instance of a schema: bounds, choices, patterns, lengths.

    Types are not checked: OmegaConf does that as it merges into the schema. Nothing is opened or looked up.

    Raises:
        UserError: the first value that is not as its option declares, in one line.
    """
    for key in accepted_keys(type(config), noted=True):
        value = config
        for part in key.name.split("."):
            value = getattr(value, part)
        check_value(key, value)


def check_value(key: Key, value: Any) -> None:
    """The same of one value, of the type that the option has; None stands for no value. UserError as `check_config`."""
    if value is None:
        return
    if isinstance(value, list):
        if not value and not key.empty:
            raise UserError(f"{key.name}=[] is empty: give at least one ({key.text})")
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
    if key.choices and value not in key.choices:
        raise UserError(f"no {key.name}={shown(value)}{nearest(str(value), key.choices)} ({', '.join(key.choices)})")
    if isinstance(value, str):
        _check_text(key, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(key, value)


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
        raise UserError(f"{key.name}={shown(value)} has a NUL character ({key.text})")
    if len(value.encode(errors="surrogateescape")) > LONGEST_TEXT:
        raise UserError(f"{key.name}={shown(value)} is longer than {LONGEST_TEXT} bytes ({key.text})")
    if key.path and any(len(p.encode(errors="surrogateescape")) > LONGEST_NAME for p in PurePath(value).parts):
        raise UserError(
            f"{key.name}={shown(value)} has a name of more than {LONGEST_NAME} bytes: no file system takes it "
            f"({key.text})"
        )
    if key.pattern and not re.fullmatch(key.pattern, value):
        raise UserError(f"{key.name}={shown(value)} cannot be ({key.text})")


def shown(value: Any, most: int = SHOWN) -> str:
    """A value as a message repeats it: at most so many characters of a text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) < 1e15:
        return str(int(value)) if value == int(value) else f"{value:.6g}"
    text = (
        str(value)
        if not isinstance(value, int) or value.bit_length() < 256
        else f"a number of {value.bit_length()} bits"
    )
    return text if len(text) <= most else f"{text[:most]}…"


def nearest(word: str, names: list[str]) -> str:
    """`; did you mean …?`, or nothing."""
    close = get_close_matches(word[:SHOWN], names, 1, 0.6) or [
        n for n in names if n.split(".")[-1] == word.split(".")[-1]
    ]
    return f"; did you mean {close[0]}?" if close else ""
