"""`avssl features`: killed and resumed, shared by processes, what the encoders give, videos that fail, bad input."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from avssl.cli import main
from avssl.clips.dataset import ClipDataset, Pass, Request, collate
from avssl.clips.feature_store import open_store
from avssl.clips.transform import DeviceTransform
from avssl.config import FeaturesConfig, ModelConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.core.part import Part
from avssl.evaluate import feature_shards, features_parts
from avssl.evaluate.store_features import Extraction
from avssl.models.build import build_multi_stream
from avssl.videos.index import read_index
from tests.conftest import write_video
from tests.processes import FORKSERVER

CPU = torch.device("cpu")
WORDS = ["model=tiny", "clip=tiny", "workers=0", "threads=1", "device=cpu"]


def extract(words: list[str], shard: int, env: dict[str, str]) -> None:
    torch.set_num_threads(1)
    os.environ.update(env)
    feature_shards.SHARD = shard
    raise SystemExit(main(["features", *words]))


def start(words: list[str], shard: int = 10, **env: str):
    process = FORKSERVER.Process(target=extract, args=(words, shard, env))
    process.start()
    return process


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in (".lock", "encoders.ckpt")}


@pytest.fixture(scope="module")
def words(indexed) -> list[str]:
    return [*indexed, *WORDS, "views=3", "augmented=2"]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory) -> Path:
    """A store of the tiny sample, made in one go by files of 10 videos."""
    out = tmp_path_factory.mktemp("store") / "whole"
    process = start([*words, f"out={out}"])
    process.join(600)
    assert process.exitcode == 0
    return out


def test_killed_and_repeated_it_is_the_same_store(whole, words, tmp_path, capfd):
    out = tmp_path / "store"
    parts = 0
    for count in (1, 3):
        process = start([*words, f"out={out}"])
        while process.is_alive() and len([*out.rglob("0*.npz")]) < count:
            time.sleep(0.01)
        process.kill()
        process.join()
        parts = len([*out.rglob("0*.npz")])
        assert count <= parts < 6
        assert not (out / "store.json").exists()
    assert main(["train", f"data.features={out}"]) == 2
    assert "are incomplete: repeat the `avssl features` command" in capfd.readouterr().err
    process = start([*words, f"out={out}"])
    process.join(600)
    assert process.exitcode == 0
    assert contents(out) == contents(whole)
    assert not (out / "parts").exists()
    before = (out / "train.video.npy").stat().st_mtime_ns
    assert main(["features", *words, f"out={out}"]) == 0  # nothing is left to do
    assert (out / "train.video.npy").stat().st_mtime_ns == before


def test_two_sharers_write_the_same_store(whole, words, tmp_path):
    out = tmp_path / "store"
    processes = [start([*words, f"out={out}"], RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(out) == contents(whole)


def test_it_holds_what_the_encoders_give(whole, words):
    store = open_store(whole)
    assert store.encoders == {"video": "tiny", "audio": "tiny"}
    assert (store.views, store.augmented, store.widths) == (3, 2, {"video": 128, "audio": 128})
    split = store.split("train")
    assert split.features["video"].shape == (36 * 5, 128)
    torch.manual_seed(0)
    model = build_multi_stream(ModelConfig(video="tiny", audio="tiny")).eval()
    model.encoders.load_state_dict(torch.load(whole / "encoders.ckpt", weights_only=True)["model"])
    rows = read_index(store.data["index"], "train")
    dataset = ClipDataset(rows, store.data["root"], store.clip, clips=3)
    transform = DeviceTransform(store.clip, CPU)
    for row in (0, 9, 10, 35):
        plain = collate([dataset[Request(row, Pass.EVALUATE, 0)]])
        augmented = [collate([dataset[Request(row, Pass.LABEL, 1_000_000 + number)]]) for number in range(2)]
        with torch.no_grad():
            parts = [model.encode_raw(transform(batch)) for batch in (plain, *augmented)]
        for name, x in split.features.items():
            expected = torch.cat([part[name] for part in parts]).numpy()
            assert np.allclose(x[5 * row : 5 * row + 5], expected, rtol=1e-4, atol=1e-5)
        assert split.times[3 * row : 3 * row + 3].tolist() == dataset.evaluation_starts(row)
        assert np.array_equal(split.centre("audio", np.array([row]))[0], split.features["audio"][5 * row + 1])


def test_every_second_a_clip(words, indexed, tmp_path):
    out = tmp_path / "store"
    assert main(["features", *indexed, *WORDS, "every=0.5", "modalities=[audio]", f"out={out}"]) == 0
    store = open_store(out)
    split = store.split("test")
    seconds = split.rows["window_seconds"].to_numpy()
    assert split.clips.tolist() == [int((x - 1) / 0.5 + 1e-6) + 1 for x in seconds]
    assert set(np.diff(split.times)[np.diff(split.times) > 0]) == {0.5}
    assert list(split.features) == ["audio"]
    assert not store.has_centre


def test_videos_that_fail_are_recorded_with_the_reason(tmp_path, capfd):
    root = tmp_path / "videos"
    for i in range(4):
        write_video(root / f"{i}.mp4")
    silent = root / "silent.mp4"
    write_video(silent)
    import av

    with av.open(str(silent)) as source, av.open(str(root / "mute.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    silent.unlink()
    data = [f"data.root={root}", f"data.index={tmp_path / 'index'}"]
    assert main(["index", *data, "data.require_sound=false", "workers=1"]) == 0
    times = (root / "2.mp4").stat()
    (root / "2.mp4").write_bytes(b"\0" * times.st_size)
    os.utime(root / "2.mp4", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert main(["features", *data, *WORDS, f"out={tmp_path / 'store'}"]) == 0
    assert "2 rows without features; the first is 2.mp4" in capfd.readouterr().out
    split = open_store(tmp_path / "store").split("all")
    assert split.clips.tolist() == [1, 1, 0, 1, 0]
    assert split.reasons[4] == "no audio"
    assert len(split.features["video"]) == 3
    assert main(["features", *data, *WORDS, "modalities=[video]", f"out={tmp_path / 'video'}"]) == 0
    assert open_store(tmp_path / "video").split("all").clips.tolist() == [1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["views=5"], "contains features with views=3, not 5"),
        (["model.audio=resnet9"], "contains features with model.audio=tiny, not resnet9"),
        (["seed=1"], "contains features with seed=0, not 1"),
        (["every=1"], "views=3 and every=1 exclude each other: give one of them"),
        (["run=."], "is not a run folder"),
    ],
)
def test_another_call_into_the_same_folder_is_refused(change, message, whole, words, capfd):
    assert main(["features", *words, *change, f"out={whole}"]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def harmed(folder: Path, name: str, how: str) -> None:
    path = folder / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[:-100])
    elif how == "nan":
        array = np.load(path)
        array[7, 3] = np.nan
        np.save(path, array)
    elif how == "other type":
        np.save(path, np.load(path).astype(np.float64))
    elif how == "objects":
        np.save(path, np.array([{}] * 10, object), allow_pickle=True)
    elif how == "fewer rows":
        pq.write_table(pq.read_table(path).slice(1), path)
    elif how == "a path that leads out":
        table = pq.read_table(path)
        paths = pa.array(["../secret.mp4", *table["path"].to_pylist()[1:]])
        pq.write_table(table.set_column(0, "path", paths), path)
    else:
        path.write_text(data.decode().replace('"views": 3', how))


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("train.video.npy", "gone", "train.video.npy"),
        ("train.video.npy", "truncated", "is damaged"),
        ("train.audio.npy", "nan", "NaN or infinite"),
        ("train.audio.npy", "other type", "is damaged"),
        ("train.audio.npy", "objects", "is damaged"),
        ("train.parquet", "fewer rows", "has 35 rows, not 36"),
        ("train.parquet", "a path that leads out", "leads out of its folder"),
        ("store.json", '"views": -1', "views is -1"),
        ("store.json", '"views": 3, "oops', "is not valid JSON"),
    ],
)
def test_a_damaged_store_is_refused_in_one_line(name, how, message, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "store")
    harmed(tmp_path / "store", name, how)
    with pytest.raises(UserError, match=message) as error:
        open_store(tmp_path / "store").split("train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [{}, {"root": "a", "name": "b"}, {"root": "a", "name": "b", "index": 3}])
def test_a_store_that_does_not_name_its_videos_is_refused(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "store")
    note = json.loads((tmp_path / "store" / "store.json").read_text())
    (tmp_path / "store" / "store.json").write_text(json.dumps({**note, "data": data}))
    with pytest.raises(UserError, match="data is an object"):
        open_store(tmp_path / "store")


def no_more(*_):
    raise AssertionError("encoded again")


def test_parts_write_what_the_command_then_joins(whole, words, tmp_path, monkeypatch):
    """Three jobs, one of which is killed and repeated; the command itself encodes nothing."""
    monkeypatch.setattr(feature_shards, "SHARD", 10)
    out = tmp_path / "store"
    config = compose_config("features", FeaturesConfig, [*words, f"out={out}"])
    encoded, calls = Extraction._encoded, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encoded(*args)

    monkeypatch.setattr(Extraction, "_encoded", killed)
    with pytest.raises(KeyboardInterrupt):
        features_parts.run_part(config, Part(1, 3))
    for number in (2, 1, 0):
        before = {p.name for p in out.rglob("0*.npz")}
        features_parts.run_part(config, Part(number, 3))
        assert {p.name for p in out.rglob("0*.npz")} != before or number == 1
        assert not (out / "store.json").exists()
    features_parts.run_part(config, Part(1, 3))
    monkeypatch.setattr(Extraction, "_encoded", no_more)
    assert main(["features", *words, f"out={out}"]) == 0
    assert contents(out) == contents(whole)
    features_parts.run_part(config, Part(1, 3))  # when all is done, there is nothing to do
    assert not (out / "parts").exists()
