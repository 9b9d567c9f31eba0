"""Part tables merged into one: the same file that a single writer makes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.core import tables
from avssl.core.errors import UserError
from avssl.core.part import part_of, parts_of
from avssl.core.tables import block_writer, table_writer
from avssl.videos import merge
from avssl.videos.index import REJECT_SCHEMA
from avssl.videos.merge import merge_tables

PARTS = 5


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many row groups and many rounds from few rows."""
    monkeypatch.setattr(tables, "ROWS_PER_GROUP", 70)
    monkeypatch.setattr(merge, "ROWS_HELD", 100)


def rows(count: int) -> list[dict]:
    """Rejected videos with up to 20 windows each, in the order of an index."""
    rng = np.random.default_rng(0)
    names = sorted({f"{rng.integers(3)}-ü/{rng.integers(10**6):06d}.mp4" for _ in range(count)})
    return [
        {"path": name, "split": "train", "class": None if i % 7 else "=a", "reason": "silent", "detail": str(window),
         "window_start": None if windows == 1 else float(window)}
        for i, name in enumerate(names) for windows in [rng.choice([1, 1, 3, 20])] for window in range(windows)
    ]  # fmt: skip


def part(path: Path, content: list[dict]) -> Path:
    with block_writer(path, REJECT_SCHEMA, rows_per_group=9) as add:
        add(pa.Table.from_pylist(content, REJECT_SCHEMA))
    return path


def write(path: Path, content: list[dict], csv: Path | None = None) -> Path:
    with table_writer(path, REJECT_SCHEMA, csv) as add:
        for row in content:
            add(row)
    return path


@pytest.mark.parametrize("count", [0, 1, 35, 400])
def test_a_merge_is_byte_for_byte_what_one_writer_writes(tmp_path: Path, count: int):
    content = rows(count)
    one = write(tmp_path / "one.parquet", content, tmp_path / "one.csv")
    parts = [
        part(tmp_path / f"{k}.parquet", [row for row in content if part_of(row["path"], PARTS) == k])
        for k in range(PARTS)
    ]
    merged = tmp_path / "merged.parquet"
    assert merge_tables(parts, merged, REJECT_SCHEMA, ("path",), csv=tmp_path / "merged.csv") == len(content)
    assert merged.read_bytes() == one.read_bytes()
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    if count == 400:
        assert pq.ParquetFile(merged).num_row_groups > 10


def test_blocks_of_any_size_make_the_same_file(tmp_path: Path):
    content = rows(150)
    one = write(tmp_path / "one.parquet", content)
    whole = pa.Table.from_pylist(content, REJECT_SCHEMA)
    for size in (1, 69, 70, 71, 1000):
        with block_writer(tmp_path / "blocks.parquet", REJECT_SCHEMA) as add:
            for start in range(0, len(whole), size):
                add(whole.slice(start, size))
        assert (tmp_path / "blocks.parquet").read_bytes() == one.read_bytes()


def test_a_part_that_is_not_sorted_or_missing_is_one_line_and_nothing_is_written(tmp_path: Path):
    content = rows(60)
    good, bad = write(tmp_path / "0.parquet", content), write(tmp_path / "1.parquet", content[::-1])
    with pytest.raises(UserError, match=r"1.parquet is not sorted by path: run that part again"):
        merge_tables([good, bad], tmp_path / "merged.parquet", REJECT_SCHEMA)
    with pytest.raises(UserError, match=r"2.parquet is missing: run that part again"):
        merge_tables([good, tmp_path / "2.parquet"], tmp_path / "merged.parquet", REJECT_SCHEMA)
    assert not (tmp_path / "merged.parquet").exists()


def test_the_parts_of_many_paths_are_those_of_each():
    paths = [row["path"] for row in rows(50)]
    assert parts_of(paths, 7).tolist() == [part_of(path, 7) for path in paths]
    assert len(parts_of([], 7)) == 0
