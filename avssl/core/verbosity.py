"""How much a command prints: with `-q` only results and errors, with `-v` reasons too.

It is kept in an environment variable, so that the processes that a command starts print as much as it does.
"""

import os

VARIABLE = "AVSSL_VERBOSITY"
"""Its value is `quiet` or `verbose`; any other value, or none, is the usual amount."""

LEVELS = ("quiet", "verbose")


def is_quiet() -> bool:
    """Whether only results and errors are printed, without progress and notes."""
    return os.environ.get(VARIABLE) == "quiet"


def is_verbose() -> bool:
    """Whether reasons and details are printed too."""
    return os.environ.get(VARIABLE) == "verbose"


def set_verbosity(level: str) -> None:
    """Set how much this process, and those that it starts, print from now on.

    Args:
        level: `quiet`, `verbose`, or an empty text for the usual amount.
    """
    if level in LEVELS:
        os.environ[VARIABLE] = level
    else:
        os.environ.pop(VARIABLE, None)
