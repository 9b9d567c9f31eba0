import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.core import mapped_rows
from avssl.core.errors import UserError
from avssl.core.mapped_rows import Column, copy_place, map_rows, read_mapped
from avssl.core.tables import read_rows
from tests.processes import FORKSERVER

SCHEMA = pa.schema([("path", pa.string()), ("seconds", pa.float64())])
LIMITS = {"seconds": (0.0, 10_000.0)}


def table(folder: Path, paths: list[str], seconds: float = 3.0) -> Path:
    path = folder / "all.parquet"
    rows = pa.table([paths, [seconds + i for i in range(len(paths))]], schema=SCHEMA)
    pq.write_table(rows, path, row_group_size=2)
    return path


def opened(path: Path) -> pa.Table:
    rows = read_mapped(path, SCHEMA, ("path",), LIMITS)
    assert rows is not None
    return rows


def test_a_column_is_a_sequence_of_python_values():
    column = Column[str](pa.chunked_array([["a", "b"], [], ["b", "d"]]))
    assert (len(column), list(column), column[-1], column[1:3]) == (4, ["a", "b", "b", "d"], "d", ["b", "b"])
    assert column[np.int64(2)] == "b"
    assert column[::2] == ["a", "b"]
    assert "d" in column
    assert column.distinct() == 3
    with pytest.raises(IndexError):
        column[4]


@pytest.mark.parametrize("chunks", [[["a", "b", "a"]], [["b"], ["a", "b"]], [["a", "a"], ["a"], ["a", "b"]], [[]]])
def test_different_values_are_counted_whatever_their_order(chunks: list[list[str]]):
    values = pa.chunked_array(chunks, pa.string())
    assert Column[str](values).distinct() == len(set(values.to_pylist()))


def test_a_copy_has_the_rows_of_the_table_and_is_made_once(tmp_path: Path):
    path = table(tmp_path, ["a.mp4", "b.mp4", "c.mp4"])
    assert opened(path).equals(read_rows(path, SCHEMA))
    written = (tmp_path / "all.arrow").stat()
    assert opened(path).equals(read_rows(path, SCHEMA))
    assert (tmp_path / "all.arrow").stat().st_mtime_ns == written.st_mtime_ns


def test_a_copy_of_another_state_of_the_table_is_replaced(tmp_path: Path):
    opened(table(tmp_path, ["a.mp4"]))
    path = table(tmp_path, ["b.mp4", "c.mp4", "d.mp4"])
    assert opened(path)["path"].to_pylist() == ["b.mp4", "c.mp4", "d.mp4"]


def _wrong_number(copy: Path) -> None:
    stored = map_rows(copy).to_pydict()
    with pa.ipc.open_file(str(copy)) as file:
        schema = file.schema
    stored["seconds"][1] = float("nan")
    with pa.ipc.new_file(str(copy), schema) as writer:
        writer.write_table(pa.table(stored, schema=schema))


def _wrong_offset(copy: Path) -> None:
    data = copy.read_bytes()
    offsets = np.array([0, 5], "<i4").tobytes()
    assert offsets in data
    copy.write_bytes(data.replace(offsets, np.array([0, 2**30], "<i4").tobytes()))


def _cut(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:-40])


@pytest.mark.parametrize("damage", [_wrong_number, _wrong_offset, _cut])
def test_a_damaged_copy_is_written_again(
    tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
):
    path = table(tmp_path, ["a.mp4", "b.mp4", "c.mp4"])
    opened(path)
    damage(tmp_path / "all.arrow")
    assert opened(path).equals(read_rows(path, SCHEMA))
    assert "all.arrow is damaged" in capsys.readouterr().err


def test_a_wrong_table_is_refused_as_it_is_without_a_copy(tmp_path: Path):
    path = table(tmp_path, ["a.mp4"], seconds=1e6)
    with pytest.raises(UserError, match=r"all.parquet: seconds is 1000000.0, but must be from 0 to 10000"):
        read_mapped(path, SCHEMA, (), LIMITS)
    assert not (tmp_path / "all.arrow").exists()


def test_without_a_place_beside_the_table_the_copy_is_in_a_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "index").mkdir()
    path = table(tmp_path / "index", ["a.mp4"])
    monkeypatch.setattr(mapped_rows.os, "access", lambda *_: False)
    monkeypatch.setattr(mapped_rows.tempfile, "gettempdir", lambda: str(tmp_path))
    assert opened(path).num_rows == 1
    assert not (tmp_path / "index" / "all.arrow").exists()
    assert copy_place(path).parent.parent == tmp_path
    assert copy_place(path).parent.stat().st_mode & 0o777 == 0o700


def test_a_mapped_column_is_sent_by_name_and_a_part_of_it_by_value(tmp_path: Path):
    paths = [f"{i:0100d}.mp4" for i in range(2000)]
    rows = opened(table(tmp_path, paths))
    whole, part = pickle.dumps(Column(rows["path"])), pickle.dumps(Column(rows.slice(1)["path"]))
    assert len(whole) < 1000 < len(part)
    assert list(pickle.loads(whole)) == paths
    assert list(pickle.loads(part)) == paths[1:]


def test_another_process_maps_the_file_itself(tmp_path: Path):
    rows = opened(table(tmp_path, ["a.mp4", "b.mp4"]))
    with FORKSERVER.Pool(1) as pool:
        assert pool.apply(list, (Column(rows["path"]),)) == ["a.mp4", "b.mp4"]


def test_a_column_of_a_replaced_copy_is_refused(tmp_path: Path):
    sent = pickle.dumps(Column(opened(table(tmp_path, ["a.mp4"]))["path"]))
    opened(table(tmp_path, ["a.mp4", "b.mp4"]))
    with pytest.raises(UserError, match=r"all.arrow has changed since this command began"):
        pickle.loads(sent)
