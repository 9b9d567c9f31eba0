"""What is asked of features: the views of them, and labels from a table."""

import numpy as np
import pyarrow as pa
import pytest

from avssl.core.errors import UserError
from avssl.evaluate.attributes import read_attributes
from avssl.evaluate.features import Features


def test_what_probes_look_at():
    encoded = {"video": np.full((2, 3), 2.0), "audio": np.zeros((2, 2))}
    views = Features(np.arange(2), encoded, {"video": np.ones((2, 4))}, []).views()
    assert {name: x.shape for name, x in views.items()} == {
        "video": (2, 3), "audio": (2, 2), "both": (2, 5), "video embedding": (2, 4),
    }  # fmt: skip
    assert np.allclose(np.linalg.norm(views["video"], axis=1), 1)
    assert (views["audio"] == 0).all()
    alone = Features(np.arange(2), {"audio": np.ones((2, 2))}, {}, []).views()
    assert list(alone) == ["audio"]


def test_labels_from_the_index_and_from_a_table(tmp_path):
    rows = pa.table({"path": ["a/1.mp4", "b/2.mp4", "b/3.mp4"], "class": ["a", None, "b"]})
    table = tmp_path / "labels.csv"
    table.write_text('path,direction,note\na/1.mp4,rises,"x, y"\nb/3.mp4,falls,\n', encoding="utf-8")
    found = read_attributes(rows, ["class", "direction", "note"], table)
    assert found["class"].tolist() == ["a", "", "b"]
    assert found["direction"].tolist() == ["rises", "", "falls"]
    assert found["note"].tolist() == ["x, y", "", ""]
    read_attributes(rows, ["class"], None)
    with pytest.raises(UserError, match="no column digit: it has path, direction, note"):
        read_attributes(rows, ["digit"], table)
    with pytest.raises(UserError, match=r"columns=digit needs a table of labels, .*none\.csv"):
        read_attributes(rows, ["digit"], tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("file,digit\n1,2\n")
    with pytest.raises(UserError, match="no column path"):
        read_attributes(rows, ["digit"], tmp_path / "other.csv")
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbfpath,digit\na/1.mp4,7,left over\n")
    assert read_attributes(rows, ["digit"], tmp_path / "excel.csv")["digit"].tolist() == ["7", "", ""]
    with pytest.raises(UserError, match="no column note: it has path, digit"):
        read_attributes(rows, ["note"], tmp_path / "excel.csv")
    (tmp_path / "bytes.csv").write_bytes(b"path,digit\n\0,1\n")
    with pytest.raises(UserError, match="line 2, contains NUL"):
        read_attributes(rows, ["digit"], tmp_path / "bytes.csv")
