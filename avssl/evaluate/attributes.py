"""Labels that videos are evaluated against: the class of the index, or any column of a table of labels."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..core.cells import unquoted
from ..errors import UserError


def read_attributes(rows: pa.Table, names: Sequence[str], table: str | Path | None) -> dict[str, np.ndarray]:
    """The columns `names` for the rows of an index: str [N] each, "" where a video has none.

    "class" is the index's own. Others are columns of `table`, a CSV with a column `path` as in the index. UserError
    for a table or column that is not there.
    """
    found: dict[str, np.ndarray] = {}
    by_path: dict[str, dict[str, str]] | None = None
    for name in names:
        if name == "class":
            found[name] = np.array([c or "" for c in rows["class"].to_pylist()])
            continue
        if by_path is None:
            by_path = _read(table, name)
        known = next(iter(by_path.values()), {})
        if name not in known:
            raise UserError(f"{table} has no column {name}: it has {', '.join(known) or 'no rows'}")
        found[name] = np.array([by_path.get(path, {}).get(name) or "" for path in rows["path"].to_pylist()])
    return found


def _read(table: str | Path | None, name: str) -> dict[str, dict[str, str]]:
    if table is None or not Path(table).is_file():
        raise UserError(
            f"columns={name} needs a table of labels, {table or 'labels=…'}: a CSV with the columns path, {name}"
        )
    try:
        with Path(table).open(newline="", encoding="utf-8-sig") as file:
            read = [
                {k: unquoted(v or "") for k, v in row.items() if k is not None}  # None: left over
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read: {str(error).splitlines()[0]}") from None
    if read and "path" not in read[0]:
        raise UserError(f"{table} has no column path: its columns are {', '.join(map(str, read[0]))}")
    return {row["path"]: row for row in read}
