"""Clips out of tar shards are those out of the files; WebDataset streams the shards."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from avssl.cli import main
from avssl.clips.dataset import ClipDataset, Pass, Request
from avssl.clips.decode import ClipSpec, read_clips
from avssl.clips.loader import load, train_requests
from avssl.config import ClipConfig, DataConfig, FoldersConfig, IndexConfig, ShardConfig
from avssl.core.errors import UserError
from avssl.videos.duplicates import find_duplicates
from avssl.videos.index import index_videos, read_index
from avssl.videos.layout import File, Video
from avssl.videos.shards import plan, shard
from avssl.videos.source import Member, url
from avssl.videos.storage import Shards, open_storage
from tests.media.make_media import talking

PATHS = ["train/a, b:c;'/x.mp4", "train/a, b:c;'/y.z.mp4", "train/d/x.mkv", "train/d/x.mp4", "test/d/ü.mp4"]
CLIP = ClipConfig(frames=4, fps=4, short_side_min=38, short_side_max=42, crop=36)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos") / "root, of:all"
    for i, path in enumerate(PATHS):
        talking(folder / path, seconds=1.4 + 0.1 * i)
    return folder


def config(root: Path, out: Path, **options: object) -> ShardConfig:
    return ShardConfig(FoldersConfig(root=str(root), name="x"), out=str(out), **{"shard_mb": 0.02, **options})  # type: ignore[arg-type]


def indexed(root: Path, index: Path, **data: object) -> Path:
    index_videos(IndexConfig(DataConfig(root=str(root), name="x", index=str(index), **data), workers=1))  # type: ignore[arg-type]
    return index


@pytest.fixture(scope="module")
def shards(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out, of:all"
    report = shard(config(root, out))
    assert (report.videos, report.kept) == (5, 0)
    assert report.written == len(list(out.glob("*.tar"))) >= 2
    return out


def test_members_are_where_the_index_says(root: Path, shards: Path) -> None:
    storage = open_storage(shards)
    for path in PATHS:
        member = storage.locate(path)
        assert isinstance(member, Member)
        with open(member.shard, "rb") as file:
            file.seek(member.offset)
            assert file.read(member.size) == (root / path).read_bytes()


def test_the_index_and_the_clips_are_those_of_the_files(root: Path, shards: Path, tmp_path: Path) -> None:
    of_files, of_shards = indexed(root, tmp_path / "files"), indexed(shards, tmp_path / "shards")
    for split in ("train", "test"):
        table = read_index(of_shards, split)
        assert table.equals(read_index(of_files, split))
    a, b = (ClipDataset(read_index(i, "train"), r, CLIP, 3) for i, r in ((of_files, root), (of_shards, shards)))
    for number in range(3):
        for video in range(len(a)):
            x, y = (d[Request(video, Pass.TRAIN, number)] for d in (a, b))
            for name in ("video", "audio"):
                np.testing.assert_array_equal(x.clips[name], y.clips[name])
    batches = list(load(b, [train_requests(len(b), 3, 3, step) for step in range(2)], 2))
    assert [len(batch.index) for batch in batches] == [3, 3]
    again = index_videos(IndexConfig(DataConfig(root=str(shards), name="x", index=str(of_shards)), workers=1))
    assert again.probed == 0


def test_members_are_read_as_files_are(root: Path, shards: Path) -> None:
    spec = ClipSpec(4, 4.0, 24000, 1.0)
    for path in PATHS:
        (ours,) = read_clips(open_storage(shards).locate(path), [0.2], spec, 64)
        (plain,) = read_clips(root / path, [0.2], spec, 64)
        np.testing.assert_array_equal(ours.frames, plain.frames)
        np.testing.assert_array_equal(ours.samples, plain.samples)


def test_duplicates_among_members_are_found(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(root, mine)
    shutil.copy(mine / PATHS[0], mine / PATHS[0].replace(Path(PATHS[0]).stem, "copy"))
    shard(config(mine, tmp_path / "out"))
    files = [File(*stamp) for stamp in open_storage(tmp_path / "out").stamps()]
    found = find_duplicates(files, tmp_path / "out", tmp_path, 1)
    assert sorted([PATHS[0], PATHS[0].replace(Path(PATHS[0]).stem, "copy")]) in found


def test_webdataset_streams_them(root: Path, shards: Path) -> None:
    wds = pytest.importorskip("webdataset")
    found = {}
    for tar in sorted(shards.glob("train-*.tar")):
        for sample in wds.WebDataset(str(tar), shardshuffle=False).decode():
            (suffix,) = sample.keys() & {"mp4", "mkv"}
            about = sample["json"]
            assert about["split"] == "train"
            assert about["class"] == Path(about["path"]).parts[1]
            found[about["path"]] = sample[suffix]
    assert found == {path: (root / path).read_bytes() for path in PATHS if path.startswith("train")}


def test_what_is_there_is_kept_and_what_changed_is_packed_again(root: Path, tmp_path: Path) -> None:
    mine, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(root, mine)
    first = shard(config(mine, out))
    again = shard(config(mine, out))
    assert (again.written, again.kept) == (0, first.written)
    talking(mine / PATHS[4], seconds=1.2)
    assert shard(config(mine, out)).written == 1
    shutil.rmtree(mine / "train")
    assert shard(config(mine, out)).kept == 1
    assert [p.name for p in out.glob("*.tar")] == ["test-000000.tar"]
    assert pq.read_table(out / "shards.parquet")["path"].to_pylist() == [PATHS[4]]


def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    video = talking(root / "0000.mkv")
    rest = np.random.default_rng(0).bytes(4_000_000)
    for i in range(1, 60):
        (root / f"{i:04d}.mkv").write_bytes(video.read_bytes() + rest)
    words = [f"data.root={root}", f"out={out}", "shard_mb=20"]
    run = subprocess.Popen([sys.executable, "-m", "avssl", "shard", *words], start_new_session=True)
    while not len(list(out.glob("all*.tar"))) >= 2:
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    if not (out / "shards.parquet").exists():
        with pytest.raises(UserError, match=r"no shards\.parquet"):
            Shards(out)
    report = shard(config(root, out, shard_mb=20.0))
    assert report.kept >= 1
    assert report.written + report.kept == len(list(out.glob("*.tar")))
    assert not list(out.glob(".*.tar"))
    for tar in out.glob("*.tar"):
        with tarfile.open(tar) as opened:
            assert len(opened.getnames()) % 2 == 0
    storage = Shards(out)
    for path in ("0001.mkv", "0059.mkv"):
        member = storage.locate(path)
        with open(member.shard, "rb") as file:
            file.seek(member.offset)
            assert file.read(member.size) == (root / path).read_bytes()


def test_the_plan_follows_from_the_videos_size_and_seed() -> None:
    videos = [Video(f"{i:03d}.mp4", "train" if i % 3 else "test", None, 10, 0) for i in range(60)]
    shards = plan(videos, 100, seed=0)
    assert shards == plan(list(reversed(videos)), 100, seed=0)
    assert sorted(v.path for s in shards for _, v in s.members) == [v.path for v in videos]
    assert [s.name for s in shards] == [
        *(f"test-{i:06d}.tar" for i in range(2)),
        *(f"train-{i:06d}.tar" for i in range(4)),
    ]
    assert all(len(s.members) == 10 for s in shards)
    assert plan(videos, 100, seed=1) != shards
    assert [v.path for _, v in shards[2].members] != sorted(v.path for _, v in shards[2].members)


def test_keys_differ_before_their_first_dot() -> None:
    paths = ["a.b/x.mp4", "a.b/x.mkv", "a.b/x.y.mp4", "a.b/x_y.mp4", "a.b/x-2.mp4", "x.mp4"]
    (found,) = plan([Video(p, "all", None, 1, 0) for p in paths], 1e9, 0)
    keys = [key for key, _ in found.members]
    assert len(set(keys)) == len(paths)
    assert all("." not in Path(key).name for key in keys)


def test_a_name_has_no_power_over_the_address() -> None:
    assert url(Member("/a,,:b,end,0.tar", 5, 7)) == "subfile,,start,5,end,12,,:file:/a,,:b,end,0.tar"
    assert url("http://a") == "file:http://a"


def test_what_does_not_fit_is_one_line(root: Path, shards: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(UserError, match="already contains shards"):
        shard(config(shards, tmp_path / "out"))
    with pytest.raises(UserError, match="contains the other"):
        shard(config(root, root / "out"))
    with pytest.raises(UserError, match="contains shards with root="):
        shard(config(root / "train", shards))
    with pytest.raises(UserError, match=r"no shards\.parquet"):
        Shards(root)
    (tmp_path / "shards.parquet").write_bytes(b"spoiled")
    with pytest.raises(UserError, match="cannot be read"):
        indexed(tmp_path, tmp_path / "index")
    assert main(["shard", f"data.root={tmp_path / 'nowhere'}", f"out={tmp_path / 'out'}"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_member_that_is_not_there_is_a_failure(shards: Path, tmp_path: Path) -> None:
    index = indexed(shards, tmp_path / "index")
    rows = read_index(index, "test")
    dataset = ClipDataset(rows.set_column(0, "path", [["gone.mp4"]]), shards, CLIP)
    item = dataset[Request(0, Pass.EVALUATE, 0)]
    assert item.clips is None
    assert "unreadable" in item.failures[0].reason
