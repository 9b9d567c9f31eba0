"""Texts in the cells of CSV files, quoted so that no spreadsheet runs them as a formula.

Spreadsheets take a text that begins with `=`, `+`, `-`, `@` (or their full-width forms), a tab or a line end for a
formula. Such a text is prefixed with an apostrophe, which spreadsheets read as "this is text". If apostrophes already
precede such a character, one more is added, so that `unquoted` restores every text. Numbers do not change.
"""

import re
from collections.abc import Iterable
from typing import Any

STARTS = "=+\\-@\t\r\n＝＋－＠"
FORMULA = f"^'*[{STARTS}]"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
"""`FORMULA` and `NUMBER` work in Python and in Arrow (RE2)."""

_FORMULA, _QUOTED, _NUMBER = re.compile(FORMULA), re.compile(f"^'+[{STARTS}]"), re.compile(NUMBER)


def quoted(text: str) -> str:
    """The content of a cell with a text."""
    return f"'{text}" if _FORMULA.match(text) and not (_NUMBER.match(text) and text[-1] != "\n") else text


def unquoted(cell: str) -> str:
    """The text of a cell that `quoted` wrote; other cells do not change."""
    return cell[1:] if _QUOTED.match(cell) else cell


def quoted_row(cells: Iterable[Any]) -> list[Any]:
    """A row for `csv.writer` with its texts quoted."""
    return [quoted(cell) if isinstance(cell, str) else cell for cell in cells]


def quoted_table(table: Any) -> Any:
    """A `pyarrow.Table` for a CSV file with its text columns quoted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for number, column in enumerate(table.columns):
        if not pa.types.is_string(column.type):
            continue
        risky = pc.and_(pc.match_substring_regex(column, FORMULA), pc.invert(pc.match_substring_regex(column, NUMBER)))
        if pc.any(risky).as_py():
            safe = pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)
            table = table.set_column(number, table.schema.field(number), safe)
    return table
