"""How much a command prints: `-q` for results and errors alone, `-v` for reasons too.

It is kept in an environment variable, so that the processes that a command starts print as much as it does.
"""

import os

VARIABLE = "AVSSL_VERBOSITY"
"""Holds `quiet` or `verbose`; anything else, or nothing, is the usual amount."""

LEVELS = ("quiet", "verbose")


def is_quiet() -> bool:
    """Are only results and errors printed, without progress and notes?"""
    return os.environ.get(VARIABLE) == "quiet"


def is_verbose() -> bool:
    """Are reasons and details printed too?"""
    return os.environ.get(VARIABLE) == "verbose"


def set_verbosity(level: str) -> None:
    """Print as `level` says from now on, in this process and in those that it starts.

    Args:
        level: `quiet`, `verbose`, or an empty text for the usual amount.
    """
    if level in LEVELS:
        os.environ[VARIABLE] = level
    else:
        os.environ.pop(VARIABLE, None)
