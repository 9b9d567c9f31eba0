"""How an option is declared: a dataclass field with what `avssl <command> --help` prints of it."""

from dataclasses import field
from typing import Any


def option(default: Any, text: str, unit: str = "", choices: str = "", minimum: float | None = None) -> Any:
    """A dataclass field with a help line, a unit, its allowed values ("a b c") or its minimum."""
    metadata = {"help": text, "unit": unit, "choices": choices.split(), "minimum": minimum}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type, text: str) -> Any:
    """A nested dataclass with a heading in the help."""
    return field(default_factory=kind, metadata={"help": text})


def description(kind: type) -> Any:
    """A nested dataclass that a data set's file fills in, and that is no option."""
    return field(default_factory=kind, metadata={"description": True})
