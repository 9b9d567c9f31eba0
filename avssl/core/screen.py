"""What is shown on a terminal: text of others without the characters that would steer it."""

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
"""Characters that turn the direction of what follows: they make a name look like another one."""

_STEERING = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{BIDI}\ud800-\udfff]")
_ALL = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029{BIDI}\ud800-\udfff]")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def printable(text: object) -> str:
    """Text with control characters, changes of direction and lone surrogates as escapes; line ends and tabs stay."""
    return _STEERING.sub(_escaped, str(text))


def one_line(text: object) -> str:
    """The same, on one line: for names, and for the words of others in a message."""
    return _ALL.sub(_escaped, str(text))


def warn(text: object) -> None:
    """A line of this command's own on standard error, whatever names of others are in it."""
    print(f"avssl: {one_line(text)}", file=sys.stderr, flush=True)


class Console(rich.console.Console):
    """rich's console, which sends nothing but its own control sequences: what is in the text is escaped."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not _STEERING.search(segment.text):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Whoever read what is printed has gone (`avssl … | head`): the work goes on to its end without a word."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def prepare_streams() -> None:
    """Let standard output and error escape what their encoding does not have, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def check_working_folder() -> None:
    """UserError where the working folder has been removed: relative paths mean nothing then."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working folder has been removed: cd to a folder that is there") from None


def unsigned_zero(number: str) -> str:
    """A number as text, without the minus of one that is rounded to nothing: 0.0 for -0.0."""
    return number.removeprefix("-") if number.startswith("-") and not number.strip("-0.") else number
