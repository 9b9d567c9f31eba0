"""The targets of an evaluation: the class in the index, or a column of a table of labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..core.csv_cells import unquoted
from ..core.errors import UserError
from ..core.text import read_cells, shown


def read_attributes(rows: pa.Table, names: Sequence[str], table: str | Path | None) -> dict[str, np.ndarray]:
    """Read columns of labels.

    Args:
        rows: N rows of an index.
        names: the columns; "class" is that of the index, others are columns of `table`.
        table: a CSV with a column `path`, with paths as in the index.

    Returns:
        Labels by column, str [N], "" for a video without one.

    Raises:
        UserError: the table or a column is missing.
    """
    columns: dict[str, np.ndarray] = {}
    by_path: dict[str, dict[str, str]] | None = None
    for name in names:
        if name == "class":
            columns[name] = np.array([c or "" for c in rows["class"].to_pylist()])
            continue
        if by_path is None:
            by_path = _read(table, name)
        header = next(iter(by_path.values()), {})
        if name not in header:
            raise UserError(f"{table} has no column {name}: it has {', '.join(header) or 'no rows'}")
        columns[name] = np.array([by_path.get(path, {}).get(name) or "" for path in rows["path"].to_pylist()])
    return columns


def _read(table: str | Path | None, name: str) -> dict[str, dict[str, str]]:
    if table is None or not Path(table).is_file():
        raise UserError(
            f"columns={name} needs a table of labels, {table or 'labels=…'}: a CSV with the columns path, {name}"
        )
    header: list[str] = []
    by_path: dict[str, dict[str, str]] = {}
    for _, row in read_cells(table):
        cells = [unquoted(cell) for cell in row]
        if not header:
            header = [cell.strip() for cell in cells]
            if "path" not in header:
                raise UserError(f"{table} has no column path: its columns are {shown(', '.join(header), 200)}")
            continue
        labels = dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
        by_path[labels["path"]] = labels
    return by_path
