"""Lines of text files in common encodings: UTF-8 with or without a mark, UTF-16, UTF-32, or a Western code page."""

import codecs
import csv
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from .errors import UserError

MAX_LINE = 1 << 20
"""Most characters of a line; a file with a longer line is not a table."""

BLOCK = 1 << 20
"""Bytes read at a time."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins the same
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file with their line ends, in any encoding of `find_encoding`; one is in memory at a time.

    Raises:
        UserError: it is not a file, cannot be read, is not text, or has a line of more than a million characters.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path} {'is a folder' if path.is_dir() else 'is not a file'}: give a text file")
        with path.open(encoding=find_encoding(path), newline="") as file:
            for number in count(1):
                line = file.readline(MAX_LINE + 1)
                if not line:
                    return
                if len(line) > MAX_LINE:
                    raise UserError(f"{path}, line {number}, is longer than {MAX_LINE:,} characters: it is not a table")
                if "\0" in line:
                    raise UserError(f"{path}, line {number}, contains NUL characters: save it as a text file in UTF-8")
                yield line
    except UnicodeError:
        raise UserError(f"{path} is not text in any known encoding: save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_cells(path: str | Path, blanks: bool = True) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of each row of a CSV file; empty rows are skipped.

    Args:
        path: the file.
        blanks: whether to keep the blanks around cells.

    Raises:
        UserError: the errors of `read_lines`, or the file is not CSV.
    """
    reader = csv.reader(read_lines(path), skipinitialspace=not blanks)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row if blanks else [cell.strip() for cell in row]
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file ({error})") from None


def find_encoding(path: Path) -> str:
    """The encoding of a text file. Raises OSError if it cannot be read.

    A byte-order mark decides, then NULs (UTF-16), then whether all bytes are UTF-8. Otherwise it is Windows' Western
    code page, or Latin-1.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        for mark, encoding in MARKS:
            if start.startswith(mark):
                return encoding
        if b"\0" in start:
            return _wide(start)
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := file.read(BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252" if _decodes(path, "cp1252") else "latin-1"
    return "utf-8"


def _wide(start: bytes) -> str:
    """The encoding of text that has NULs but no mark: in Western UTF-16 text every second byte is zero."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    if odd > 0.3 * len(start) / 2 and even < 0.05 * len(start) / 2:
        return "utf-16-le"
    if even > 0.3 * len(start) / 2 and odd < 0.05 * len(start) / 2:
        return "utf-16-be"
    return "utf-8"  # `read_lines` rejects its NULs


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while block := file.read(BLOCK):
                decoder.decode(block)
        except UnicodeDecodeError:
            return False
    return True


def shown(text: str, max_length: int = 80) -> str:
    """Text from a file, for a message: cut to `max_length`, with control characters escaped."""
    text = text if len(text) <= max_length else text[: max_length - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
