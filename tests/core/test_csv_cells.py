"""Texts in CSV files are no formulas to spreadsheets, and come back as they were."""

import csv

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avssl.core.csv_cells import quoted, quoted_row, quoted_table, unquoted
from avssl.core.tables import table_writer
from avssl.evaluate.attributes import read_attributes

RIGHT = {
    "=1+1": "'=1+1", "+1+1": "'+1+1", "-2+3": "'-2+3", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\r=1": "'\r=1",
    "-5": "-5", "+1e-3": "+1e-3", "-.5": "-.5", "-": "'-", "a=1": "a=1", " =1": " =1", "": "", "'": "'", "'a": "'a",
    "'=1": "''=1", "-5\n": "'-5\n", "--x": "'--x", "-1.2.3": "'-1.2.3",
}  # fmt: skip


@pytest.mark.parametrize(("text", "cell"), RIGHT.items())
def test_right_cells(text, cell):
    assert quoted(text) == cell
    assert unquoted(cell) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([*RIGHT, "''@", "'-5"])))
def test_every_text_comes_back_and_both_ways_agree(texts):
    cells = [quoted(text) for text in texts]
    assert [unquoted(cell) for cell in cells] == texts
    assert not any(cell[:1] in "=@\t\r" for cell in cells if cell)
    assert quoted_table(pa.table({"a": pa.array(texts, pa.string())}))["a"].to_pylist() == cells


def test_numbers_stay_numbers():
    assert quoted_row(["=1", -1, -0.5, None, True]) == ["'=1", -1, -0.5, None, True]
    table = pa.table({"label": [-1, 2], "name": ["=x", None]})
    assert quoted_table(table).to_pydict() == {"label": [-1, 2], "name": ["'=x", None]}


def test_our_tables_are_quoted_and_read_back(tmp_path):
    schema = pa.schema([("path", pa.string()), ("kind", pa.string()), ("number", pa.int32())])
    with table_writer(tmp_path / "t.parquet", schema, tmp_path / "t.csv") as add:
        add({"path": "=cmd|' /C calc'!A0.mp4", "kind": "@x", "number": -1})
    rows = [*csv.reader((tmp_path / "t.csv").open())]
    assert rows == [["path", "kind", "number"], ["'=cmd|' /C calc'!A0.mp4", "'@x", "-1"]]
    index = pa.table({"path": ["=cmd|' /C calc'!A0.mp4", "other"], "class": [None, None]})
    assert read_attributes(index, ["kind"], tmp_path / "t.csv")["kind"].tolist() == ["@x", ""]
