"""Files from the web: with a checksum, in parts that go on, and never half of one in place."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ..core.errors import UserError
from ..core.progress import line_now_and_then
from ..core.screen import Console

BLOCK = 1 << 20
"""Bytes read at a time."""

MOST = 2 << 30
"""Bytes of a file: the largest published one has a quarter of that."""


class _TooLarge(Exception):
    """A file of more bytes than there are to take."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to other https addresses, and from http to http: to nothing else that may be asked."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ("https:",) if req.full_url.lower().startswith("https:") else ("https:", "http:")
        if not newurl.lower().startswith(allowed):
            raise urllib.error.URLError(f"the server leads to {newurl}, and {' or '.join(allowed)}// alone is followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """What opens http and https addresses, and no others: no ftp, file or data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler, _Redirects,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def fetch(url: str, part: Path, sha256: str, timeout: float) -> None:
    """Fetch `url` to the file `part`, which goes on where it ends if it is there. `timeout`: of a silence (s).

    Raises:
        UserError: the address cannot be read, the connection breaks off (the part is kept), the server leads to other
            than http or https, or the file is larger than `MOST` or its checksum another one (the part is removed).
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
    except _TooLarge as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{url}: {error}: it is another file than expected, and not kept") from None
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
    with _opener().open(request, timeout=timeout) as answer:
        begin = begin if answer.status == 206 else 0  # a server that cannot go on sends all of it
        length = answer.headers.get("Content-Length") or ""
        total = begin + int(length) if length.isascii() and length.isdigit() else None
        if total is not None and total > MOST:
            raise _TooLarge(f"it has {total} bytes, more than {MOST}")
        columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with part.open("ab" if begin else "wb") as file, Progress(
            *columns, console=console, disable=not console.is_terminal
        ) as progress:  # fmt: skip
            bar = progress.add_task("", total=total, completed=begin)
            say, of = line_now_and_then(console), f" of {total >> 20}" if total else ""
            while block := answer.read(BLOCK):
                if file.tell() + len(block) > MOST:
                    raise _TooLarge(f"it has more than {MOST} bytes")
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
