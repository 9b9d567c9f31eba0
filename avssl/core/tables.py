"""Tables written row by row, with one row group in memory; and tables of others, checked as they are read."""

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

LONGEST = 1 << 14
"""Bytes of a text in a table: a path has at most 4096."""

Limits = Mapping[str, tuple[float, float]]
"""The least and the most of the numbers in a column, which are all there then."""

NO_LIMITS: Limits = {}

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
            with naming(path):
                parquet.write_table(table)
            if sheet is not None and csv is not None:
                with naming(csv):
                    sheet.write_table(quoted_table(table))
            rows.clear()

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            if len(rows) >= GROUP:
                flush()

        yield add
        flush()


def open_table(path: str | Path, schema: pa.Schema) -> pq.ParquetFile:
    """A Parquet file that has the columns of `schema`, whoever wrote it: read parts of it, and check them with
    `checked_rows`. Close it.

    Texts are read as dictionaries, so that a few bytes that stand for many take no more memory than they should.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no Parquet file, lacks a column, has one of another type, or tells of more rows than it can
            have.
    """
    size = check_file(path)
    with parquet_errors(path):
        there = pq.read_schema(path)
        for f in schema:
            if f.name not in there.names:
                raise UserError(f"{path} has no column {f.name}")
            if there.names.count(f.name) > 1 or not _fits(there.field(f.name).type, f.type):
                raise UserError(f"{path}: the column {f.name} is not {f.type}")
        file = pq.ParquetFile(path, read_dictionary=[f.name for f in schema if _is_text(f.type)])
        try:
            if file.metadata.num_rows > max(100_000, size):
                raise UserError(f"{path} tells of {file.metadata.num_rows} rows in {size} bytes: it is damaged")
        except BaseException:
            file.close()
            raise
        return file


@contextmanager
def parquet_errors(path: str | Path) -> Iterator[None]:
    """Errors of the Parquet reader become a UserError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read ({why[:200]})") from None


def read_rows(path: str | Path, schema: pa.Schema, needed: Sequence[str] = (), limits: Limits = NO_LIMITS) -> pa.Table:
    """The columns of `schema` of a whole Parquet file, checked. Raises what `open_table` and `checked_rows` do."""
    with open_table(path, schema) as file, parquet_errors(path):
        return checked_rows(file.read(schema.names, use_threads=False), schema, path, needed, limits)


def checked_rows(
    table: pa.Table, schema: pa.Schema, where: str | Path, needed: Sequence[str] = (), limits: Limits = NO_LIMITS
) -> pa.Table:
    """The columns of `schema` of what was read of a file that `open_table` opened.

    Raises:
        UserError: a text is too long, a value of `needed` or `limits` is missing, or a number is not finite or out of
            its limits.
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
            least, most = limits[f.name]
            fits = pc.and_(pc.greater_equal(columns[-1], least), pc.less_equal(columns[-1], most))  # not of NaN
            if not pc.all(fits).as_py():
                wrong = columns[-1].filter(pc.invert(fits))[0].as_py()
                raise UserError(f"{where}: {f.name} is {wrong}, where {least:g} to {most:g} is possible")
    return pa.table(columns, schema=schema)


def check_paths(paths: pa.ChunkedArray, where: str | Path) -> None:
    """UserError for a path that does not lie below the folder that it is relative to."""
    wrong = paths.filter(pc.match_substring_regex(paths, r"^/|(^|/)\.\.(/|$)|\x00|/$|^[./]*$"))
    if len(wrong):
        raise UserError(f"{where}: the path {wrong[0].as_py()!r} {strays(wrong[0].as_py())}")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _fits(there: pa.DataType, wanted: pa.DataType) -> bool:
    """Is a column of the type that is wanted, or of a narrower or wider one of the same sort?"""
    if _is_text(wanted):
        return _is_text(there)
    sorts = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return there == wanted or any(sort(there) and sort(wanted) for sort in sorts)


def _bytes_of(column: pa.ChunkedArray, name: str, where: str | Path) -> int:
    """Of all texts of a column read as dictionaries. UserError where one is too long."""
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary)
        if (pc.max(lengths).as_py() or 0) > LONGEST:
            raise UserError(f"{where}: a text of more than {LONGEST} bytes in the column {name}")
        total += pc.sum(pc.take(lengths, chunk.indices)).as_py() or 0
    return total
