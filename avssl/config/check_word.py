"""Checks the value of a `key=value` word against its declaration: type, choices, bounds.

This file imports neither Hydra nor OmegaConf, which take longer to import than a refusal may take.
"""

import math
import re
from typing import Any

from ..core.errors import UserError
from .option import Key, check_value, shown

NUMBERS = {int: "an integer", float: "a number", bool: "true or false"}

BOOLEANS = ("yes", "no", "on", "off", "y", "n", "true", "false")
"""Words that OmegaConf reads as true or false."""

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,99})", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?([0-9]{1,99}\.[0-9]{0,99}|\.[0-9]{1,99}|[0-9]{1,99}(?=e))(e[+-]?[0-9]{1,9})?", re.I | re.ASCII
)
_TEXT = re.compile(r"(?!(null|nan|inf)$)[a-z_/][\w./@-]*", re.I | re.ASCII)


def check_plain(key: Key, text: str) -> None:
    """Check a value as it was typed, if Hydra's grammar reads it as one number or one word. Any other value is checked
    when the config is composed.

    Raises:
        UserError: the option does not accept the value.
    """
    value: int | float | bool | str
    if _INTEGER.fullmatch(text):
        value = int(text)
    elif _NUMBER.fullmatch(text):
        value = float(text)
    elif text.lower() in ("true", "false"):
        value = text.lower() == "true"
    elif _TEXT.fullmatch(text):
        value = text
    else:
        return
    check_word(key, [value] if key.many else value)


def check_word(key: Key, value: Any) -> None:
    """Raise UserError for a value, as Hydra parsed it, that `key` does not accept.

    A value with `${…}` is resolved only later, and checked then.
    """
    if value is None:
        if not key.optional:
            raise UserError(f"{key.name}=null: a value is needed ({key.text})")
        return
    if isinstance(value, str) and "${" in value:
        return
    if key.many != isinstance(value, list) or isinstance(value, dict):
        form = f"is a list: write {key.name}=a,b" if key.many else f"takes one value, not {word_of(value)}"
        raise UserError(f"{key.name} {form} ({key.text})")
    items = value if key.many else [value]
    for item in items:
        _check_type(key, item)
    if key.kind is str:
        items = [str(item) for item in items]
    check_value(key, items if key.many else items[0])


def _check_type(key: Key, value: Any) -> None:
    if key.kind is str:
        fits = isinstance(value, str | int | float)
    elif key.kind is bool:  # OmegaConf would read 2 and 1e300 as true
        fits = isinstance(value, bool) or value in (0, 1) or (isinstance(value, str) and value.lower() in BOOLEANS)
    else:
        fits = _is_number(key.kind, value)
    if not fits:
        raise UserError(f"{key.name}={word_of(value)} is not {NUMBERS.get(key.kind, 'a text')} ({key.text})")


def _is_number(kind: type, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if isinstance(value, float) and kind is int:
        return not (math.isfinite(value) and abs(value) < 1e15)  # the check of bounds explains the others better
    try:
        kind(value)
    except (ValueError, OverflowError):
        return False
    return True


def word_of(value: Any) -> str:
    """A value as the user wrote it."""
    return "null" if value is None else shown(value)
