"""Output on the terminal. Control characters in untrusted text are escaped."""

import os
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from .printable import BIDI as BIDI
from .printable import STEERING, printable
from .printable import one_line as one_line
from .printable import prepare_streams as prepare_streams
from .printable import unsigned_zero as unsigned_zero
from .printable import warn as warn
from .verbosity import is_quiet


class Console(rich.console.Console):
    """rich's console, which sends only its own control sequences, because those in the text are escaped. It does not
    turn names such as `:x:` into emoji, which rich's `escape` would allow."""

    def __init__(self, **options: Any):
        super().__init__(**{"emoji": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not STEERING.search(segment.text):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

    def note(self, text: str) -> None:
        """Print a line beside the results: what begins, or which command comes next. Not when quiet."""
        if not is_quiet():
            self.print(text, soft_wrap=True, markup=False)

    def on_broken_pipe(self) -> None:
        """Continue silently if the reader of the output has ended, as in `avssl … | head`."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
