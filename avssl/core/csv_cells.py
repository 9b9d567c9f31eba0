"""Texts in the cells of CSV files, which spreadsheets take for formulas where they begin as one.

A text that begins with `=`, `+`, `-`, `@` (or their full-width forms), a tab or a line end gets an apostrophe before
it, as spreadsheets have it for "this is text"; one that begins with apostrophes and then such a character gets one
more, so that `unquoted` brings every text back. Numbers stay as they are.
"""

import re
from collections.abc import Iterable
from typing import Any

STARTS = "=+\\-@\t\r\n＝＋－＠"
FORMULA = f"^'*[{STARTS}]"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
"""Both for Python and for Arrow (RE2)."""

_FORMULA, _QUOTED, _NUMBER = re.compile(FORMULA), re.compile(f"^'+[{STARTS}]"), re.compile(NUMBER)


def quoted(text: str) -> str:
    """A text as a cell holds it."""
    return f"'{text}" if _FORMULA.match(text) and not (_NUMBER.match(text) and text[-1] != "\n") else text


def unquoted(cell: str) -> str:
    """The text of a cell that `quoted` made; other cells are as they are."""
    return cell[1:] if _QUOTED.match(cell) else cell


def quoted_row(cells: Iterable[Any]) -> list[Any]:
    """A row for `csv.writer`: its texts quoted, numbers left."""
    return [quoted(cell) if isinstance(cell, str) else cell for cell in cells]


def quoted_table(table: Any) -> Any:
    """A `pyarrow.Table` for a CSV file: its columns of texts quoted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, column in enumerate(table.columns):
        if not pa.types.is_string(column.type):
            continue
        risky = pc.and_(pc.match_substring_regex(column, FORMULA), pc.invert(pc.match_substring_regex(column, NUMBER)))
        if pc.any(risky).as_py():
            safe = pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)
            table = table.set_column(place, table.schema.field(place), safe)
    return table
