import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avssl.core.csv_cells import unquoted
from avssl.core.errors import UserError
from avssl.core.safe_paths import strays
from avssl.explore.assignments import Assignments, read_assignments, write_assignments

ODD = [
    "plain.mp4",
    "a,b.mp4",
    'say "hi".mp4',
    "two\nlines.mp4",
    "naïve 日本 🎬.mp4",
    " spaced ",
    "=1+1.mp4",
    "cr\rlf\r\n.mp4",
]


def make(paths, heads=2, clusters=5, seed=0):
    rng = np.random.default_rng(seed)
    n = len(paths)
    labels = rng.integers(0, clusters, (3, n, heads))
    confidences = rng.random((3, n, heads))
    if n:
        labels[:, 0], confidences[:, 0] = -1, np.nan
    return Assignments(
        path=list(paths),
        split=["train" if i % 2 else None for i in range(n)],
        classes=[None if i % 3 == 0 else "" if i % 3 == 1 else "dog, big" for i in range(n)],
        window_start=rng.random(n) * 100,
        label=labels[0],
        label_video=labels[1],
        label_audio=labels[2],
        confidence_joint=confidences[0],
        confidence_video=confidences[1],
        confidence_audio=confidences[2],
        clusters=clusters,
        run='runs/"x"',
        step=7,
        chosen_head=1,
    )


def same(a, b):
    for name, value in vars(a).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(b, name))
            assert value.dtype == getattr(b, name).dtype
        else:
            assert value == getattr(b, name), name


def test_parquet_round_trip(tmp_path):
    written = make(ODD)
    parquet, table_csv = write_assignments(tmp_path / "new", written)
    same(written, read_assignments(parquet))
    same(written, read_assignments(tmp_path / "new"))
    assert sorted(p.name for p in parquet.parent.iterdir()) == [table_csv.name, parquet.name]


def test_columns_and_types():
    table = make(ODD).to_table()
    assert table.column_names[:5] == ["path", "split", "class", "window_start", "label_0"]
    assert table.num_columns == 4 + 6 * 2
    assert table.schema.field("label_1").type == pa.int32()
    assert table.schema.field("confidence_audio_1").type == pa.float32()
    assert table["label_0"][0].as_py() == -1
    assert table["confidence_joint_0"].null_count == 1


def test_csv_survives_any_path(tmp_path):
    written = make(ODD)
    _, path = write_assignments(tmp_path, written)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [unquoted(row["path"]) for row in rows] == ODD
    assert rows[6]["path"] == "'=1+1.mp4"
    assert rows[0]["label_0"] == "-1"
    assert rows[0]["confidence_joint_0"] == ""
    assert rows[2]["class"] == "dog, big"
    for h in range(2):
        assert [int(row[f"label_audio_{h}"]) for row in rows] == written.label_audio[:, h].tolist()
        np.testing.assert_array_equal(
            np.array([row[f"confidence_joint_{h}"] or "nan" for row in rows], dtype=np.float32),
            written.confidence_joint[:, h],
        )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda t: not strays(t)), max_size=6)
)
def test_any_text_round_trips(tmp_path, paths):
    written = make(paths)
    _, path = write_assignments(tmp_path, written)
    same(written, read_assignments(tmp_path))
    with open(path, newline="", encoding="utf-8") as file:
        assert [unquoted(row["path"]) for row in csv.DictReader(file)] == paths


def test_class_ids():
    ids, names = make(ODD).class_ids()
    assert names == ["", "dog, big"]
    assert ids[:4].tolist() == [-1, 0, 1, -1]
    assert make(ODD).undecodable.tolist() == [True] + [False] * 7


def test_wrong_shapes_and_files_are_named(tmp_path):
    a = make(ODD)
    with pytest.raises(ValueError, match="label_video"):
        Assignments(**{**vars(a), "label_video": a.label_video[:, :1]})
    with pytest.raises(UserError, match="does not exist"):
        read_assignments(tmp_path)
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(UserError, match="not an assignments file"):
        read_assignments(tmp_path / "text.parquet")
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="not an assignments file"):
        read_assignments(tmp_path / "other.parquet")
