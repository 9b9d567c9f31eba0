"""The order of clips, failures, and that a clip is a function of its request alone."""

import ctypes
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avssl.clips.augment import augment_frames, mask_spectrogram
from avssl.clips.dataset import ClipDataset, Pass, Request, collate
from avssl.clips.decode import ClipSpec, read_clips
from avssl.clips.loader import load, pass_requests, train_requests
from avssl.config import ClipConfig, DataConfig, IndexConfig
from avssl.core.errors import ClipError, UserError
from avssl.videos.index import index_videos, read_index
from tests.conftest import write_video

CLIP = ClipConfig(frames=4, fps=4, short_side_min=38, short_side_max=42, crop=36, color_jitter=0.4)


@given(videos=st.integers(1, 300), batch=st.integers(1, 40), seed=st.integers(0, 9))
def test_nothing_is_dropped_and_nothing_twice_in_a_pass(videos, batch, seed):
    steps = -(-2 * videos // batch)
    stream = [r for step in range(steps) for r in train_requests(videos, batch, seed, step)]
    for number in range(2):
        seen = [r.video for r in stream if r.number == number]
        assert sorted(seen) == list(range(videos))


def test_passes_differ_and_seeds_differ():
    def first(seed: int, number: int) -> list[int]:
        return [r.video for r in train_requests(100, 100, seed, number)]

    assert first(0, 0) != first(0, 1)
    assert first(0, 0) != first(1, 0)
    assert first(0, 0) == first(0, 0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> ClipDataset:
    root = tmp_path_factory.mktemp("videos")
    for i in range(5):
        write_video(root / f"{i}.mp4", seconds=1.4 + 0.1 * i)
    index_videos(IndexConfig(DataConfig(root=str(root), index=str(root / "index")), workers=1))
    before = (root / "3.mp4").stat()
    (root / "3.mp4").write_bytes(b"broken after indexing".ljust(before.st_size))
    os.utime(root / "3.mp4", ns=(before.st_atime_ns, before.st_mtime_ns))  # of a disk: the size and time do not tell
    return ClipDataset(read_index(root / "index", "all"), root, CLIP, seed=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_is_a_function_of_its_request(dataset, workers):
    requests = [train_requests(5, 4, 1, step) for step in range(2)]
    batches = list(load(dataset, requests, workers))
    for batch, asked in zip(batches, requests, strict=True):
        alone = [collate([dataset[r]]) for r in asked]
        assert (batch.clips["video"] == torch.cat([b.clips["video"] for b in alone])).all()
        assert (batch.clips["audio"] == torch.cat([b.clips["audio"] for b in alone])).all()
        assert (batch.draws.flip == torch.cat([b.draws.flip for b in alone])).all()


def test_a_batch_that_shared_memory_does_not_take_is_one_line(dataset):
    """Without a word, the training would wait for it for ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match="does not fit into shared memory .*workers=0"):
            list(load(dataset, [train_requests(5, 4, 1, 0)], 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_fails_in_training_is_replaced_and_reported(dataset):
    item = dataset[Request(3, Pass.TRAIN, 0)]
    assert item.index != 3
    assert item.clips["video"].shape == (1, 4, 36, 36, 3)
    assert item.failures[0].path == "3.mp4"
    assert "unreadable" in item.failures[0].reason


@pytest.mark.parametrize("kind", [Pass.LABEL, Pass.EVALUATE])
def test_a_file_that_fails_elsewhere_is_left_out(dataset, kind):
    (requests,) = pass_requests(5, 8, kind, 0)
    batch = collate([dataset[r] for r in requests])
    assert batch.index.tolist() == [0, 1, 2, 4]
    assert [f.path for f in batch.failures] == ["3.mp4"]
    assert (batch.draws is None) == (kind is Pass.EVALUATE)


def test_clips_longer_than_the_videos_are_an_error(dataset):
    rows = pa.table({"path": ["a"], "window_start": [0.0], "window_seconds": [1.0], "audio_rate": [24000]})
    with pytest.raises(UserError, match="shorter"):
        ClipDataset(rows, ".", ClipConfig(frames=60, fps=30))


def test_augmentation_keeps_range_and_shape(dataset):
    batch = collate([dataset[Request(i, Pass.LABEL, 0)] for i in (0, 1)])
    x = augment_frames(batch.clips["video"], CLIP, batch.draws)
    assert x.shape == (2, 3, 4, 36, 36)
    assert float(x.min()) >= (0 - 0.45) / 0.225 - 1e-5
    assert float(x.max()) <= (1 - 0.45) / 0.225 + 1e-5
    plain = augment_frames(batch.clips["video"], CLIP, None) * 0.225 + 0.45
    np.testing.assert_allclose(plain.permute(0, 2, 3, 4, 1), batch.clips["video"] / 255, atol=1e-6)


def test_spectrogram_masks_are_no_wider_than_asked(dataset):
    config = ClipConfig(freq_mask=3, time_mask=6)
    batch = collate([dataset[Request(i, Pass.LABEL, n)] for i in (0, 1) for n in range(8)])
    x = torch.randn(16, 1, 40, 63)
    masked = mask_spectrogram(x, config, batch.draws) != x
    assert masked.any()
    assert int(masked.all(3).sum(2).max()) <= 3
    assert int(masked.all(2).sum(2).max()) <= 6


def misread(path, *args, **kwargs):
    """Reads clips, but for the files that are named for what they do."""
    if path.name == "1.mp4":
        ctypes.string_at(0)  # a segmentation fault
    if path.name == "2.mp4":
        time.sleep(60)
    return read_clips(path, *args, **kwargs)


@pytest.mark.slow  # torch looks for ended processes every 5 s
def test_a_video_that_crashes_or_hangs_a_decoding_process_costs_itself_alone(dataset, monkeypatch, capsys):
    monkeypatch.setattr("avssl.clips.dataset.read_clips", misread)
    dataset = ClipDataset(read_index(dataset.root / "index", "all"), dataset.root, replace(CLIP, timeout=1.0), seed=1)
    requests = [*pass_requests(5, 2, Pass.LABEL, 0), *([Request(i, Pass.TRAIN, 0)] for i in range(5))]
    batches = list(load(dataset, requests, 2))
    assert [b.index.tolist() for b in batches[:3]] == [[0], [], [4]]
    assert [len(b.index) for b in batches[3:]] == [1] * 5
    failed = {f.path: f.reason for b in batches for f in b.failures}
    assert failed["1.mp4"] == "crashed the decoder (SIGSEGV)"
    assert failed["2.mp4"] == "took longer than 2 s"
    assert failed.keys() == {"1.mp4", "2.mp4", "3.mp4"}
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.slow
def test_too_many_crashes_are_one_line_that_names_the_videos(dataset, monkeypatch):
    monkeypatch.setattr("avssl.clips.dataset.read_clips", misread)
    monkeypatch.setattr("avssl.clips.loader.CRASHES", 1)
    dataset = ClipDataset(read_index(dataset.root / "index", "all"), dataset.root, CLIP, seed=1)
    with pytest.raises(UserError, match=r"the decoder: 1\.mp4: remove"):
        list(load(dataset, pass_requests(5, 2, Pass.LABEL, 0), 1))


def test_when_nothing_decodes_the_error_is_one_line(tmp_path):
    rows = pa.table({"path": ["gone.mp4"], "window_start": [0.0], "window_seconds": [2.0], "audio_rate": [24000]})
    with pytest.raises(UserError) as error:
        list(load(ClipDataset(rows, tmp_path, CLIP), [[Request(0, Pass.TRAIN, 0)]], 1))
    assert str(error.value).startswith("10 videos in a row")
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_takes_too_long_is_damaged(dataset):
    spec = ClipSpec(4, 4.0, 24000, 1.0)
    with pytest.raises(ClipError, match="took longer than 1e-06 s"):
        read_clips(dataset.root / "0.mp4", [0.0], spec, 36, limit=1e-6)


SCRIPT = """
import sys
from avssl.config import ClipConfig
from avssl.clips.dataset import ClipDataset, Pass
from avssl.videos.index import read_index
from avssl.clips.loader import load, pass_requests
if __name__ == "__main__":
    root = sys.argv[1]
    dataset = ClipDataset(read_index(root + "/index", "all"), root, ClipConfig(frames=4, fps=4, crop=36))
    batches = load(dataset, pass_requests(5, 1, Pass.LABEL, 0), 2)
    next(batches)
    sys.last_traceback = eval(sys.argv[2])  # kept until the interpreter is gone
    del batches
    raise SystemExit(3)
"""


@pytest.mark.parametrize("kept", ["batches", "batches.batches"])  # the second as an error's traceback may keep it
def test_processes_that_ignore_signals_do_not_outlive_the_program(dataset, tmp_path, kept):
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "run.py"), str(dataset.root), kept]
    done = subprocess.run(command, timeout=600, check=False)
    assert done.returncode == 3
