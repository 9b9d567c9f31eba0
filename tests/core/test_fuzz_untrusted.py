"""Files of a small run, an index and shards, changed at random: opening them gives a result or one line, quickly.

AVSSL_FUZZ_FOREIGN=5000 tries as many; AVSSL_FUZZ_SEED starts elsewhere.
"""

import hashlib
import json
import os
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from avssl.cli import FIXES
from avssl.config import (
    DataConfig,
    DoctorConfig,
    ExaminedDataConfig,
    RunsConfig,
    SummaryConfig,
    TrainConfig,
)
from avssl.config import model_card as card
from avssl.config.compose import compose_config
from avssl.config.run_folder import make_run_folder, read_config, write_config
from avssl.core.atomic import write_json
from avssl.core.checkpoint_store import FOLDER, MANIFEST, STATE, Checkpoints, name_of
from avssl.core.errors import ClipError, FailedError, UserError
from avssl.core.journal import Journal
from avssl.core.screen import one_line
from avssl.core.tables import table_writer
from avssl.evaluate.attributes import read_attributes
from avssl.explore.assignments import Assignments, read_assignments, write_assignments
from avssl.explore.curves import read_curves
from avssl.explore.explorer import rename
from avssl.explore.labelled import write_labelled
from avssl.explore.names import Names, read_names
from avssl.label.new_videos import Labelled, VideoLabel
from avssl.models.zoo import load_published
from avssl.objectives.objective import EncodedBatch
from avssl.plan.videos import sample_rows
from avssl.runs import status as runs
from avssl.runs import summary
from avssl.runs.open import load_run, read_features
from avssl.train.checkpoint_state import load_state
from avssl.train.run_state import RunState
from avssl.videos import journal_entries as entries
from avssl.videos.doctor import examine
from avssl.videos.index import SCHEMA, read_index, verdicts
from avssl.videos.index_options import options_of, resolve_for_training, root_of
from avssl.videos.layout import Video
from avssl.videos.storage import SHARD_SCHEMA, Folder, Shards
from experiments.run import read_known

COUNT = int(os.environ.get("AVSSL_FUZZ_FOREIGN", "500"))
SEED = int(os.environ.get("AVSSL_FUZZ_SEED", "0"))
VIDEOS, WORDS = 6, [
    "experiment=selavi_sample", "model.video=tiny", "model.audio=tiny", "model.hidden=8", "labelling.clusters=3",
    "labelling.heads=2", "optim.batch=2", "optim.epochs=1", "clip.frames=2", "clip.fps=4", "clip.crop=16",
    "clip.short_side_min=16", "clip.short_side_max=16", "clip.audio_seconds=0.5", "device=cpu", "workers=0",
]  # fmt: skip
SECONDS, MEMORY = 30.0, 200 << 20
"""Of the processor, a hundred times what any file takes: what damage multiplies takes minutes, or has no end."""
PATH = "train/a/video{}.mp4"


def row_of(number: int) -> dict[str, Any]:
    values: dict[str, Any] = {f.name: 1 for f in SCHEMA}
    return values | {
        "path": PATH.format(number), "split": "train", "class": "a", "window_start": 0.0, "window_seconds": 2.0,
        "duration": 2.0, "fps": 15.0, "loudness": -20.0, "video_start": 0.0, "video_end": 2.0, "audio_start": 0.0,
        "audio_end": 2.0, "variable_rate": False, "video_codec": "h264", "audio_codec": "aac", "audio_rate": 16000,
        "size": 1000 + number,
    }  # fmt: skip


def make(folder: Path) -> TrainConfig:
    """A run with a checkpoint, its index, shards and tables, without a single video; the run's config."""
    index, root, run = folder / "index", folder / "root", folder / "run"
    for made in (index, root / "train/a", run):
        made.mkdir(parents=True)
    data = DataConfig(str(root), name="root", index=str(index))
    write_json(index / "index.json", {"root": str(root), "data": asdict(data)})
    for name in ("train", "test"):
        with table_writer(index / f"{name}.parquet", SCHEMA) as add:
            for number in range(VIDEOS):
                add(row_of(number) | {"split": name})
    rejects = pa.schema([(n, pa.string()) for n in ("path", "split", "class", "reason", "detail")])
    with table_writer(index / "rejects.parquet", rejects.append(pa.field("window_start", pa.float64()))) as add:
        add({"path": "b.mp4", "split": "train", "class": None, "reason": "silent", "detail": "", "window_start": None})
    probed = {k: v for k, v in row_of(0).items() if k not in ("path", "split", "class")} | {"profile": [-20.0] * 5}
    with Journal(index / "probes.jsonl", 3) as journal:
        for number in range(VIDEOS):
            stamp = {"size": 1000 + number, "mtime_ns": 1, "whole": True, "silence_db": -60.0}
            journal.add(PATH.format(number), {**stamp, "probe": probed})
    labels = VideoLabel("x.mp4", 0.0, 1, 0.9, 1, None, "both", 0.5)
    for name, entry in {
        "prepare": {"size": 1, "mtime_ns": 2, "name": "a/b.mp4", "settings": {"crf": 23}, "seconds": 1.0, "bytes": 9},
        "shards": {"signature": "ab", "size": 10, "offsets": [0, 5]},
        "hashes": {"size": 1, "mtime_ns": 2, "ends": "ab", "whole": None},
        "previews": {"of": ["a", 1], "why": ""},
        "labels": {"stamp": [1, 2], "rows": [asdict(labels)]},
    }.items():
        with Journal(folder / f"{name}.jsonl", 1) as journal:
            journal.add("a.avi", entry)
    with table_writer(root / "shards.parquet", SHARD_SCHEMA) as add:
        for number in range(VIDEOS):
            place = {"shard": "train-000000.tar", "offset": 512 * number, "size": 100, "mtime_ns": 1}
            add({"path": PATH.format(number), "split": "train", "class": "a", **place})
    (root / "labels.csv").write_text("path,kind\n" + "".join(f"{PATH.format(n)},k{n}\n" for n in range(VIDEOS)))
    for number in range(VIDEOS):
        (root / PATH.format(number)).write_bytes(b"no video")
    paths, values = [PATH.format(n) for n in range(VIDEOS)], np.eye(VIDEOS, 4, dtype=np.float32)
    np.savez(folder / "features.npz", path=np.array(paths), features=values)
    table = pa.table({"path": paths, "features": pa.array(values.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "features.parquet")
    head = np.arange(2 * VIDEOS).reshape(VIDEOS, 2)
    label, sure = head % 3, np.full((VIDEOS, 2), 0.5)
    write_assignments(
        folder,
        Assignments(
            paths, ["train"] * VIDEOS, ["a"] * VIDEOS, np.zeros(VIDEOS), label, label, label, sure, sure, sure, 3,
            "run", 0, 1,
        ),
    )  # fmt: skip
    write_json(
        folder / "names.json", Names({0: {"name": "one", "mark": "star"}, 2: {"into": 0}}, "run", 0, 1).to_dict()
    )
    (folder / "data").mkdir()
    (folder / "data/overview.js").write_text('avssl.put("overview",{"names":{},"clusters":3});\n')
    write_json(folder / "selavi.yaml", {
        "method": "SeLaVi", "family": "selavi", "data": "x", "video": "r2plus1d_18", "audio": "resnet9", "heads": 2,
        "clusters": 3, "page": "https://x", "url": "https://x/y", "paper": "p", "figures": {"NMI, %": 1.0},
    })  # fmt: skip
    trained = {"figures": {"joint/NMI": 0.5}, "machine": "m", "commit": "c", "plan": "p"}
    write_json(folder / "reproduce.json", {"plan": "p", "trainings": {"a": trained}})
    torch.save({"epoch": 1, "model": {"mlp_v0.block_forward.8.weight": torch.ones(3, 4)}}, folder / "published.pth")

    config: TrainConfig = compose_config(
        "train", TrainConfig, [f"data.root={root}", f"data.index={index}", f"out={run}", *WORDS]
    )
    (root / "shards.parquet").rename(folder / "shards.parquet")
    training = RunState(config, torch.device("cpu"))
    make_run_folder(config)
    write_config(config)
    training.begin({}, run)
    with closing(Checkpoints(run)) as checkpoints:
        checkpoints.save(0, training.shared_state(), training.rank_state())
    status = {"state": "running", "why": "", "time": time.time(), "step": 0, "total": 3, "host": "here", "pid": 1}
    write_json(run / "status.json", status)
    (run / "metrics.jsonl").write_text('{"step": 0, "kind": "train", "loss": 1.5}\n')
    metrics = {"metrics": {"nmi": 0.5}}
    split = {"evidence": {"joint": {"heads": [metrics, metrics]}}, "chosen_head": 1, "floors": {"pixels": 0.1}}
    write_json(run / "clusters/clustering.json", {"reported": "test", "test": split})
    task = {"columns": ["class"], "k": 5, "linear": {"video": {"class": 0.5}}, "knn": {"video": {"class": 0.4}}}
    write_json(run / "evaluate/evaluate.json", task | {"retrieval": {"class": {"1": 0.3}}})
    return config


def openers(folder: Path, config: TrainConfig) -> dict[str, tuple[Callable[[], Any], ...]]:
    """What opens each file, by its path below `folder`."""
    index, run, root = folder / "index", folder / "run", folder / "root"
    newest = f"run/{FOLDER}/{name_of(0)}"
    data = DataConfig(str(root), name="root", index=str(index))

    def figures() -> None:
        runs.run(RunsConfig(str(run)))

    def tell(of: str) -> Callable[[], Any]:
        return lambda: summary.run(SummaryConfig(runs=[str(run)], of=of))

    def probes() -> None:
        with Journal(index / "probes.jsonl", 3, entries.is_probe) as journal:
            for number in range(VIDEOS):
                if (entry := journal.get(PATH.format(number))) is not None:
                    video = Video(PATH.format(number), "train", "a", entry["size"], entry["mtime_ns"])
                    rows = [row for row in verdicts(video, entry["probe"], data) if "reason" not in row]
                    pa.Table.from_pylist(rows, SCHEMA)

    def journal_of(name: str, valid: Callable[[dict], bool], use: Callable[[dict], Any]) -> Callable[[], None]:
        def read() -> None:
            with Journal(folder / f"{name}.jsonl", 1, valid) as journal:
                for path in journal.paths():
                    if (entry := journal.get(path)) is not None:
                        use(entry)

        return read

    def label(entry: dict) -> None:
        for row in entry["rows"]:
            Labelled.of(VideoLabel(**row), "x", Names(), 0.5)

    def shards() -> None:
        there = Shards(folder)
        for path, _, _ in there.stamps():
            assert str(there.locate(path)[0]).startswith(str(folder))  # type: ignore[index]

    def tree() -> None:
        assignments, names = read_assignments(folder), read_names(folder / "names.json")
        names.check(assignments.step, assignments.chosen_head or 0, assignments.clusters)
        write_labelled(folder / "labelled", assignments, names, Folder(root))

    def resume() -> None:
        training = RunState(config, torch.device("cpu"))
        with closing(Checkpoints(run)) as checkpoints:
            checkpoints.say = lambda text: None
            where = checkpoints.newest()
            state = load_state(where) if where else {}
            training.begin(state, run)
            if where:
                training.load(state, where, run)
        features = {name: torch.ones(2, width) for name, width in training.model.widths.items()}
        loss, _ = training.objectives[0][1].loss(EncodedBatch({}, features, torch.arange(2)), False)
        loss.backward()
        training.optimizer.step()

    def read_run() -> None:
        load_run(run, read_config(run))

    def doctor() -> None:
        examine(DoctorConfig(ExaminedDataConfig("", index=str(index)), duplicates=False), root)

    def settings() -> None:
        root_of(index), options_of(index), resolve_for_training(config.data)

    def table() -> None:
        read_index(index, "train"), sample_rows(index / "train.parquet", 4)

    checkpoint = (read_run, resume)
    return {
        "run/config.yaml": (read_run, lambda: run_again(config, run)),
        "run/status.json": (figures,), "run/metrics.jsonl": (figures, lambda: read_curves(run)),
        "run/clusters/clustering.json": (figures, tell("clusters")),
        "run/evaluate/evaluate.json": (figures, tell("evaluate")),
        f"{newest}/{MANIFEST}": checkpoint, f"{newest}/{STATE}": checkpoint,
        f"{newest}/process_0000.ckpt": checkpoint,
        "index/index.json": (settings,), "index/train.parquet": (table, doctor),
        "index/rejects.parquet": (doctor,), "index/probes.jsonl": (probes,),
        "shards.parquet": (shards,),
        "prepare.jsonl": (journal_of("prepare", entries.is_prepared, lambda e: Folder(root).locate(e["name"])),),
        "shards.jsonl": (journal_of("shards", entries.is_packed, lambda e: sum(e["offsets"])),),
        "hashes.jsonl": (journal_of("hashes", entries.is_hashed, lambda e: (e["size"], e.get("ends"))),),
        "previews.jsonl": (journal_of("previews", entries.is_preview, lambda e: Counter([e["why"]])),),
        "labels.jsonl": (journal_of("labels", entries.is_labelled, label),),
        "assignments.parquet": (tree,), "names.json": (tree,),
        "data/overview.js": (lambda: rename(folder, Names()),),
        "features.npz": (lambda: read_features(folder / "features.npz", read_index(index, "train")),),
        "features.parquet": (lambda: read_features(folder / "features.parquet", read_index(index, "train")),),
        "root/labels.csv": (lambda: read_attributes(read_index(index, "train"), ["kind"], root / "labels.csv"),),
        "selavi.yaml": (lambda: card.find_card("selavi"),),
        "published.pth": (lambda: load_published(folder / "published.pth"),),
        "reproduce.json": (lambda: read_known([str(folder / "reproduce.json")]),),
    }  # fmt: skip


def run_again(config: TrainConfig, run: Path) -> None:
    """What `avssl train` compares before it goes on."""
    read_config(run)


DEEP: Any = 0
for _ in range(300):
    DEEP = [DEEP]
VALUES = [
    None, True, -1, 0, 1e23, 10**12, 2**63, 10**300, float("nan"), float("inf"), 1e300, 0.5, "", "x" * 100_000, "nan",
    "../../outside", "/tmp/outside", "a/../../b", "\0", "\x1b]0;x\x07\n\u202e", "${oc.env:HOME}", "???", "²", [], {},
    [None], {"a": 1}, [[1]], DEEP, "\ud800", list(range(1000)),
]  # fmt: skip


def changed(value: Any, rng: random.Random) -> Any:
    """A tree with a change at a random place."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice([*value])
        kind = rng.random()
        rest = {k: v for k, v in value.items() if k != key}
        if kind < 0.15:
            return rest
        if kind < 0.25:
            return {**rest, rng.choice(["x", "", "../x", "²", "-1"]): value[key]}
        return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], changed(value[at], rng), *value[at + rng.randrange(2) :]]
    return rng.choice(VALUES)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes with some damage."""
    kind, at = rng.randrange(8), rng.randrange(max(1, len(data)))
    if kind < 3:
        found = bytearray(data)
        for _ in range(1 + rng.randrange(20)):
            found[rng.randrange(len(found))] = rng.randrange(256)
        return bytes(found)
    if kind == 3:
        return data[:at]
    if kind == 4:
        return data[:at] + data[at + 1 + rng.randrange(100) :]
    if kind == 5:
        return data[:at] + bytes([rng.choice([0, 255])]) * rng.randrange(1, 200) + data[at + 100 :]
    if kind == 6:
        return data + data
    return rng.choice(
        [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 5000, b"text\n" * 9, b"\0" * 5000, b"PK\x03\x04"]
    )


def changed_table(path: Path, rng: random.Random) -> None:
    """A Parquet file with a column dropped, of another type, or of other values."""
    table = pq.read_table(path)
    at = rng.randrange(table.num_columns)
    name, column, kind = table.column_names[at], table.column(at), rng.randrange(5)
    if kind == 0:
        table = table.remove_column(at)
    elif kind == 1 and table.schema.metadata:
        about = {k: damaged(v, rng) for k, v in table.schema.metadata.items()}
        if rng.random() < 0.7 and b"avssl" in about:
            about[b"avssl"] = json.dumps(changed(json.loads(table.schema.metadata[b"avssl"]), rng)).encode()
        table = table.replace_schema_metadata(about)
    elif kind == 2:
        other = rng.choice([pa.nulls(len(table)), pa.array([{"a": 1}] * len(table)), pa.array([[1]] * len(table))])
        table = table.set_column(at, name, other)
    elif kind == 3:
        table = table.slice(0, 0) if rng.random() < 0.5 else pa.concat_tables([table] * rng.randrange(2, 300))
    else:
        values = column.to_pylist()
        for row in rng.sample(range(len(values)), 1 + rng.randrange(len(values))):
            values[row] = rng.choice([v for v in VALUES if not isinstance(v, list | dict) and v != "\ud800"])
        values = values if rng.random() < 0.3 else [v if isinstance(v, type(values[0])) else values[0] for v in values]
        for attempt in (column.type, None, pa.string()):
            try:
                table = table.set_column(at, name, pa.array(values, attempt))
                break
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                values = values if attempt is not None else [str(v) for v in values]
    pq.write_table(table, path)


def changed_checkpoint(path: Path, rng: random.Random) -> None:
    """A checkpoint with another tree, whose manifest is of it."""
    state = changed_tensors(torch.load(path, weights_only=True), rng)
    with path.open("wb") as file:
        torch.save(state, file)


def changed_tensors(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = rng.choice([*value])
        if rng.random() < 0.12:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: changed_tensors(value[key], rng)}
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return rng.choice([
            value[None], value.double(), value.flatten()[:1], value * 0 - 5, value.expand(7, *value.shape),
            torch.zeros(1).expand(10**9), torch.zeros(0), value.bool(), value.to(torch.complex64), [value], 3,
            torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**6, 10**6)),
        ])  # fmt: skip
    return changed(value, rng) if isinstance(value, list | dict) else rng.choice([v for v in VALUES if v != "\ud800"])


def change(path: Path, rng: random.Random) -> None:
    """Change a file in a way of its kind, or its bytes, or what is in its place."""
    kind = rng.random()
    if kind < 0.04:
        path.unlink()
        what = rng.randrange(4)
        if what == 0:
            path.mkdir()
        elif what == 1:
            os.mkfifo(path)
        elif what == 2:
            path.symlink_to("/dev/zero")
    elif kind < 0.4 or path.suffix in (".csv", ".js", ".npz"):
        path.write_bytes(damaged(path.read_bytes(), rng))
    elif path.suffix in (".json", ".yaml"):
        found = changed(
            yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text()), rng
        )
        try:
            path.write_text(yaml.safe_dump(found) if path.suffix == ".yaml" else json.dumps(found))
        except (yaml.YAMLError, UnicodeEncodeError, RecursionError):
            path.write_text(json.dumps(found))
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(changed(json.loads(lines[at]), rng))
        path.write_text("\n".join(lines) + "\n" * rng.randrange(2))
    elif path.suffix == ".parquet":
        changed_table(path, rng)
    else:
        changed_checkpoint(path, rng)


def sign(checkpoint: Path) -> None:
    """Let the manifest of a changed checkpoint be of it: digests say nothing of who made it."""
    for path in checkpoint.glob("*.ckpt"):
        if path.is_file() and not path.is_symlink():
            manifest = json.loads((checkpoint / MANIFEST).read_text())
            manifest["files"][path.name] = digest_of(path)
            (checkpoint / MANIFEST).write_text(json.dumps(manifest))


def digest_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def try_case(case: int, folder: Path, pristine: Path, opening: dict[str, tuple[Callable[[], Any], ...]]) -> str:
    """Change a file, open it, and put it back. "opened" or "refused"; AssertionError for all else."""
    rng, names, outside = random.Random(case), sorted(opening), sorted(folder.parent.iterdir())
    name = names[case % len(names)]
    path, about = folder / name, f"case {case}, {name}: "
    change(path, rng)
    if path.suffix == ".ckpt" and rng.random() < 0.8:
        sign(path.parent)
    way = rng.choice(opening[name])
    memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = "opened"
    try:
        way()
    except (UserError, ClipError, FailedError) as error:
        found, said = "refused", str(error)
        complaint = "" if said.strip() and len(said) < 2000 and "\n" not in one_line(said) else f"says {said[:200]!r}"
    except OSError as error:
        found, complaint = "refused", "" if error.errno in FIXES and error.filename is not None else repr(error)
    except BaseException as error:
        raise AssertionError(f"{about}{type(error).__name__}: {error}") from error
    else:
        complaint = ""
    spent = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) << 10
    top = folder / name.split("/")[0]
    shutil.rmtree(top) if top.is_dir() and not top.is_symlink() else top.unlink(missing_ok=True)
    (shutil.copytree if (pristine / top.name).is_dir() else shutil.copy2)(pristine / top.name, top)
    assert not complaint, about + complaint
    assert spent < SECONDS, f"{about}{spent:.1f} s"
    assert grown < MEMORY, f"{about}{grown >> 20} MiB more"
    assert sorted(folder.parent.iterdir()) == outside, f"{about}something was written outside"
    return found


def test_changed_files_are_one_line(tmp_path: Path, monkeypatch, capfd) -> None:
    folder, pristine = tmp_path / "made", tmp_path / "pristine"
    opening = openers(folder, make(folder))
    shutil.copytree(folder, pristine)
    monkeypatch.setattr(card, "card_files", lambda: {"selavi": folder / "selavi.yaml"})
    for name, ways in opening.items():
        for way in ways:
            if name != "published.pth":  # its weights are of no model
                way()
    outcome = Counter(try_case(case, folder, pristine, opening) for case in range(SEED, SEED + COUNT))
    capfd.readouterr()
    with capfd.disabled():
        if "AVSSL_FUZZ_FOREIGN" in os.environ:
            print(f"\n{dict(outcome)}")
    assert outcome["refused"] > COUNT / 3
    assert outcome["opened"] > COUNT / 50
