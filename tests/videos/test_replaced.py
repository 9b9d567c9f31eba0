"""What changed after it was indexed: the videos, the index itself, and what avssl measures."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.cli import main
from avssl.clips.dataset import ClipDataset, Pass, Request, describe_failures
from avssl.clips.loader import load
from avssl.config import ClipConfig, DataConfig, ExaminedDataConfig, IndexConfig, IndexedDataConfig, TrainedDataConfig
from avssl.core.errors import UserError
from avssl.core.plurals import counted, out_of
from avssl.videos import index as index_module
from avssl.videos.index import index_videos, read_index, splits, training_split
from avssl.videos.index_options import (
    as_indexed_before,
    difference,
    fingerprint,
    own_splits,
    resolve_for_training,
    tell_if_older,
)
from avssl.videos.source import CHANGED
from tests.media.make_media import talking

CLIP = ClipConfig(frames=4, fps=8.0, crop=16, short_side_min=16, short_side_max=16, audio_rate=8000, audio_seconds=0.5)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking(tmp_path_factory.mktemp("video") / "talking.mp4")


@pytest.fixture
def root(video: Path, tmp_path: Path) -> Path:
    for name in ("1.mp4", "2.mp4", "3.mp4"):
        (tmp_path / "root").mkdir(exist_ok=True)
        shutil.copy2(video, tmp_path / "root" / name)
    return tmp_path / "root"


def config(root: Path, **data: object) -> IndexConfig:
    index = str(root.parent / "index")
    return IndexConfig(data=DataConfig(root=str(root), name="x", index=index, **data), workers=1)  # type: ignore[arg-type]


def dataset(root: Path, **options: object) -> ClipDataset:
    return ClipDataset(read_index(root.parent / "index", "all"), root, CLIP, **options)  # type: ignore[arg-type]


# a video


def overwritten(path: Path) -> None:
    """One byte is another, and the size as it was."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("change", [overwritten, lambda path: talking(path, seconds=1.2), lambda path: os.utime(path)])
def test_a_replaced_video_gives_no_clip(root: Path, change, capsys) -> None:
    index_videos(config(root))
    change(root / "2.mp4")
    videos = dataset(root)
    (batch,) = load(videos, [[Request(i, Pass.EVALUATE, 0) for i in range(3)]], workers=0)
    assert batch.index.tolist() == [0, 2]
    assert batch.failures == [("2.mp4", CHANGED)]
    assert capsys.readouterr().err == f"avssl: 2.mp4 {CHANGED}: it is not used; run `avssl index` again\n"
    replaced = videos[Request(1, Pass.TRAIN, 0)]
    assert replaced.index != 1
    assert replaced.failures[0] == ("2.mp4", CHANGED)
    assert main(["index", f"data.root={root}", f"data.index={root.parent / 'index'}", "workers=1"]) == 0
    assert dataset(root)[Request(1, Pass.EVALUATE, 0)].failures == []


def test_a_copy_that_keeps_times_to_the_second_is_the_same_video(root: Path) -> None:
    index_videos(config(root))
    seconds = (root / "2.mp4").stat().st_mtime_ns // 10**9 * 10**9
    os.utime(root / "2.mp4", ns=(seconds, seconds))
    assert dataset(root)[Request(1, Pass.EVALUATE, 0)].failures == []
    os.utime(root / "2.mp4", ns=(seconds - 3 * 10**9,) * 2)
    assert dataset(root)[Request(1, Pass.EVALUATE, 0)].failures == [("2.mp4", CHANGED)]


def test_a_video_that_is_gone_is_not_called_replaced(root: Path) -> None:
    index_videos(config(root))
    (root / "2.mp4").unlink()
    (failure,) = dataset(root)[Request(1, Pass.EVALUATE, 0)].failures
    assert failure.reason.startswith("unreadable")


def test_where_all_are_replaced_training_names_the_fix(root: Path) -> None:
    index_videos(config(root))
    for path in root.iterdir():
        os.utime(path)
    with pytest.raises(UserError, match=r"has changed since it was indexed\): run `avssl index` again"):
        dataset(root)[Request(1, Pass.TRAIN, 0)]


def test_a_member_that_was_packed_anew(root: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    assert main(["shard", f"data.root={root}", f"out={shards}"]) == 0
    assert main(["index", f"data.root={shards}", f"data.index={tmp_path / 'index'}", "workers=1"]) == 0
    assert dataset_of(shards, tmp_path)[Request(1, Pass.EVALUATE, 0)].failures == []
    overwritten(root / "2.mp4")
    assert main(["shard", f"data.root={root}", f"out={shards}"]) == 0
    assert dataset_of(shards, tmp_path)[Request(1, Pass.EVALUATE, 0)].failures == [("2.mp4", CHANGED)]
    assert dataset_of(shards, tmp_path)[Request(0, Pass.EVALUATE, 0)].failures == []


def dataset_of(shards: Path, folder: Path) -> ClipDataset:
    return ClipDataset(read_index(folder / "index", "all"), shards, CLIP)


def test_failures_in_words() -> None:
    some = [("a", CHANGED), ("b", "unreadable"), ("a", CHANGED)]  # two windows of a
    assert describe_failures(some) == (
        "1 video could not be decoded and 1 video has changed since it was indexed (run `avssl index` again)"
    )
    assert describe_failures([("b", "x"), ("c", "x")]) == "2 videos could not be decoded"
    assert describe_failures([]) == ""


# the index


def test_what_a_run_was_trained_on_is_compared_as_far_as_it_is_known(root: Path) -> None:
    index_videos(config(root))
    rows = read_index(root.parent / "index", "all")
    before = fingerprint(rows)
    assert difference(before, fingerprint(rows)) == ""
    assert difference({k: before[k] for k in ("number", "digest")}, before) == ""  # of an earlier version
    assert difference(before, fingerprint(rows.slice(1))) == "3 videos then, 2 videos now"
    other = rows.set_column(0, "path", pa.array(["1.mp4", "2.mp4", "4.mp4"]))
    assert difference(before, fingerprint(other)) == "other videos"
    at = rows.schema.get_field_index("window_start")
    later = rows.set_column(at, "window_start", pa.array([0.0, 0.0, 0.5]))
    assert difference(before, fingerprint(later)) == "other windows"
    twice = pa.concat_tables([rows, rows])
    assert difference(before, fingerprint(twice)) == "3 videos then, 6 windows of 3 videos now"


def test_an_interrupted_index_keeps_its_options_and_the_tables_theirs(root: Path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index_module, "_probe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index_videos(config(root, window_seconds=1.0))
    index = config(root).data.index
    examined = ExaminedDataConfig(root=str(root), name="x", index=index)
    assert as_indexed_before(examined).window_seconds == 1.0  # as the doctor goes on
    index_videos(config(root, min_seconds=0.5))
    with monkeypatch.context() as patch:
        patch.setattr(index_module, "_probe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index_videos(config(root, window_seconds=1.0))
    assert as_indexed_before(examined).window_seconds == 1.0
    resolved = resolve_for_training(TrainedDataConfig(name="x", index=index))
    assert resolved.root == str(root.resolve())
    reading = resolved.reading
    assert (reading.window_seconds, reading.min_seconds) == (None, 0.5)  # of the rows that are there
    assert splits(index) == ["all"]


def test_an_index_of_another_version_is_made_anew(root: Path, capsys) -> None:
    index_videos(config(root))
    folder = root.parent / "index"
    journal, note = folder / "probes.jsonl", folder / "index.json"
    journal.write_text(journal.read_text().replace(f'"version": {index_module.VERSION}', '"version": 3'))
    note.write_text(json.dumps({k: v for k, v in json.loads(note.read_text()).items() if k != "probe"}))
    for _ in range(2):
        assert read_index(folder, "all").num_rows == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "made by another version of avssl" in line
    assert "run `avssl index` again" in line
    assert index_videos(config(root)).probed == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("avssl: probing 3 files again, because another version of avssl")
    tell_if_older.cache_clear()
    read_index(folder, "all")
    assert index_videos(config(root)).probed == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "line", ['{"probe": {}}', '{"probe": {"reason": "x"}}', '{"probe": 1}', '{"size": 1}', "{}", "level", "fps"]
)
def test_a_journals_line_that_is_no_probe_is_passed_over(root: Path, line: str) -> None:
    index_videos(config(root))
    if line in ("level", "fps"):
        whole = json.loads((root.parent / "index" / "probes.jsonl").read_text().splitlines()[0])
        line = json.dumps(
            {**whole, "silence_db": "loud"} if line == "level" else {**whole, "probe": whole["probe"] | {"fps": "x"}}
        )
    entry = {**json.loads(line), "version": index_module.VERSION, "path": "1.mp4"}
    with (root.parent / "index" / "probes.jsonl").open("a") as journal:
        journal.write(json.dumps(entry) + "\n")
    assert index_videos(config(root)).probed == 1


def test_a_table_without_a_column_is_one_line(root: Path) -> None:
    index_videos(config(root))
    path = root.parent / "index" / "all.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["size"]), path)
    with pytest.raises(UserError, match=r"all\.parquet has no column size: run `avssl index` again"):
        read_index(root.parent / "index", "all")


# splits


def test_splits_by_their_own_names(root: Path, tmp_path: Path, capsys) -> None:
    data = tmp_path / "data"
    for split in ("Train", "test_seen", "test_unseen", "rejects"):
        (data / split / "a").mkdir(parents=True)
        shutil.copy2(root / "1.mp4", data / split / "a/1.mp4")
    assert index_videos(config(data)).rows == {"train": 1, "test_seen": 1, "test_unseen": 1, "rejects_split": 1}
    index = tmp_path / "index"
    assert splits(index) == ["rejects_split", "test_seen", "test_unseen", "train"]
    for asked in ("Train", "train", "training"):
        assert read_index(index, asked)["path"].to_pylist() == ["Train/a/1.mp4"]
    assert read_index(index, "test_unseen").num_rows == 1
    with pytest.raises(UserError, match="no split 'test'"):
        read_index(index, "test")
    shutil.rmtree(data / "test_seen")
    index_videos(config(data))
    assert splits(index) == ["rejects_split", "test", "train"]  # the only one that is named as test
    assert not (index / "test_seen.parquet").exists()


def test_names_of_splits_lead_nowhere_else(tmp_path: Path) -> None:
    rows = {"../x": 1, "a/b": 1, ".x": 1, "": 1, "rejects": 1, "x\0": 1, "mine": 1}
    (tmp_path / "index.json").write_text(json.dumps({"root": "videos", "rows": rows}))
    assert own_splits(tmp_path) == ["mine"]
    (tmp_path / "index.json").write_text('{"root": "videos", "rows": 1}')
    assert own_splits(tmp_path) == []
    for other in ("[]", '{"rows": 1}', "[" * 100_000, "torn"):
        (tmp_path / "index.json").write_text(other)
        with pytest.raises(UserError, match="index.json"):
            own_splits(tmp_path)


def test_a_validation_or_test_split_is_not_trained_on_for_want_of_another() -> None:
    data = IndexedDataConfig(root="x", index="i")
    assert training_split(data, ["test", "train", "val"]) == "train"
    assert training_split(data, ["all"]) == "all"
    for there in (["test"], ["test", "val"], ["val"], ["all", "val"]):
        with pytest.raises(UserError, match=r"no split train to train on .* data\.train_split"):
            training_split(data, there)
    assert training_split(IndexedDataConfig(root="x", index="i", train_split="Validation"), ["test", "val"]) == "val"


# counts


def test_counts_say_what_they_count() -> None:
    assert (counted(1, 1), counted(2000, 2000)) == ("1 video", "2,000 videos")
    assert counted(80, 36) == "80 windows of 36 videos"
    assert (out_of(1, 36, 36), out_of(3, 80, 1)) == ("1 of 36 videos", "3 of 80 windows of 1 videos")


def test_windows_are_counted_as_windows(root: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("AVSSL_VERBOSITY", "verbose")
    index = root.parent / "index"
    words = [f"data.root={root}", f"data.index={index}", "workers=1"]
    assert main(["index", *words, "data.window_seconds=0.7", "data.min_seconds=0.5"]) == 0
    said = capsys.readouterr().out
    assert "3 usable in 6 windows" in said
    assert "6 of 6 windows of 3 videos are shorter than 2 s" in said
    with pytest.raises(UserError, match=r"6 of 6 windows of 3 videos are shorter than a clip of 2 s"):
        ClipDataset(read_index(index, "all"), root, ClipConfig(frames=20, fps=10.0))
    assert main(["train", *words[:2], "experiment=small", "labelling.clusters=7", f"out={root.parent / 'run'}"]) == 2
    assert "labelling.clusters=7 is more than the 6 windows of 3 training videos" in capsys.readouterr().err
