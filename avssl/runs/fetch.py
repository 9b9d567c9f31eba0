"""Download files: with a checksum, with resume, and without ever leaving half a file in place."""

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ..core.checkpoint_file import file_sha256
from ..core.errors import UserError
from ..core.progress import line_now_and_then
from ..core.screen import Console
from ..core.verbosity import is_quiet

BLOCK = 1 << 20
"""Bytes read at a time."""

MAX_BYTES = 2 << 30
"""Size limit of a file; the largest published one has a quarter of this."""


class _TooLarge(Exception):
    """The file is larger than `MAX_BYTES`."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and from http to http, but to no other scheme."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ("https:",) if req.full_url.lower().startswith("https:") else ("https:", "http:")
        if not newurl.lower().startswith(allowed):
            raise urllib.error.URLError(
                f"the server redirects to {newurl}: only redirects to {' and '.join(allowed)} are followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener of http and https addresses, which rejects others, such as ftp, file and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler, _Redirects,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def fetch(url: str, part: Path, sha256: str, timeout: float) -> None:
    """Fetch `url` to the file `part`; if `part` exists, the download is resumed at its end.

    Args:
        url: an http or https address.
        part: the file to write.
        sha256: the expected checksum, in hexadecimal.
        timeout: longest wait for the server, s.

    Raises:
        UserError: the address cannot be read, the connection breaks (the part is kept), the server redirects to another
            scheme, or the file is larger than `MAX_BYTES` or has the wrong checksum (the part is removed).
    """
    if not url.startswith(("https://", "http://")):
        raise UserError(f"url={url} is not an http or https address")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {part.parent} ({error.strerror}): set AVSSL_CACHE to another folder"
        ) from None
    begin = part.stat().st_size if part.exists() else 0
    try:
        _stream(url, part, begin, timeout)
    except _TooLarge as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{url}: {error}, so it is not the expected file, and was removed") from None
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing follows the part, which is complete or another file
            raise UserError(
                f"{url}: the server answered {error.code} {error.reason}: give another address with url=…"
            ) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise UserError(f"url={url} is not the address of a file ({error})") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        why = getattr(error, "reason", None) or error
        raise UserError(
            f"{url}: {why or type(error).__name__}; repeat the command to resume, "
            f"or download the file yourself and run `avssl models convert`"
        ) from None
    checksum = file_sha256(part)
    if checksum != sha256.lower():
        part.unlink()
        raise UserError(
            f"{url} has sha256 {checksum}, not {sha256.lower()}, so it is not the expected file, and was removed"
        )


def _stream(url: str, part: Path, begin: int, timeout: float) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    with _opener().open(request, timeout=timeout) as answer:
        begin = begin if answer.status == 206 else 0  # a server without support for ranges sends the whole file
        length = answer.headers.get("Content-Length") or ""
        total = begin + int(length) if length.isascii() and length.isdigit() else None
        if total is not None and total > MAX_BYTES:
            raise _TooLarge(f"it has {total} bytes, more than {MAX_BYTES}")
        columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with part.open("ab" if begin else "wb") as file, Progress(
            *columns, console=console, disable=not console.is_terminal or is_quiet()
        ) as progress:  # fmt: skip
            bar = progress.add_task("", total=total, completed=begin)
            say, of_total = line_now_and_then(console), f" of {total >> 20}" if total else ""
            while block := answer.read(BLOCK):
                if file.tell() + len(block) > MAX_BYTES:
                    raise _TooLarge(f"it has more than {MAX_BYTES} bytes")
                file.write(block)
                progress.advance(bar, len(block))
                say(f"fetching: {file.tell() >> 20}{of_total} MiB")
            received = file.tell()
    if total is not None and received < total:
        raise http.client.HTTPException(f"the connection broke after {received} of {total} bytes")
