"""`python -m benchmarks scale`: an index of very many simulated videos, made in parts, merged, and read for training.

Every phase is a process of its own, one after the other, so that its memory can be told.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa

from avssl.clips.dataset import ClipDataset
from avssl.clips.requests import train_requests
from avssl.config import ClipConfig
from avssl.core.errors import UserError
from avssl.core.part import parts_of
from avssl.core.progress import track
from avssl.core.report import report
from avssl.core.screen import Console
from avssl.core.tables import block_writer
from avssl.plan.table import duration, size
from avssl.videos import index
from avssl.videos.index import LIMITS, NEEDED, SCHEMA, read_index
from avssl.videos.index_options import fingerprint
from avssl.videos.merge import PART_GROUP, merge_tables
from benchmarks.memory import process_memory
from benchmarks.options import BenchScaleConfig

BLOCK = 500_000
"""Videos that are simulated at a time."""

BYTES_PER_ROW = 280
"""Disk space for each row: the parts' tables and the merged one, or that one and its Arrow copy."""

CLASSES = 400
SPLIT = "train"
RANDOM_ROWS = 1000


@dataclass(frozen=True)
class Figures:
    """What a phase took: seconds, and the most memory of its own and with pages of mapped files, bytes."""

    phase: str
    seconds: float
    memory: float
    mapped: float
    result: str


def run(config: BenchScaleConfig) -> list[Figures]:
    """Simulate all phases, and print what each took.

    Raises:
        UserError: the disk has too little space.
    """
    above = config.folder or None
    if above is not None and not Path(above).is_dir():
        raise UserError(f"folder={above} is no folder: give an existing one on a disk with enough space")
    with TemporaryDirectory(prefix="avssl_scale_", dir=above) as temporary:
        folder = Path(temporary)
        needed, free = BYTES_PER_ROW * config.rows, shutil.disk_usage(folder).free
        if free < needed:
            raise UserError(
                f"rows={config.rows} needs {size(needed)} of disk space, but {folder.parent} has {size(free)} free: "
                f"give another folder=…, or fewer rows"
            )
        phases = track(PHASES.items(), "phases", len(PHASES))
        found = [_phase(name, phase, config, folder) for name, phase in phases]
    rows = [[f.phase, duration(f.seconds), size(f.memory), size(f.mapped), f.result] for f in found]
    about = (
        f"{config.rows:,} simulated videos in {config.parts} parts, each phase in a process of its own. Memory: "
        f"that of the process alone, some 450 MB of it libraries; with mapped files: the pages of files too, which "
        f"processes share and the system takes back when it needs them."
    )
    head = ["phase", "time", "memory", "with mapped files", "result"]
    report(Console(), "scale", head, rows, about, config.out)
    return found


Phase = Callable[[BenchScaleConfig, Path], str]


def _phase(name: str, phase: Phase, config: BenchScaleConfig, folder: Path) -> Figures:
    """Run a phase in a process of its own, which has imported everything but done nothing before."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.scale"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, phase, config, folder))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise UserError(f"{name}: the process was ended ({process.exitcode}): did memory run out?") from None
    process.join()
    if isinstance(answer, Exception):
        raise answer
    return Figures(name, *answer)


def _measure(sender: Connection, phase: Phase, config: BenchScaleConfig, folder: Path) -> None:
    """Send the seconds of a phase, the most memory of this process without and with mapped files, and the result."""
    peak, done = [0.0], Event()

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], process_memory("RssAnon") or 0.0)
            if done.wait(0.01):
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    began = time.perf_counter()
    try:
        result = phase(config, folder)
    except Exception as error:
        sender.send(error)
        return
    seconds = time.perf_counter() - began
    done.set()
    thread.join()
    sender.send((seconds, peak[0], process_memory("VmHWM") or 0.0, result))


def simulated_paths(start: int, stop: int, rows: int) -> pa.Array:
    """The paths of videos `start` … `stop` − 1 of `rows`, sorted, as `class_0123/video_0123456789_000010.mp4`."""
    numbers = np.arange(start, stop, dtype=np.int64)
    template = b"class_0000/video_0000000000_000010.mp4"
    letters = np.tile(np.frombuffer(template, np.uint8), (len(numbers), 1))
    for value, last, digits in ((numbers * CLASSES // rows, 9, 4), (numbers, 26, 10)):
        for place in range(digits):
            letters[:, last - place] += (value // 10**place % 10).astype(np.uint8)
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * len(template)
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(ends), pa.py_buffer(letters)])


def simulated_rows(start: int, stop: int, rows: int) -> pa.Table:
    """The index's rows of these videos."""
    rng = np.random.default_rng(start)
    count = stop - start
    lengths = np.round(rng.uniform(8, 10.1, count), 2)
    paths = simulated_paths(start, stop, rows)
    classes = pa.array(np.char.mod("class_%04d", np.arange(CLASSES)))
    columns: dict[str, Any] = {
        "path": paths,
        "split": pa.repeat(pa.scalar(SPLIT), count),
        "class": classes.take(pa.array(np.arange(start, stop, dtype=np.int64) * CLASSES // rows)),
        "window_start": np.zeros(count), "window_seconds": lengths, "duration": lengths,
        "fps": rng.choice([25.0, 29.97, 30.0], count), "frames": (lengths * 30).astype(np.int64),
        "width": rng.choice([340, 426, 1280], count), "height": rng.choice([256, 240, 720], count),
        "audio_rate": np.full(count, 44_100), "channels": rng.choice([1, 2], count),
        "loudness": np.round(rng.normal(-20, 5, count), 1), "video_start": np.zeros(count), "video_end": lengths,
        "audio_start": np.zeros(count), "audio_end": lengths, "variable_rate": np.zeros(count, bool),
        "video_codec": pa.repeat(pa.scalar("h264"), count), "audio_codec": pa.repeat(pa.scalar("aac"), count),
        "size": rng.integers(10**5, 5 * 10**6, count), "mtime_ns": rng.integers(10**18, 2 * 10**18, count),
    }  # fmt: skip
    return pa.table([pa.array(columns[f.name], f.type) if isinstance(columns[f.name], np.ndarray) else columns[f.name]
                     for f in SCHEMA], schema=SCHEMA)  # fmt: skip


def _blocks(rows: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))


def _own_files(config: BenchScaleConfig, folder: Path) -> str:
    """What each job does first: go through all files, and keep those of its part."""
    own = 0
    for start, stop in _blocks(config.rows):
        paths = simulated_paths(start, stop, config.rows).to_pylist()
        own += int((parts_of(paths, config.parts) == 0).sum())
    return f"{own:,} files of part 1"


def _part(folder: Path, number: int) -> Path:
    return folder / "parts" / f"{number}.parquet"


def _write_parts(config: BenchScaleConfig, folder: Path) -> str:
    """The tables of all parts. Here one process writes them all; in a run each job writes its own."""
    (folder / "parts").mkdir()
    with ExitStack() as stack:
        add = [
            stack.enter_context(block_writer(_part(folder, k), SCHEMA, rows_per_group=PART_GROUP))
            for k in range(config.parts)
        ]
        for start, stop in _blocks(config.rows):
            table = simulated_rows(start, stop, config.rows)
            part = parts_of(table["path"].to_pylist(), config.parts).astype(np.int64)
            order = np.argsort(part, kind="stable")
            for k, rows in enumerate(np.split(order, np.cumsum(np.bincount(part, minlength=config.parts))[:-1])):
                if len(rows):
                    add[k](table.take(pa.array(rows)))
    return f"{sum(path.stat().st_size for path in (folder / 'parts').iterdir()) / config.rows:.0f} bytes a row"


def _merge(config: BenchScaleConfig, folder: Path) -> str:
    """The parts' tables, merged into the index's."""
    (folder / "index").mkdir()
    table = folder / "index" / f"{SPLIT}.parquet"
    rows = merge_tables([_part(folder, k) for k in range(config.parts)], table, SCHEMA, NEEDED, LIMITS)
    if rows != config.rows:
        raise UserError(f"{rows} rows were merged, not {config.rows}")
    shutil.rmtree(folder / "parts")
    (folder / "index" / "index.json").write_text(json.dumps({"root": str(folder), "rows": {SPLIT: rows}}))
    return f"{table.stat().st_size / rows:.0f} bytes a row"


def _map(config: BenchScaleConfig, folder: Path) -> str:
    """The Arrow copy that `avssl index` writes."""
    index.MAPPED_ROWS = min(index.MAPPED_ROWS, config.rows - 1)
    read_index(folder / "index", SPLIT)
    return f"{(folder / 'index' / f'{SPLIT}.arrow').stat().st_size / config.rows:.0f} bytes a row"


def _dataset(config: BenchScaleConfig, folder: Path) -> ClipDataset:
    index.MAPPED_ROWS = min(index.MAPPED_ROWS, config.rows - 1)
    return ClipDataset(read_index(folder / "index", SPLIT), folder, ClipConfig())


def _open(config: BenchScaleConfig, folder: Path) -> str:
    """What every process of a run does at its start: open the index, and make a data set."""
    return f"{len(_dataset(config, folder)):,} rows"


def _fingerprint(config: BenchScaleConfig, folder: Path) -> str:
    """The fingerprint of the rows, which a checkpoint keeps."""
    index.MAPPED_ROWS = min(index.MAPPED_ROWS, config.rows - 1)
    return f"{fingerprint(read_index(folder / 'index', SPLIT))['files']:,} files"


def _epoch(config: BenchScaleConfig, folder: Path) -> str:
    """The order of an epoch."""
    seen = np.zeros(config.rows, bool)
    for step in range(config.rows // config.batch):
        seen[train_requests(config.rows, config.batch, 0, step).videos] = True
    return f"{int(seen.sum()):,} different rows in {config.rows // config.batch:,} batches"


@dataclass(frozen=True)
class _Workers:
    """Random rows in two worker processes, which get the data set as the loader's do."""

    method: str

    def __call__(self, config: BenchScaleConfig, folder: Path) -> str:
        dataset = _dataset(config, folder)
        context: Any = get_context(self.method)
        queue = context.Queue()
        workers = [context.Process(target=_worker, args=(dataset, number, queue)) for number in range(2)]
        for worker in workers:
            worker.start()
        found = [queue.get(timeout=600) for _ in workers]
        for worker in workers:
            worker.join()
        return f"{size(max(found))} more in each worker"


def _worker(dataset: ClipDataset, number: int, queue: Any) -> None:
    before = process_memory("RssAnon") or 0.0
    rng = np.random.default_rng(number)
    for row in rng.integers(len(dataset), size=RANDOM_ROWS).tolist():
        if not (dataset.paths[row].endswith(".mp4") and dataset.starts[row] < dataset.seconds[row]):
            raise ValueError(f"row {row} is wrong")
    queue.put((process_memory("RssAnon") or 0.0) - before)


PHASES: dict[str, Phase] = {
    "a job finds its files": _own_files,
    "tables of all parts": _write_parts,
    "merge": _merge,
    "Arrow copy": _map,
    "open, and make a data set": _open,
    "fingerprint": _fingerprint,
    "order of an epoch": _epoch,
    "1,000 rows in two forked workers": _Workers("fork"),
    "the same in new processes": _Workers("spawn"),
}
