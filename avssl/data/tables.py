"""Tables written row by row: what is in memory is one row group."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ..atomic import atomic_path

GROUP = 20_000
"""Rows in a row group."""


@contextmanager
def table_writer(
    path: str | Path, schema: pa.Schema, csv: str | Path | None = None
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that adds a row to the Parquet file `path`, and to the CSV file of the same.

    Both take their places when the block ends, and neither when it fails. Raises UserError as `atomic_path` does.
    """
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        parquet = stack.enter_context(pq.ParquetWriter(stack.enter_context(atomic_path(path)), schema))
        sheet = None
        if csv is not None:
            sheet = stack.enter_context(pyarrow.csv.CSVWriter(stack.enter_context(atomic_path(csv)), schema))

        def flush() -> None:
            table = pa.Table.from_pylist(rows, schema)
            parquet.write_table(table)
            if sheet is not None:
                sheet.write_table(table)
            rows.clear()

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            if len(rows) >= GROUP:
                flush()

        yield add
        flush()
