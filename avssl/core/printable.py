"""Text on a terminal, without rich: it takes longer to import than a refusal may take."""

import os
import re
import sys
from typing import IO, Any

from .errors import UserError
from .verbosity import is_quiet

BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Characters that reverse the direction of the text after them: they can make a name look like another one."""

STEERING = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{BIDI}\ud800-\udfff]")
_ALL = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029{BIDI}\ud800-\udfff]")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def printable(text: object) -> str:
    """Text whose control characters, changes of direction and lone surrogates are escaped; line ends and tabs stay."""
    return STEERING.sub(_escaped, str(text))


def one_line(text: object) -> str:
    """`printable` on one line, with line ends and tabs escaped too: for names, and texts from others in a message."""
    return _ALL.sub(_escaped, str(text))


def warn(text: object) -> None:
    """Print a message on standard error, always on one line, whatever names it contains; not when quiet."""
    if not is_quiet():
        print(f"avssl: {one_line(text)}", file=sys.stderr, flush=True)


def note(text: object) -> None:
    """Print a line that is no result, such as what begins now; not when quiet."""
    if not is_quiet():
        print(printable(text), flush=True)


def is_first_process() -> bool:
    """Whether this process of a run is the one that prints; known before torch knows its rank."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def prepare_streams() -> None:
    """Let standard output and error escape characters that their encoding lacks; by default they raise an error. A
    stream that is closed, as by `>&-`, discards what is written to it."""
    # Python sets a closed stream to None
    sys.stdout = open(os.devnull, "w", encoding="utf-8") if sys.stdout is None else sys.stdout  # noqa: SIM115
    sys.stderr = open(os.devnull, "w", encoding="utf-8") if sys.stderr is None else sys.stderr  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def has_colours(file: IO[str]) -> bool:
    """Whether text on this stream may have colours. `NO_COLOR` and `FORCE_COLOR` decide if they are set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return file.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def check_working_folder() -> None:
    """Raise UserError if the working folder was removed, because relative paths then have no meaning."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working folder was removed: cd to a folder that exists") from None


def unsigned_zero(number: str) -> str:
    """A number as text, without the minus sign of a rounded zero: 0.0 for -0.0."""
    return number.removeprefix("-") if number.startswith("-") and not number.strip("-0.") else number
