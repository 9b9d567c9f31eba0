"""Rows of a table that stay in Arrow's memory, or in a file that is mapped into memory, instead of Python objects.

A Python list of 10⁸ paths takes 10 GB in every process, because reading it changes its reference counts. The pages of
these columns are shared.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from operator import index
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .atomic import atomic_path
from .errors import UserError
from .screen import warn
from .tables import MAX_TEXT_BYTES, NO_LIMITS, Limits, checked_rows, open_table, parquet_errors

BLOCK = 65_536
"""Rows that are read and checked at a time."""

STAMP = b"avssl.copy_of"
"""The field of a copy's metadata with size and modification time of the Parquet file that it was made from."""

Value = TypeVar("Value", str, float, int)

Check = Callable[[pa.Table], None]

_mapped: dict[str, tuple[tuple[int, ...], pa.Table]] = {}
"""The files that this process has mapped: their identity, and their rows."""


class Column(Sequence[Value], Generic[Value]):
    """A column of a table as a sequence: an item is a Python value, a slice a list.

    A process that receives a column of a mapped file maps the file itself, so nothing but its name is sent.
    """

    def __init__(self, values: pa.ChunkedArray):
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> Value: ...
    @overload
    def __getitem__(self, place: slice) -> list[Value]: ...
    def __getitem__(self, place: int | slice) -> Value | list[Value]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step == 1:
                return self.values.slice(start, max(0, stop - start)).to_pylist()
            return [self[i] for i in range(start, stop, step)]
        return self.values[index(place)].as_py()

    def __iter__(self) -> Iterator[Value]:
        for chunk in self.values.chunks:
            for start in range(0, len(chunk), BLOCK):
                yield from chunk.slice(start, BLOCK).to_pylist()

    def blocks(self) -> Iterator[np.ndarray]:
        """The numbers, block by block, without a copy."""
        for chunk in self.values.chunks:
            yield chunk.to_numpy(zero_copy_only=False)

    def distinct(self) -> int:
        """The number of different values. A sorted column, such as the paths of an index, needs no table of them."""
        found, last = 0, None
        for chunk in self.values.chunks:
            if not len(chunk):
                continue
            before = chunk.slice(0, len(chunk) - 1)
            sorted_here = pc.all(pc.less_equal(before, chunk.slice(1)), min_count=0).as_py()
            first = chunk[0].as_py()
            if not sorted_here or (last is not None and first < last):
                return int(pc.count_distinct(self.values).as_py())
            found += (first != last) + (pc.sum(pc.not_equal(before, chunk.slice(1))).as_py() or 0)
            last = chunk[-1].as_py()
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        for path, (identity, rows) in _mapped.items():
            for name in rows.column_names:
                if _is_same(rows[name], self.values):
                    return _column_of, (path, identity, name)
        return Column, (self.values,)


def _is_same(mapped: pa.ChunkedArray, values: pa.ChunkedArray) -> bool:
    """Whether the values are a whole mapped column, and neither a part of it nor a copy."""
    if mapped.type != values.type or len(mapped) != len(values) or mapped.num_chunks != values.num_chunks:
        return False
    return all(_place(a) == _place(b) for a, b in zip(mapped.iterchunks(), values.iterchunks(), strict=True))


def _place(chunk: pa.Array) -> tuple[Any, ...]:
    return chunk.offset, len(chunk), *(b and b.address for b in chunk.buffers())


def _column_of(path: str, identity: tuple[int, ...], name: str) -> Column:
    if _identity(path) != identity:
        raise UserError(f"{path} has changed since this command began: run it again")
    return Column(map_rows(path)[name])


def _identity(path: str | Path) -> tuple[int, ...]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def map_rows(path: str | Path) -> pa.Table:
    """The rows of an Arrow file, mapped into memory. They must have been checked (`checked_copy`) or written here."""
    identity, key = _identity(path), str(Path(path).absolute())
    if key not in _mapped or _mapped[key][0] != identity:
        with pa.ipc.open_file(pa.memory_map(key)) as file:
            rows = file.read_all()
        _mapped[key] = identity, rows.replace_schema_metadata(None)
    return _mapped[key][1]


def copy_place(table: Path) -> Path:
    """The place of a table's Arrow copy: beside it, or, if nothing can be written there, in a folder of this user."""
    beside = table.with_suffix(".arrow")
    if beside.exists() or os.access(table.parent, os.W_OK):
        return beside
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"avssl-rows-{user}"
    with suppress(OSError):  # a file of that name, or a link to nothing
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != user:  # somebody else's
        folder = Path(tempfile.mkdtemp(prefix="avssl-rows-"))
    return folder / f"{sha256(str(table.resolve()).encode()).hexdigest()[:16]}.arrow"


def read_mapped(
    table: str | Path,
    schema: pa.Schema,
    needed: Sequence[str] = (),
    limits: Limits = NO_LIMITS,
    check: Check = lambda rows: None,
) -> pa.Table | None:
    """As `tables.read_rows`, with the rows in an Arrow copy of the Parquet file that is mapped into memory.

    The copy is made if there is none of this state of the file, and is checked as the file is.

    Args:
        table: the Parquet file.
        schema: the columns and their types.
        needed: columns whose values must not be missing.
        limits: bounds of columns.
        check: a further check of each block of rows; it raises UserError.

    Returns:
        The rows; None if the copy cannot be written, after a warning.

    Raises:
        The errors of `read_rows`.
    """
    table = Path(table)
    copy = copy_place(table)
    if not _is_checked_copy(copy, table, schema, needed, limits, check):
        try:
            with atomic_path(copy, sweep=True) as temporary:
                _write_copy(table, temporary, schema, needed, limits, check)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not table.exists():
                raise
            warn(f"{copy} cannot be written ({error.strerror}): every process reads {table} into its own memory")
            return None
    return map_rows(copy)


def _stamp(table: Path) -> bytes:
    status = table.stat()
    return f"{status.st_size} {status.st_mtime_ns}".encode()


def _write_copy(table: Path, to: Path, schema: pa.Schema, needed: Sequence[str], limits: Limits, check: Check) -> None:
    stamp, room = _stamp(table), _room(table)
    with open_table(table, schema) as file, parquet_errors(table):
        blocks = file.iter_batches(BLOCK, columns=schema.names, use_threads=False)
        with pa.ipc.new_file(to, schema.with_metadata({STAMP: stamp})) as writer:
            for block in blocks:
                rows = checked_rows(pa.Table.from_batches([block]), schema, table, needed, limits)
                check(rows)
                room -= rows.nbytes
                if room < 0:  # a few bytes of Parquet may stand for any number of long texts
                    raise UserError(f"{table} is too large when unpacked")
                writer.write_table(rows.combine_chunks())


def _room(table: Path) -> int:
    """Most bytes of a table's rows."""
    return max(1 << 30, 200 * table.stat().st_size)


def _is_checked_copy(
    copy: Path, table: Path, schema: pa.Schema, needed: Sequence[str], limits: Limits, check: Check
) -> bool:
    """Whether the file is a copy of this state of the table, and its rows are valid.

    It is read block by block and not mapped, so that the check leaves nothing in memory.
    """
    if not copy.is_file() or copy.is_symlink():
        return False
    room = copy.stat().st_size
    try:
        with pa.OSFile(str(copy)) as source, pa.ipc.open_file(source) as file:
            if not file.schema.equals(schema) or (file.schema.metadata or {}).get(STAMP) != _stamp(table):
                return False
            for number in range(file.num_record_batches):
                block = file.get_batch(number)
                block.validate(full=True)  # offsets of texts from somebody else may point anywhere
                room -= block.nbytes
                if room < 0:  # a mapped column would be unpacked into memory
                    raise ValueError("it is compressed")
                rows = pa.Table.from_batches([block])
                _check_block(rows, needed, limits)
                check(rows)
    except (pa.ArrowException, UserError, OSError, ValueError) as error:
        warn(f"{copy} is damaged, and is written again ({(str(error).splitlines() or [''])[0][:100]})")
        return False
    return True


def _check_block(rows: pa.Table, needed: Sequence[str], limits: Limits) -> None:
    """Raise ValueError for rows that `checked_rows` would reject."""
    for name in rows.column_names:
        values = rows[name]
        if values.null_count and (name in needed or name in limits):
            raise ValueError(f"{name} is missing")
        if pa.types.is_string(values.type) and (pc.max(pc.binary_length(values)).as_py() or 0) > MAX_TEXT_BYTES:
            raise ValueError(f"{name} is too long")
        if name in limits:
            low, high = limits[name]
            fits = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))  # false for NaN
            if not pc.all(fits, min_count=0).as_py():
                raise ValueError(f"{name} is out of range")
