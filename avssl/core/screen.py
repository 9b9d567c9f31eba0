"""Output on the terminal. Control characters in untrusted text are escaped."""

import os
import re
import sys
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from .errors import UserError

BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Characters that reverse the direction of the text after them, and so can disguise a name."""

_STEERING = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{BIDI}\ud800-\udfff]")
_ALL = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029{BIDI}\ud800-\udfff]")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def printable(text: object) -> str:
    """Text with control characters, changes of direction and lone surrogates escaped; line ends and tabs stay."""
    return _STEERING.sub(_escaped, str(text))


def one_line(text: object) -> str:
    """`printable` on one line: line ends and tabs are escaped too. For names, and for untrusted text in messages."""
    return _ALL.sub(_escaped, str(text))


def warn(text: object) -> None:
    """Print a message on standard error, on one line, whatever its names contain."""
    print(f"avssl: {one_line(text)}", file=sys.stderr, flush=True)


class Console(rich.console.Console):
    """rich's console, which sends only its own control sequences, because those in the text are escaped. It does not
    turn names such as `:x:` into emoji, which rich's `escape` would allow."""

    def __init__(self, **options: Any):
        super().__init__(**{"emoji": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not _STEERING.search(segment.text):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Continue silently if the reader of the output has ended, as in `avssl … | head`."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def prepare_streams() -> None:
    """Make standard output and error escape characters that their encoding lacks; by default they raise an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def check_working_folder() -> None:
    """Raise UserError if the working folder was removed, because relative paths then have no meaning."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working folder was removed: cd to a folder that exists") from None


def unsigned_zero(number: str) -> str:
    """A number as text, without the minus sign of a rounded zero: 0.0 for -0.0."""
    return number.removeprefix("-") if number.startswith("-") and not number.strip("-0.") else number
