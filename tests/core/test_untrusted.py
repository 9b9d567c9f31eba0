"""Files of others: bounded before they are read, checked as they are, and nothing in them is resolved."""

import json
import os
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from avssl.config import DataConfig, LabellingConfig, TrainConfig
from avssl.config.from_file import from_plain
from avssl.config.run_folder import read_config
from avssl.core.errors import UserError
from avssl.core.out_folder import folder_lock
from avssl.core.tables import read_rows
from avssl.core.tensors import load_tensors
from avssl.core.untrusted import field, is_count, is_number, open_arrays, parse_json, read_bytes, read_json, read_yaml
from avssl.evaluate.head_measures import _read as kept_heads
from avssl.runs.status import figures
from avssl.train.collapse import CollapseWatch
from avssl.train.log import RunLog
from avssl.videos.index_options import options_of

NEEDED = "out: o\ndata: {root: x, name: n, index: i"


@pytest.fixture
def secret(monkeypatch) -> str:
    monkeypatch.setenv("AVSSL_SECRET", "hunter2")
    return "${oc.env:AVSSL_SECRET}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: &a [1]\nx: *a\n", "anchor or alias"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "anchor or alias"),
        ("data: !!python/object/apply:os.system [ls]\n", "tag"),
        ("seed: !!int 3\n", "tag"),
        ("seed: 1\nseed: 2\n", "a key is repeated"),
        ("<<: {seed: 1}\n", "is not a name"),
        ("? [a]\n: 1\n", "is not a name"),
        ("seed: 1\n---\nseed: 2\n", "several documents"),
        ("seed: " + "[" * 500 + "\n", "nested too deeply"),
        ("- 1\n", "no mapping"),
        ("", "no mapping"),
        ("seed: \x00\n", "control characters"),
        ("seed: 1e23\n", "seed"),
        ("seed: 99999999999999999999999\n", "too large"),
        ("seed: .inf\n", "seed=inf is NaN or infinite"),
        ("seed: [1]\n", "seed"),
        ("data: 3\n", "data is a section"),
        ("sed: 3\n", "sed is not an option of this version of avssl; did you mean seed?"),
        ("clip: {fsp: 3}\n", "clip.fsp is not an option"),
        ("clip: {fps: 0}\n" + NEEDED + "}", "clip.fps=0"),
        ("clip: {fps: .nan}\n", "clip.fps=nan is NaN or infinite"),
        (NEEDED + ", silence_db: 5}\n", "data.reading.silence_db=5"),
        ("optim: {milestones: [[1]]}\n", "optim.milestones is a single option"),
        ("data: {root: null}\n", "data.root"),
    ],
)
def test_a_config_of_somebody_else_is_one_line(text, said, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(tmp_path)
    assert str(tmp_path / "config.yaml") in str(caught.value)
    assert said in str(caught.value)


def test_the_environment_is_not_read(secret, tmp_path):
    (tmp_path / "config.yaml").write_text(f"data: {{root: x, name: '{secret}'}}\n")
    with pytest.raises(UserError, match="in place of a value") as caught:
        read_config(tmp_path)
    assert "hunter2" not in str(caught.value)
    (tmp_path / "index.json").write_text(json.dumps({"root": "x", "data": {"root": "x", "name": secret}}))
    with pytest.raises(UserError, match="is a reference") as caught:
        options_of(tmp_path)
    assert "hunter2" not in str(caught.value)


def test_what_a_file_leaves_out_is_as_by_default_or_named(tmp_path):
    found = from_plain(DataConfig, {"root": "r", "name": "n", "index": "i"}, "index.json")
    assert found == DataConfig("r", name="n", index="i")
    with pytest.raises(UserError, match=r"index\.json: name is missing"):
        from_plain(DataConfig, {"root": "r", "index": "i"}, "index.json")
    with pytest.raises(UserError, match=r"config\.yaml: data\.name is missing"):
        from_plain(TrainConfig, {}, "config.yaml")


def test_yaml_is_read_as_it_is_written(tmp_path):
    values = {"a": 1e-5, "b": "2024-01-01", "c": "1e5x", "d": [1.5, None, True], "e": "yes", "f": 3, "g": {"h": "é"}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    assert read_yaml(tmp_path / "x.yaml") == values
    (tmp_path / "x.yaml").write_text("a: 1e-5\nb: 2024-01-01\nc: 1E3\n")  # as OmegaConf writes them
    assert read_yaml(tmp_path / "x.yaml") == {"a": 1e-5, "b": "2024-01-01", "c": 1000.0}


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 50 + "1" + "}" * 50, "[NaN]", "[1e999]", "[-Infinity]", "9" * 5000, "", "[1,]", "\xff"],
)
def test_json_that_cannot_be_meant(text, tmp_path):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text.encode("latin-1"))
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_sizes_are_bounded_before_anything_is_read(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "many.json").write_text("[" + "[]," * 500_000 + "0]")
    began = time.process_time()
    for path in (tmp_path / "sparse", tmp_path / "pipe", tmp_path, "/dev/zero", tmp_path / "a\0b"):
        with pytest.raises(UserError):
            read_bytes(path)
    with pytest.raises(UserError, match="more than 400000 values"):
        read_json(tmp_path / "many.json")
    assert time.process_time() - began < 30  # reading it all takes minutes, or has no end
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")


def test_a_field_is_named():
    assert field({"a": 1}, "a", is_count, "x.json") == 1
    for found, said in (({}, "a is missing"), ({"a": True}, "a is True"), ({"a": [1]}, "a is a list"), ([], "a list")):
        with pytest.raises(UserError, match=rf"x\.json: .*{said}"):
            field(found, "a", is_count, "x.json")
    assert not is_number(10**400)  # JSON may hold it, and no float can
    assert [is_number(x) for x in (1, 0.5, True, "1", float("nan"), None)] == [True, True, False, False, False, False]
    assert [is_count(x) for x in (0, 2**63, -1, 1.0, True)] == [True, False, False, False, False]


SCHEMA = pa.schema([("path", pa.string()), ("n", pa.int64()), ("x", pa.float64())])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["a"], "n": [1]}, "no column x"),
        ({"path": [1], "n": [1], "x": [1.0]}, "column path is not string"),
        ({"path": ["a"], "n": ["1"], "x": [1.0]}, "column n is not int64"),
        ({"path": ["a"], "n": [1], "x": [[1.0]]}, "column x is not double"),
        ({"path": [None, "b"], "n": [1, 1], "x": [1.0, 1.0]}, "path is missing in 1 rows"),
        ({"path": ["a"], "n": [1], "x": pa.array([None], pa.float64())}, "x is missing"),
        ({"path": ["a"], "n": [1], "x": [float("nan")]}, "x is nan"),
        ({"path": ["a"], "n": [1], "x": [float("inf")]}, "x is inf"),
        ({"path": ["a"], "n": [-1], "x": [1.0]}, "n is -1"),
        ({"path": ["a" * 20_000], "n": [1], "x": [1.0]}, "a text of more than"),
    ],
)
def test_columns_of_somebody_else_are_named(columns, said, tmp_path):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=said):
        read_rows(tmp_path / "t.parquet", SCHEMA, ("path",), {"n": (0, 9), "x": (0, 9)})


def test_a_few_bytes_are_not_many_rows(tmp_path):
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(90_000, np.int32)), ["x" * 9000])
    ones = np.ones(90_000)
    pq.write_table(pa.table({"path": texts, "n": ones.astype(int), "x": ones}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    with pytest.raises(UserError, match="too large for its file"):
        read_rows(tmp_path / "t.parquet", SCHEMA)
    ones, texts = np.ones(10**6), pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), ["x"])
    pq.write_table(pa.table({"path": texts, "n": ones.astype(int), "x": ones}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="claims 1000000 rows"):
        read_rows(tmp_path / "t.parquet", SCHEMA)


class Code:
    def __reduce__(self):
        return (os.system, ("touch /tmp/never",))


class Large:
    def __reduce__(self):
        return (bytearray, (10**12,))


def laughs() -> list:
    found: list = [1]
    for _ in range(30):
        found = [found, found]
    return found


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Code(), "more than data"),
        (Large(), "more than data"),
        (torch.zeros(1).expand(10**12), "larger than its storage"),
        (
            torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**9, 10**9)),
            "more than data",
        ),
        (torch.empty(10**6, 10**6, device="meta"), "more than data"),
        (laughs(), "many times"),
    ],
)
def test_checkpoints_are_examined_before_they_are_loaded(value, said, tmp_path):
    torch.save({"a": value}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=said):
        load_tensors(tmp_path / "x.ckpt")


def test_plain_checkpoints_load(tmp_path):
    base = torch.arange(12.0)
    state = {
        "a": base.reshape(3, 4).T, "b": base[2:5], "c": torch.nn.Parameter(base.half()), "d": [1, None, ("x", 2.5)],
        "e": torch.empty(0, 4), "f": torch.tensor(True),
    }  # fmt: skip
    torch.save(state, tmp_path / "x.ckpt")
    found = load_tensors(tmp_path / "x.ckpt")
    assert all(torch.equal(found[name], state[name]) for name in "abcef")
    assert found["d"] == state["d"]
    torch.save(state, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_tensors(tmp_path / "old.ckpt", legacy=True)["a"], state["a"])
    with pytest.raises(UserError, match="not written by torch.save"):
        load_tensors(tmp_path / "old.ckpt")


def test_archives_that_unpack_to_more_than_themselves(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "x.ckpt")
    for compression, edit, said in (
        (zipfile.ZIP_DEFLATED, lambda data: data, "compressed"),
        (zipfile.ZIP_STORED, lambda data: data.replace(b"M\xe8\x03", b"M\xe9\x03"), "larger than its data in the file"),
    ):
        with zipfile.ZipFile(tmp_path / "x.ckpt") as old, zipfile.ZipFile(tmp_path / "y.ckpt", "w", compression) as new:
            for member in old.namelist():
                new.writestr(member, edit(old.read(member)) if member.endswith(".pkl") else old.read(member))
        with pytest.raises(UserError, match=said):
            load_tensors(tmp_path / "y.ckpt")


def test_features_of_somebody_else(tmp_path):
    from avssl.runs.open import read_features

    rows, file = pa.table({"path": ["a", "b"]}), tmp_path / "f.parquet"
    good = pa.array([[1.0, 2.0], [3.0, 4.0]])
    for features, said in (
        (pa.array([[1.0, 2.0], [3.0]]), "different lengths"),
        (pa.array([[1.0, 2.0], None]), "missing"),
        (pa.array([[1.0, None], [3.0, 4.0]]), "missing"),
        (pa.array([["x"], ["y"]]), "lists of numbers"),
    ):
        pq.write_table(pa.table({"path": ["a", "b"], "features": features}), file)
        with pytest.raises(UserError, match=said):
            read_features(file, rows)
    pq.write_table(pa.table({"path": ["b", "z"], "features": good}), file)
    found, values = read_features(file, rows)
    assert found.tolist() == [1]
    assert values.tolist() == [[1.0, 2.0]]
    np.savez(tmp_path / "f.npz", path=np.array(["a"], object), features=np.ones((1, 2)))
    with pytest.raises(UserError, match="cannot be read as features"):
        read_features(tmp_path / "f.npz", rows)
    np.savez_compressed(tmp_path / "f.npz", path=np.array(["a"]), features=np.zeros((5 * 10**6, 2), np.float64))
    with pytest.raises(UserError, match="bytes in a file of"):
        read_features(tmp_path / "f.npz", rows)


def test_a_lock_is_no_pipe_and_no_way_to_another_file(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.lock").symlink_to(victim)
    with pytest.raises(UserError, match="is a link"), folder_lock(tmp_path / "a"):
        pass
    assert victim.read_text() == "mine"
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b/.lock")
    with pytest.raises(UserError, match="not a regular file"), folder_lock(tmp_path / "b"):
        pass
    with folder_lock(tmp_path), pytest.raises(UserError, match="another command"), folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("shape", [(1,), (10**15,), (30_000_000,)])
def test_arrays_of_somebody_else(shape, tmp_path):
    path = tmp_path / "x.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("failures.npy", "w", force_zip64=True) as x,
    ):
        np.lib.format.write_array_header_1_0(x, {"descr": "<f8", "fortran_order": False, "shape": shape})
        for _ in range(min(shape[0], 30_000_000) * 8 // 1_000_000 or 1):
            x.write(bytes(1_000_000))
    if shape == (1,):
        with open_arrays(path) as arrays:
            assert arrays["failures"].shape == (1,)
        return
    with pytest.raises(UserError, match="x.npz is damaged"), open_arrays(path) as arrays:
        arrays["failures"]


def test_measured_heads_of_somebody_else_are_measured_anew(tmp_path):
    path = tmp_path / "heads.json"
    for text in ("", "[]", "{}", '{"key": 1}', '{"key": [1], "spread": [1' + "0" * 400 + '], "stability": [1]}'):
        path.write_text(text)
        assert kept_heads(path, [1], 1) is None
    path.unlink()
    os.mkfifo(path)  # would be waited for
    assert kept_heads(path, [1], 1) is None


def test_metrics_of_somebody_else(tmp_path):
    lines = ['{"step": 0, "x": "collapse"}', '{"step": 0, "kind": "collapse", "head": [1], "way": {}}', '["collapse"]']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 0, "kind": "collapse", "he']))
    log = RunLog(tmp_path, 5, 9)
    CollapseWatch(log, LabellingConfig(), 10.0)
    (tmp_path / "metrics.jsonl").write_text('"collapse"\n')
    assert log.lines("collapse") == []
    log.close()
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "kind": "train", "loss": 1' + "0" * 400 + "}\n")
    assert figures(tmp_path) == (None, {})
