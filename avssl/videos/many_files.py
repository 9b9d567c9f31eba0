"""The files below a folder, sorted, in constant memory: many of them are sorted on disk and mapped into memory."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, overload

import pyarrow as pa

from ..core.errors import UserError
from ..core.mapped_rows import Column, read_mapped
from ..core.tables import block_writer
from .merge import merge_tables

IN_MEMORY = 1_000_000
"""Most files that are kept as Python objects, of some 300 bytes each."""

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])


class File(NamedTuple):
    """A file below the root; `path` is relative to it, with forward slashes. A tuple, to save memory for many files."""

    path: str
    size: int
    mtime_ns: int


class ManyFiles(Sequence[File]):
    """Files of a mapped table, made one by one as they are asked for. `folder` contains the table until the end."""

    def __init__(self, rows: pa.Table, folder: TemporaryDirectory[str]):
        self.paths: Column[str] = Column(rows["path"])
        self.sizes: Column[int] = Column(rows["size"])
        self.times: Column[int] = Column(rows["mtime_ns"])
        self.folder = folder

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> File: ...
    @overload
    def __getitem__(self, place: slice) -> list[File]: ...
    def __getitem__(self, place: int | slice) -> File | list[File]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return File(self.paths[place], self.sizes[place], self.times[place])

    def __iter__(self) -> Iterator[File]:
        return map(File, self.paths, self.sizes, self.times)


def sorted_files(files: Iterable[File]) -> Sequence[File]:
    """The files, sorted by path: a list, or `ManyFiles` if there are more than `IN_MEMORY`."""
    run: list[File] = []
    folder: TemporaryDirectory[str] | None = None
    tables: list[Path] = []
    for file in files:
        run.append(file)
        if len(run) >= IN_MEMORY:
            folder = folder or TemporaryDirectory(prefix="avssl_files_")
            tables.append(_write(run, Path(folder.name) / f"{len(tables)}.parquet"))
            run.clear()
    if folder is None:
        return sorted(run)
    tables.append(_write(run, Path(folder.name) / f"{len(tables)}.parquet"))
    whole = Path(folder.name) / "all.parquet"
    merge_tables(tables, whole, SCHEMA)
    for table in tables:
        table.unlink()
    rows = read_mapped(whole, SCHEMA)
    if rows is None:
        raise UserError(f"{folder.name} has no room for the list of files: set TMPDIR to a folder with more space")
    whole.unlink()
    return ManyFiles(rows, folder)


def _write(run: list[File], path: Path) -> Path:
    run.sort()
    with block_writer(path, SCHEMA) as add:
        columns = zip(*run, strict=True) if run else ((), (), ())
        add(pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA))
    return path
