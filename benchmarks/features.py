"""Videos an hour of a SeLaVi run on stored features, labelling passes included, on a store of random features."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from avssl.clips.feature_store import ROWS, WEIGHTS, FeatureStore
from avssl.config import ClipConfig, ModelConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.atomic import write_json
from avssl.core.checkpoint_file import digest, save_checkpoint
from avssl.core.report import report
from avssl.core.screen import Console
from avssl.models.build import build_multi_stream
from avssl.train.loop import run as train
from avssl.videos.index import SCHEMA
from avssl.videos.index_options import NOTE, fingerprint
from benchmarks.options import BenchFeaturesConfig

ENCODERS = ModelConfig(video="efficientnet_lite0", audio="resnet9")
"""1280 and 512 wide."""


def run(config: BenchFeaturesConfig) -> dict[str, float]:
    """Make a store, train on it as an ordinary run, and print how long that takes. Returns videos an hour."""
    with TemporaryDirectory(prefix="avssl_") as temporary:
        folder = Path(temporary)
        began = time.perf_counter()
        make_store(folder, config.videos, config.views, config.seed)
        made = time.perf_counter() - began
        words = [
            f"data.features={folder / 'store'}", f"labelling.clusters={config.clusters}",
            f"labelling.heads={config.heads}", f"labelling.passes={config.passes}", f"optim.epochs={config.epochs}",
            f"optim.batch={config.batch}", "optim.optimizer=adamw", "optim.lr=0.001", "optim.warmup_epochs=0",
            f"threads={config.threads}", f"out={folder / 'run'}", "device=cpu",
        ]  # fmt: skip
        began, cpu = time.perf_counter(), time.process_time()
        train(compose_config("train", TrainConfig, words))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    labelling = sum(line["seconds"] for line in lines if line["kind"] == "labelling")
    steps = [line for line in lines if line["kind"] == "train"]
    figures = {
        "videos an hour, for the whole run": 3600 * config.videos / seconds,
        "the same of two cores that nothing else uses": 2 * 3600 * config.videos / cpu,
        "run, s": seconds,
        "CPU time, s": cpu,
        "of which labelling, s": labelling,
        "waiting for features, %": 100 * float(np.mean([line["wait_share"] for line in steps[1:]])),
        "making the store, s": made,
    }
    about = (
        f"{config.videos:,} videos, {config.views} clips each of {ENCODERS.video} (1280) and {ENCODERS.audio} (512); "
        f"{config.epochs} epochs in batches of {config.batch}, {config.heads} heads of {config.clusters} clusters, "
        f"{config.passes} labelling passes, {config.threads} threads"
    )
    rows = [[name, f"{value:,.1f}" if value < 100 else f"{value:,.0f}"] for name, value in figures.items()]
    report(Console(), "features", ["", "ours"], rows, about, config.out)
    return figures


def make_store(folder: Path, videos: int, views: int, seed: int) -> None:
    """A store of random features in `folder`/store, and its index in `folder`/index."""
    store, index = folder / "store", folder / "index"
    store.mkdir()
    index.mkdir()
    numbers = {f.name: np.ones(videos) for f in SCHEMA if not pa.types.is_string(f.type)}
    texts = {"path": [f"{i:08d}.mp4" for i in range(videos)], "split": ["all"] * videos}
    columns = {f.name: pa.array(texts.get(f.name, numbers.get(f.name, [None] * videos))) for f in SCHEMA}
    rows = pa.table({f.name: columns[f.name].cast(f.type) for f in SCHEMA})
    pq.write_table(rows, index / "all.parquet")
    write_json(index / NOTE, {"root": str(folder)})
    table = rows.select(ROWS.names[:5]).append_column("clips", pa.array(np.full(videos, views)))
    pq.write_table(table.append_column("reason", pa.nulls(videos, pa.string())).cast(ROWS), store / "all.parquet")
    torch.manual_seed(seed)
    model, rng = build_multi_stream(ENCODERS), np.random.default_rng(seed)
    widths = model.encoder_widths
    for name, width in widths.items():
        joined = np.lib.format.open_memmap(
            store / f"all.{name}.npy", mode="w+", dtype=np.float32, shape=(videos * views, width)
        )
        for start in range(0, len(joined), 4096):
            part = joined[start : start + 4096]
            part[:] = rng.standard_normal(part.shape, np.float32)
        joined.flush()
    np.save(store / "all.times.npy", np.zeros(videos * views))
    save_checkpoint(store / WEIGHTS, {"model": model.encoders.state_dict()})
    FeatureStore(
        store, {name: getattr(ENCODERS, name) for name in widths}, "mean", [],
        {name: digest(encoder) for name, encoder in model.encoders.items()}, "random", ClipConfig(), "auto", views, 0.0,
        0, seed, widths, {"root": str(folder), "name": "random", "index": str(index)}, {"all": fingerprint(rows)},
    ).write()  # fmt: skip
