"""Files from the web: with a checksum, in parts that go on, and never half of one in place."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ..errors import UserError
from ..progress import line_now_and_then

BLOCK = 1 << 20
"""Bytes read at a time."""


def fetch(url: str, part: Path, sha256: str, timeout: float) -> None:
    """Fetch `url` to the file `part`, which goes on where it ends if it is there. `timeout`: of a silence (s).

    Raises:
        UserError: the address cannot be read, the connection breaks off (the part is kept), or the file's checksum is
            another one (the part is removed).
    """
    if not url.startswith(("https://", "http://")):
        raise UserError(f"url={url}: an http or https address is needed")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {part.parent}: {error.strerror}; AVSSL_CACHE names another") from None
    begin = part.stat().st_size if part.exists() else 0
    try:
        _stream(url, part, begin, timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing after what is there: it is whole, or it is another file
            raise UserError(
                f"{url}: the server says {error.code} {error.reason}; give another address as url=…"
            ) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise UserError(f"url={url}: no address of a file ({error})") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        why = getattr(error, "reason", None) or error
        raise UserError(
            f"{url}: {why or type(error).__name__}; the same command goes on, "
            f"and avssl models convert takes a file that was fetched otherwise"
        ) from None
    found = file_sha256(part)
    if found != sha256.lower():
        part.unlink()
        raise UserError(
            f"{url} has sha256 {found}, not {sha256.lower()}: it is another file than expected, and removed"
        )


def _stream(url: str, part: Path, begin: int, timeout: float) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        begin = begin if answer.status == 206 else 0  # a server that cannot go on sends all of it
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length else None
        columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with part.open("ab" if begin else "wb") as file, Progress(
            *columns, console=console, disable=not console.is_terminal
        ) as progress:  # fmt: skip
            bar = progress.add_task("", total=total, completed=begin)
            say, of = line_now_and_then(console), f" of {total >> 20}" if total else ""
            while block := answer.read(BLOCK):
                file.write(block)
                progress.advance(bar, len(block))
                say(f"fetching: {file.tell() >> 20}{of} MiB")
            got = file.tell()
    if total is not None and got < total:
        raise http.client.HTTPException(f"the connection broke off after {got} of {total} bytes")


def file_sha256(path: Path) -> str:
    """In hexadecimal."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
