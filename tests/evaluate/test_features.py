"""Cached features: the same whoever extracts them, found again, never stale; several clips, crops and maps."""

import json
import os
import shutil
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from avssl.clips.dataset import ClipDataset, Pass, Request, collate
from avssl.clips.transform import DeviceTransform
from avssl.config import ClipConfig, ModelConfig
from avssl.core.checkpoint_file import digest
from avssl.core.errors import UserError
from avssl.core.part import Part
from avssl.evaluate import feature_shards
from avssl.evaluate import features as module
from avssl.evaluate.features import Sampling, extract_features, write_features
from avssl.models import build_multi_stream
from avssl.videos.index import read_index

CPU = torch.device("cpu")
CLIP = ClipConfig(
    frames=4, fps=4, short_side_min=38, short_side_max=42, crop=36, mels=40, window_ms=32, hop_ms=16, volume_jitter=0
)


@pytest.fixture(scope="module")
def videos(indexed):
    root, index = (word.split("=", 1)[1] for word in indexed)
    return read_index(index, "train"), root


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = build_multi_stream(ModelConfig(video="tiny", audio="tiny", hidden=16), clusters=3, projection=8)
    for norm in (m for m in found.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 2)
    return found


def arrays(found):
    return {**found.encoded, **{f"{k} embedding": v for k, v in found.embedded.items()}, "rows": found.rows,
            **({} if found.maps is None else {"maps": found.maps})}  # fmt: skip


def same(a, b):
    return arrays(a).keys() == arrays(b).keys() and all(np.array_equal(arrays(a)[k], arrays(b)[k]) for k in arrays(a))


def test_whoever_extracts_them_they_are_the_same(videos, model, tmp_path, monkeypatch):
    """Workers, processes, the size of a file of features, and what else is extracted: bit for bit."""
    rows, root = videos
    whole = extract_features(model, rows, root, CLIP, CPU, tmp_path / "a")
    assert len(whole.rows) == rows.num_rows == 36
    assert same(whole, extract_features(model, rows, root, CLIP, CPU, tmp_path / "b", workers=2))
    monkeypatch.setattr(feature_shards, "SHARD", 16)
    assert same(whole, extract_features(model, rows, root, CLIP, CPU, tmp_path / "c"))
    for rank in (0, 1, 2):  # each finds what those before it have left
        assert same(whole, extract_features(model, rows, root, CLIP, CPU, tmp_path / "d", share=(rank, 3)))
    # a video at another place, among others: another rounding at most
    turned = extract_features(model, rows.take(pa.array(range(35, 20, -1))), root, CLIP, CPU, tmp_path / "e")
    for name, x in whole.encoded.items():
        assert np.allclose(turned.encoded[name], x[35:20:-1], rtol=1e-5, atol=1e-6)


def test_they_are_what_the_encoders_give(videos, model, tmp_path):
    rows, root = videos
    rows = rows.slice(0, 3)
    sampling = Sampling(clips=3, crops=2, maps=True)
    found = extract_features(model, rows, root, CLIP, CPU, tmp_path, sampling=sampling)
    dataset = ClipDataset(rows, root, CLIP, clips=3, crops=2)
    model.eval()
    with torch.no_grad():
        clips = DeviceTransform(CLIP, CPU)(collate([dataset[Request(i, Pass.EVALUATE, 0)] for i in range(3)]))
        encoded = model.encode(clips)
        maps = model.encoders["video"].feature_map(clips["video"])
    for name, x in encoded.items():
        assert np.allclose(found.encoded[name], x.reshape(3, 6, -1).mean(1), atol=1e-5)
        assert np.allclose(found.embedded[name], model.embed(x, name).detach().reshape(3, 6, -1).mean(1), atol=1e-5)
    assert maps.shape == (18, 128, 1, 3, 3)  # 4 frames, 36 px: pooled by 2 in space alone
    pooled = F.normalize(F.max_pool3d(maps, (1, 2, 2)).flatten(1))
    assert np.allclose(found.maps, pooled.reshape(3, 6, -1).mean(1), atol=1e-5)


def test_projections_are_float32_of_bfloat16_features(videos, model, tmp_path):
    rows, root = videos
    found = extract_features(model, rows.slice(0, 8), root, CLIP, CPU, tmp_path, precision="bfloat16")
    for name, x in found.encoded.items():
        encoded = torch.from_numpy(x)
        assert torch.equal(encoded, encoded.bfloat16().float())
        with torch.no_grad():
            np.testing.assert_allclose(found.embedded[name], model.embed(encoded, name), atol=1e-6)


def test_clips_are_spread_and_crops_are_along_the_longer_side(videos):
    rows, root = videos
    dataset = ClipDataset(rows.slice(0, 1), root, CLIP, clips=3, crops=1)
    item = dataset[Request(0, Pass.EVALUATE, 0)]
    assert item.clips["video"].shape == (3, 4, 36, 36, 3)
    assert item.clips["audio"].shape == (3, 24000)
    alone = ClipDataset(rows.slice(0, 1), root, CLIP)[Request(0, Pass.EVALUATE, 0)]
    assert np.array_equal(item.clips["video"][1], alone.clips["video"][0])  # the middle one of three is the centre clip
    assert np.array_equal(item.clips["audio"][1], alone.clips["audio"][0])
    assert not np.array_equal(item.clips["audio"][0], item.clips["audio"][2])
    crops = ClipDataset(rows.slice(0, 1), root, CLIP, crops=3)[Request(0, Pass.EVALUATE, 0)]
    assert np.array_equal(crops.clips["video"][1], alone.clips["video"][0])
    assert not np.array_equal(crops.clips["video"][0], crops.clips["video"][2])
    assert np.array_equal(crops.clips["audio"], alone.clips["audio"].repeat(3, 0))


def test_they_are_found_again_and_never_stale(videos, model, tmp_path, monkeypatch):
    rows, root = videos
    first = extract_features(model, rows, root, CLIP, CPU, tmp_path)

    def no_more(*_):
        raise AssertionError("extracted again")

    with monkeypatch.context() as patch:
        patch.setattr(module._Extractor, "encode", no_more)
        assert same(first, extract_features(model, rows, root, CLIP, CPU, tmp_path))
    before = digest(model)
    with torch.no_grad():
        model.encoders["audio"].blocks[0][1].running_mean += 1e-3  # a buffer counts too
    assert digest(model) != before
    other = extract_features(model, rows, root, CLIP, CPU, tmp_path)
    assert not same(first, other)
    moved = rows.set_column(rows.column_names.index("mtime_ns"), "mtime_ns", pa.array([1] * rows.num_rows))
    with pytest.raises(UserError, match="has changed since it was indexed"):  # and is not taken from what was kept
        extract_features(model, moved, root, CLIP, CPU, tmp_path)
    louder = ClipConfig(**{**vars(CLIP), "mels": 41})
    for changed in (
        lambda: extract_features(model, rows, root, louder, CPU, tmp_path),
        lambda: extract_features(model, rows, root, CLIP, CPU, tmp_path, sampling=Sampling(clips=2)),
        lambda: extract_features(model, rows, root, CLIP, CPU, tmp_path, modalities=["video"]),
        lambda: extract_features(model, rows, root, CLIP, CPU, tmp_path, "bfloat16"),
    ):
        there = len(os.listdir(tmp_path))
        changed()
        assert len(os.listdir(tmp_path)) == there + 1


def test_an_extraction_that_was_stopped_goes_on(videos, model, tmp_path, monkeypatch):
    rows, root = videos
    monkeypatch.setattr(feature_shards, "SHARD", 16)
    encode, calls = module._Extractor.encode, []

    def stopped(self, batch, at):
        calls.append(at)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, batch, at)

    monkeypatch.setattr(module._Extractor, "encode", stopped)
    with pytest.raises(KeyboardInterrupt):
        extract_features(model, rows, root, CLIP, CPU, tmp_path / "part")
    extract_features(model, rows, root, CLIP, CPU, tmp_path / "part")
    assert calls == [0, 16, 32, 32]
    assert not [p for p in (tmp_path / "part").rglob(".*")]


def test_a_damaged_video_is_left_out_and_moves_no_other(videos, model, tmp_path):
    rows, root = videos
    paths = rows["path"].to_pylist()
    whole = extract_features(model, rows, root, CLIP, CPU, tmp_path)
    paths[5] = "gone.mp4"
    torn = rows.set_column(rows.column_names.index("path"), "path", pa.array(paths))
    found = extract_features(model, torn, root, CLIP, CPU, tmp_path)
    assert found.rows.tolist() == [i for i in range(36) if i != 5]
    assert [f.path for f in found.failures] == ["gone.mp4"]
    assert np.array_equal(found.encoded["video"], np.delete(whole.encoded["video"], 5, 0))
    json.dumps(found.failures)


def test_a_disk_that_was_away_is_tried_again(videos, model, tmp_path):
    rows, root = videos
    with pytest.raises(UserError, match="check data.root"):
        extract_features(model, rows, tmp_path / "not mounted", CLIP, CPU, tmp_path / "cache")
    later = time.time() + 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_shards.time, "time", lambda: later)
        assert len(extract_features(model, rows, root, CLIP, CPU, tmp_path / "cache").rows) == 36


def test_a_damaged_video_is_tried_again_alone(videos, model, tmp_path, monkeypatch):
    """A later command decodes it once more, and no other; nothing is encoded until it can be read."""
    rows, root = videos
    paths = rows["path"].to_pylist()
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    (moved / paths[5]).rename(tmp_path / "away.mp4")
    monkeypatch.setattr(feature_shards, "SHARD", 16)
    first = extract_features(model, rows, moved, CLIP, CPU, tmp_path / "cache")
    assert [f.path for f in first.failures] == [paths[5]]
    decoded: list[int] = []
    item = ClipDataset.__getitem__

    def counted(self, request):
        decoded.append(request.video)
        return item(self, request)

    monkeypatch.setattr(ClipDataset, "__getitem__", counted)
    now = time.time()
    for later in (10, 20):
        monkeypatch.setattr(feature_shards.time, "time", lambda later=later: now + later)
        assert same(first, extract_features(model, rows, moved, CLIP, CPU, tmp_path / "cache"))
    assert decoded == [5, 5]
    (tmp_path / "away.mp4").rename(moved / paths[5])
    monkeypatch.setattr(feature_shards.time, "time", lambda: now + 30)
    found = extract_features(model, rows, moved, CLIP, CPU, tmp_path / "cache")
    assert decoded == [5, 5, 5, *range(16)]
    assert len(found.rows) == 36


def test_a_video_that_crashes_the_decoder_is_not_tried_again(videos):
    rows, root = videos
    dataset = ClipDataset(rows, root, CLIP)
    dataset.excluded |= {3: "crashed the decoder (SIGSEGV)", 4: "took longer than 60 s"}
    assert feature_shards.failed_array(dataset, [2, 3, 4]).tolist() == [2, 4]


def test_processes_of_a_part_share_its_files(videos, model, tmp_path, monkeypatch):
    rows, root = videos
    monkeypatch.setattr(feature_shards, "SHARD", 8)
    for rank in (0, 1):
        write_features(model, rows, root, CLIP, CPU, tmp_path, share=(rank, 2), part=Part(1, 2))
        assert sorted(p.stem for p in tmp_path.rglob("*.npz")) == ["000000008", "000000024"]
