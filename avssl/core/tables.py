"""Parquet tables: written with one row group in memory, and checked as they are read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from .atomic import atomic_path, naming
from .csv_cells import quoted_table
from .errors import UserError
from .safe_paths import strays
from .untrusted import check_file

MAX_TEXT_BYTES = 1 << 14
"""Longest text in a table; a path has at most 4096 bytes."""

Limits = Mapping[str, tuple[float, float]]
"""The minimum and the maximum of columns whose numbers must not be missing."""

NO_LIMITS: Limits = {}

ROWS_PER_GROUP = 20_000
"""Rows per row group of Parquet."""


@contextmanager
def table_writer(
    path: str | Path, schema: pa.Schema, csv: str | Path | None = None
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A context that yields a function, which adds a row to the Parquet file `path` and to the CSV file `csv`.

    Both files appear when the block ends, and neither when it fails. Raises UserError as `atomic_path` does.
    """
    rows: list[dict[str, Any]] = []
    with _groups(path, schema, csv) as write:

        def flush() -> None:
            write(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            if len(rows) >= ROWS_PER_GROUP:
                flush()

        yield add
        flush()


@contextmanager
def block_writer(
    path: str | Path, schema: pa.Schema, csv: str | Path | None = None, rows_per_group: int | None = None
) -> Iterator[Callable[[pa.Table], None]]:
    """As `table_writer`, for blocks of any number of rows. The files are the same, byte for byte."""
    held: list[pa.Table] = []
    size = rows_per_group or ROWS_PER_GROUP
    with _groups(path, schema, csv) as write:

        def flush(last: bool) -> None:
            rows = pa.concat_tables([schema.empty_table(), *held])
            groups = len(rows) // size
            for group in range(groups):
                write(rows.slice(group * size, size).combine_chunks())
            rest = rows.slice(groups * size).combine_chunks()
            held[:] = [] if last else [rest]
            if last:
                write(rest)

        def add(block: pa.Table) -> None:
            held.append(block)
            if sum(map(len, held)) >= size:
                flush(last=False)

        yield add
        flush(last=True)


@contextmanager
def _groups(path: str | Path, schema: pa.Schema, csv: str | Path | None) -> Iterator[Callable[[pa.Table], None]]:
    """A context that yields a function, which writes a row group to both files."""
    with ExitStack() as stack:
        parquet = stack.enter_context(pq.ParquetWriter(stack.enter_context(atomic_path(path)), schema))
        sheet = None
        if csv is not None:
            sheet = stack.enter_context(pyarrow.csv.CSVWriter(stack.enter_context(atomic_path(csv)), schema))

        def write(table: pa.Table) -> None:
            with naming(path):
                parquet.write_table(table)
            if sheet is not None and csv is not None:
                with naming(csv):
                    sheet.write_table(quoted_table(table))

        yield write


def open_table(path: str | Path, schema: pa.Schema) -> pq.ParquetFile:
    """An open Parquet file with the columns of `schema`. Check its rows with `checked_rows`, and close it.

    Texts are read as dictionaries, so that a repeated text takes memory only once.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is not a Parquet file, lacks a column, has a column of another type, or claims more rows than its
            size allows.
    """
    size = check_file(path)
    with parquet_errors(path):
        stored = pq.read_schema(path)
        for f in schema:
            if f.name not in stored.names:
                raise UserError(f"{path} has no column {f.name}")
            if stored.names.count(f.name) > 1 or not _fits(stored.field(f.name).type, f.type):
                raise UserError(f"{path}: the column {f.name} is not {f.type}")
        file = pq.ParquetFile(path, read_dictionary=[f.name for f in schema if _is_text(f.type)])
        try:
            if file.metadata.num_rows > max(100_000, size):
                raise UserError(f"{path} claims {file.metadata.num_rows} rows in {size} bytes: it is damaged")
        except BaseException:
            file.close()
            raise
        return file


@contextmanager
def parquet_errors(path: str | Path) -> Iterator[None]:
    """Turn errors of the Parquet reader into a UserError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read ({why[:200]})") from None


def read_rows(path: str | Path, schema: pa.Schema, needed: Sequence[str] = (), limits: Limits = NO_LIMITS) -> pa.Table:
    """The checked columns of `schema` of a whole Parquet file. Raises the errors of `open_table` and `checked_rows`."""
    with open_table(path, schema) as file, parquet_errors(path):
        return checked_rows(file.read(schema.names, use_threads=False), schema, path, needed, limits)


def checked_rows(
    table: pa.Table, schema: pa.Schema, where: str | Path, needed: Sequence[str] = (), limits: Limits = NO_LIMITS
) -> pa.Table:
    """The columns of `schema`, checked.

    Args:
        table: rows read from a file that `open_table` opened.
        schema: the columns and their types.
        where: the file, for messages.
        needed: columns whose values must not be missing.
        limits: bounds of columns, whose values must not be missing either.

    Raises:
        UserError: a text is too long, a value of `needed` or `limits` is missing, or a number is NaN, infinite or out
            of its limits.
    """
    room = max(64 << 20, 100 * check_file(where))
    columns = []
    for f in schema:
        column = table[f.name]
        if _is_text(f.type):
            room -= _bytes_of(column, f.name, where)
            if room < 0:
                raise UserError(f"{where}: the column {f.name} is too large for its file")
        columns.append(column.cast(f.type))
        if column.null_count and (f.name in needed or f.name in limits):
            raise UserError(f"{where}: {f.name} is missing in {column.null_count} rows")
        if f.name in limits and len(column):
            low, high = limits[f.name]
            fits = pc.and_(pc.greater_equal(columns[-1], low), pc.less_equal(columns[-1], high))  # false for NaN
            if not pc.all(fits).as_py():
                wrong = columns[-1].filter(pc.invert(fits))[0].as_py()
                raise UserError(f"{where}: {f.name} is {wrong}, but must be from {low:g} to {high:g}")
    return pa.table(columns, schema=schema)


def check_paths(paths: pa.ChunkedArray, where: str | Path) -> None:
    """Raise UserError for a path that does not stay below the folder that it is relative to."""
    wrong = paths.filter(pc.match_substring_regex(paths, r"^/|(^|/)\.\.(/|$)|\x00|/$|^[./]*$"))
    if len(wrong):
        raise UserError(f"{where}: the path {wrong[0].as_py()!r} {strays(wrong[0].as_py())}")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _fits(stored: pa.DataType, expected: pa.DataType) -> bool:
    """Whether a column has the expected type, or a narrower or wider type of the same kind."""
    if _is_text(expected):
        return _is_text(stored)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return stored == expected or any(is_kind(stored) and is_kind(expected) for is_kind in kinds)


def _bytes_of(column: pa.ChunkedArray, name: str, where: str | Path) -> int:
    """The bytes of all texts of a column that was read as dictionaries. Raises UserError if a text is too long."""
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary)
        if (pc.max(lengths).as_py() or 0) > MAX_TEXT_BYTES:
            raise UserError(f"{where}: a text of more than {MAX_TEXT_BYTES} bytes in the column {name}")
        total += pc.sum(pc.take(lengths, chunk.indices)).as_py() or 0
    return total
