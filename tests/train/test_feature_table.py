"""Training on a table of features made elsewhere, with and without an index, and what is wrong with a table."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.cli import main
from avssl.clips.feature_table import read_feature_table
from avssl.core.errors import UserError
from avssl.explore.assignments import read_assignments
from avssl.runs.checkpoints import load_run_state
from avssl.videos.index import read_index

CLASSES = 3
WORDS = [
    "labelling.clusters=3", "labelling.heads=2", "labelling.passes=4", "optim.batch=10", "optim.epochs=20",
    "optim.lr=0.05", "labelling.warmup_batches=2", "threads=1", "device=cpu",
]  # fmt: skip
QUIET = ["workers=0", "threads=1", "device=cpu"]


def vectors(classes: list[int], width: int, seed: int) -> np.ndarray:
    """Clear clusters: a direction for each class, with noise."""
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=(CLASSES, width))[classes] + rng.normal(size=(len(classes), width))).astype(np.float32)


def write(path: Path, columns: dict) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: np.array(x) for name, x in columns.items()})
    else:
        pq.write_table(pa.table({n: x.tolist() if isinstance(x, np.ndarray) else x for n, x in columns.items()}), path)
    return path


def columns(number: int = 60) -> dict:
    classes = [i % CLASSES for i in range(number)]
    return {
        "path": [f"v{i:03d}.mp4" for i in range(number)],
        "split": ["train" if i < 45 else "test" for i in range(number)],
        "class": [f"class {c}" for c in classes], "video": vectors(classes, 12, 0), "audio": vectors(classes, 20, 1),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_table_alone_is_trained_on_clustered_and_evaluated(kind, tmp_path, capfd, monkeypatch):
    table = write(tmp_path / f"mine.{kind}", {**columns(), "text": np.ones((60, 3), np.float32)})
    monkeypatch.chdir(tmp_path)
    assert main(["train", f"data.features={table}", *WORDS]) == 0
    run = tmp_path / "runs" / "mine_selavi_seed0"
    assert f"{table}: unused columns: text" in capfd.readouterr().out
    assert main(["train", f"data.features={table}", *WORDS]) == 0  # it is done
    assert main(["clusters", f"run={run}", *QUIET, "previews=1"]) == 0
    found = read_assignments(run / "clusters")
    assert len(found.path) == 60
    figures = json.loads((run / "clusters" / "clustering.json").read_text())
    assert figures["reported"] == "test"
    truth = [int(c[-1]) for c in found.classes if c is not None]
    pairs = {(t, k) for t, k in zip(truth, found.label[:, found.chosen_head or 0], strict=True)}
    assert len(pairs) == CLASSES
    assert main(["evaluate", f"run={run}", *QUIET, "tasks=[knn,clustering]", "k=3", "seeds=2"]) == 0
    assert json.loads((run / "evaluate" / "evaluate.json").read_text())["knn"]
    capfd.readouterr()
    for command in (
        ["label", f"videos={tmp_path}", *QUIET],
        ["export", "modality=video", "format=safetensors"],
        ["features", f"data.root={tmp_path}", *QUIET],
        ["evaluate", *QUIET, "tasks=[robustness]"],
        ["clusters", *QUIET, "floors=true"],
    ):
        assert main([*command, f"run={run}"]) == 2
        lines = [x for x in capfd.readouterr().err.splitlines() if not x.endswith(": at work …")]  # on a slow machine
        assert len(lines) == 1
        assert "was trained on a table of features and has no encoders" in lines[0]


def test_a_table_of_indexed_videos(indexed, tmp_path, capfd):
    rows = {split: read_index(indexed[1].split("=", 1)[1], split) for split in ("train", "test")}
    paths = [path for x in rows.values() for path in x["path"].to_pylist()]
    classes = [int(Path(path).parent.name[-1]) % CLASSES for path in paths]
    video, audio = vectors(classes, 12, 0), vectors(classes, 12, 1)
    keep = [i for i in range(len(paths)) if i not in (3, 4)]
    table = write(
        tmp_path / "mine.parquet",
        {
            "path": [paths[i] for i in keep] + ["other.mp4"],
            "video": np.concatenate([video[keep], video[:1]]),
            "audio": np.concatenate([audio[keep], audio[:1]]),
        },
    )
    run = tmp_path / "run"
    words = [*indexed, f"data.features={table}", *WORDS, f"out={run}"]
    assert main(["train", *words]) == 0
    said = capfd.readouterr().out
    assert f"has no features for 2 of 36 rows, the first {paths[3]}, of the split train" in said
    assert "has 1 row of videos outside the index; the first is other.mp4" in said
    labels = load_run_state(run)["labeller"]["labels"]
    assert (labels[[3, 4]] == -1).all()
    assert (labels[[0, 1, 2, 5]] >= 0).all()
    assert main(["clusters", f"run={run}", *QUIET, "previews=0"]) == 0
    assert read_assignments(run / "clusters").undecodable.sum() == 2
    wider = {"path": paths, "video": vectors(classes, 13, 0), "audio": vectors(classes, 12, 1)}
    write(tmp_path / "mine.parquet", wider)
    assert main(["train", *words]) == 2
    assert "model.video=table:12, not table:13" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["path"].__setitem__(5, "v004.mp4"), "has 1 path more than once; the first is v004.mp4"),
        (lambda c: c["audio"].__setitem__((7, 2), np.nan), "features of 1 row are NaN or infinite; the first is v007"),
        (lambda c: c["video"].__setitem__(slice(8, 11), np.inf), "the video features of 3 rows are NaN or infinite"),
        (lambda c: c["path"].__setitem__(0, "/etc/passwd"), "is absolute"),
        (lambda c: c.pop("path"), "has no column path"),
        (lambda c: (c.pop("video"), c.pop("audio")), "has no column of features"),
        (lambda c: c.pop("audio"), "has no features of audio: set labelling.modalities=[video]"),
        (lambda c: c.__setitem__("video", [[1.0]] + [[1.0, 2.0]] * 59), "different lengths"),
        (lambda c: c.__setitem__("video", ["x"] * 60), "is not a column of lists of numbers"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_one_line(change, message, tmp_path, capfd):
    changed = columns()
    change(changed)
    table = write(tmp_path / "mine.parquet", changed)
    assert main(["train", f"data.features={table}", *WORDS, f"out={tmp_path / 'run'}"]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_damaged_files_and_options(tmp_path, indexed, capfd):
    def refused(words: list[str]) -> str:
        assert main(["train", *words, *WORDS, f"out={tmp_path / 'run'}"]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        return error

    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no")
    assert "is damaged" in refused([f"data.features={tmp_path / 'bad.npz'}"])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    assert "cannot be read" in refused([f"data.features={tmp_path / 'bad.parquet'}"])
    objects = tmp_path / "objects.npz"
    np.savez(objects, path=np.array(["a", {}], object), video=np.ones((2, 3)))
    assert "is damaged" in refused([f"data.features={objects}"])
    table = write(tmp_path / "mine.npz", columns())
    assert "has no encoders: omit it" in refused([f"data.features={table}", "model.video=tiny"])
    words = [f"data.features={table}", "model.video_stride=8"]
    assert "model.video_stride=8 has no effect" in refused(words)
    assert "matches no video of the index" in refused([f"data.features={table}", *indexed])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": ["../out", "train"]}, "the split '../out' is not a valid name"),
        ({"split": ["\ud800", "train"]}, "split has a text that is too long or not UTF-8"),
        ({"path": ["x" * 20_000, "b.mp4"]}, "path has a text that is too long"),
        ({"window_start": [float("nan"), 1.0]}, "window_start is nan"),
        ({"window_start": [-1, 1]}, "window_start is -1"),
        ({"video": np.full((2, 3), 1e300)}, "are NaN or infinite"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_array_file_is_checked_as_a_table_is(changed, message, tmp_path):
    table = write(tmp_path / "x.npz", {"path": ["a.mp4", "b.mp4"], "video": np.ones((2, 3)), **changed})
    with pytest.raises(UserError, match=message):
        read_feature_table(table)


def test_a_table_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    width = 300_000
    lists = pa.ListArray.from_arrays(np.arange(0, 100 * width + 1, width, dtype=np.int32), np.zeros(100 * width, "f4"))
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"path": [f"{i}.mp4" for i in range(100)], "video": lists}), path)
    with pytest.raises(UserError, match="claims 30000100 numbers"):
        read_feature_table(path)
