"""`avssl open`: the page of a run's clusters in the browser. It imports neither torch nor NumPy, to be quick."""

import os
import shlex
import socket
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path

from ..config import OpenConfig
from ..config.explore import PAGE
from ..config.run_names import Wish, resolve_run, word_for
from ..core.errors import UserError
from ..core.screen import Console, one_line

PLACE = Path(PAGE)

WISH = Wish(file=PAGE)
"""Without a run, or where a word means several, it is the newest with a page."""

PORT = 8000


def run(config: OpenConfig) -> Path:
    """Open the page of a run in the browser, print its path, and return it.

    Raises:
        UserError: there is no such run, or it has no page yet.
    """
    folder = resolve_run(config.run, wish=WISH)
    page = folder / PLACE
    if not page.is_file():
        raise UserError(f"{folder} has no page yet: run `avssl clusters {word_for(folder)}` first")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"page: {one_line(page)}", markup=False)
    if not show_in_browser(page):
        console.print("no browser could be started: open this file in a browser", markup=False)
        if "SSH_CONNECTION" in os.environ:
            for line in remote_lines(page.parent):
                console.print(line, markup=False)
    return page


def show_in_browser(page: Path) -> bool:
    """Open a file in a browser with a window. False if there is no display, or no browser starts."""
    graphical = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if not graphical and not os.environ.get("BROWSER"):  # a browser in the terminal cannot show the page
        return False
    with suppress(OSError, webbrowser.Error):
        return webbrowser.open(page.resolve().as_uri())
    return False


def remote_lines(folder: Path) -> list[str]:
    """How to show a page of this machine on the user's own computer."""
    serve = f"{sys.executable} -m http.server {PORT} --bind 127.0.0.1 --directory {shlex.quote(str(folder))}"
    return [
        "to see it on your own computer, run these two commands and open the address:",
        f"  on this machine   {serve}",
        f"  on your computer  ssh -N -L {PORT}:localhost:{PORT} {socket.gethostname()}",
        f"  in its browser    http://localhost:{PORT}",
    ]


def open_words(run_folder: Path, page: Path) -> str:
    """How to open a new page: `open the page: avssl open`, or its path if that command opens another."""
    if page != run_folder / PLACE:
        return f"page: {page}"
    with suppress(UserError, OSError):
        if os.path.samefile(resolve_run("", wish=WISH), run_folder):
            return "open the page: avssl open"
    return f"open the page: avssl open {word_for(run_folder, wish=WISH)}"
