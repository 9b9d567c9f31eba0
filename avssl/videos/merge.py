"""Tables of the parts of an index, each sorted by path, merged into one in constant memory."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ..core.errors import UserError
from ..core.mapped_rows import Column
from ..core.tables import NO_LIMITS, ROWS_PER_GROUP, Limits, block_writer, checked_rows, open_table, parquet_errors

ROWS_HELD = 400_000
"""Rows of all parts together below which more are read; some 200 bytes each."""

PART_GROUP = 4096
"""Rows per row group that a part's table should have (`block_writer`), because a merge holds a row group of each."""


def merge_tables(
    parts: Sequence[str | Path],
    out: str | Path,
    schema: pa.Schema,
    needed: Sequence[str] = (),
    limits: Limits = NO_LIMITS,
    csv: str | Path | None = None,
) -> int:
    """Write the rows of tables, each sorted by its column `path`, into one Parquet file in the order of paths.

    The result is, byte for byte, what `table_writer` writes for all rows in this order. Rows with the same path, such
    as the windows of a video, keep their order, and must be in one part.

    Args:
        parts: Parquet files.
        out: the Parquet file to write.
        schema: the columns of all of them.
        needed: columns whose values must not be missing.
        limits: bounds of columns.
        csv: a CSV file to write as well.

    Returns:
        The number of rows.

    Raises:
        UserError: a part is missing, damaged or not sorted.
    """
    held = ROWS_HELD // max(1, len(parts))
    rows = 0
    with ExitStack() as stack:
        sources = [_Source(stack, path, schema, needed, limits, held) for path in parts]
        write = stack.enter_context(block_writer(out, schema, csv))
        while True:
            for source in sources:
                source.fill()
            ends = [source.last for source in sources if not source.exhausted and source.last is not None]
            bound = min(ends, default=None)
            taken = [block for source in sources if len(block := source.take(bound))]
            if not taken and bound is None:
                return rows
            block = pa.concat_tables(taken).combine_chunks()
            order = pc.sort_indices(block["path"])  # a stable sort
            for start in range(0, len(order), ROWS_PER_GROUP):  # so that there is no second copy of all
                write(block.take(order[start : start + ROWS_PER_GROUP]))
            rows += len(block)


class _Source:
    """The next rows of a part."""

    def __init__(
        self,
        stack: ExitStack,
        path: str | Path,
        schema: pa.Schema,
        needed: Sequence[str],
        limits: Limits,
        held: int,
    ):
        self.path, self.schema, self.needed, self.limits, self.held = path, schema, needed, limits, held
        try:
            file = stack.enter_context(open_table(path, schema))
        except FileNotFoundError:
            raise UserError(f"{path} is missing: run that part again") from None
        # row group by row group: between two batches of one, a reader would keep megabytes for each file
        self.blocks: Iterator[pa.Table] = (
            file.read_row_group(group, schema.names, use_threads=False) for group in range(file.num_row_groups)
        )
        self.rows = schema.empty_table()
        self.exhausted = False
        self.last: str | None = None

    def fill(self) -> None:
        """Read until enough rows are held, or the part is at its end."""
        while not self.exhausted and len(self.rows) <= self.held / 2:
            with parquet_errors(self.path):
                block = next(self.blocks, None)
            if block is None:
                self.exhausted = True
            elif len(block):
                rows = checked_rows(block, self.schema, self.path, self.needed, self.limits)
                self._check_order(rows["path"])
                self.rows = pa.concat_tables([self.rows, rows]).combine_chunks()
                self.last = rows["path"][-1].as_py()

    def _check_order(self, paths: pa.ChunkedArray) -> None:
        whole = paths.combine_chunks()
        in_order = pc.all(pc.less_equal(whole[:-1], whole[1:]), min_count=0).as_py()
        if paths.null_count or not in_order or (self.last is not None and whole[0].as_py() < self.last):
            raise UserError(f"{self.path} is not sorted by path: run that part again")

    def take(self, bound: str | None) -> pa.Table:
        """Remove the rows up to the path `bound`, or all, and return them."""
        number = len(self.rows) if bound is None else bisect_right(Column[str](self.rows["path"]), bound)
        taken, self.rows = self.rows.slice(0, number), self.rows.slice(number)
        return taken
