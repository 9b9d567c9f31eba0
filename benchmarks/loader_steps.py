"""How long training steps wait for their clips, and whether loading takes ever more memory."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import active_children
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

from avssl.clips.dataset import Batch, ClipDataset, Request, collate
from avssl.clips.loader import load, train_requests
from avssl.clips.transform import DeviceTransform
from avssl.config import DataConfig, IndexConfig, SampleConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.composition import Composition
from avssl.core.device import share_cores
from avssl.core.progress import track
from avssl.core.screen import Console
from avssl.models.build import build_model
from avssl.objectives.objective import Context
from avssl.sample.videos import make_sample
from avssl.train.optimizers import make_optimizer
from avssl.train.weighted_loss import WeightedLoss
from avssl.videos.index import index_videos, read_index
from benchmarks.memory import process_memory
from benchmarks.options import BenchLoaderConfig

WARM = 5
"""Steps, or hundredths of the clips, before anything is counted."""

LATEST = 32
"""Steps of which the least memory is told: at any one, the system may or may not have a batch or two back already."""


@dataclass
class Waiting:
    """A step's `seconds`, and the share of them that it waits for its batch."""

    source: str
    kind: str
    workers: int
    seconds: float
    share: float


def waiting(files: dict[str, list[Path]], folder: Path, config: BenchLoaderConfig) -> list[Waiting]:
    """For each kind of file that is h264 or prepared: decoding in this process, in one or two others, in threads."""
    found = []
    for source in [kind for kind in ("h264", "prepared") if kind in files]:
        root = folder / f"only_{source}"
        root.mkdir()
        for path in files[source]:
            (root / path.name).symlink_to(path)
        index = folder / f"index_{source}"
        data = DataConfig(root=str(root), name=source, index=str(index))
        index_videos(IndexConfig(data, workers=1))
        for kind, workers in (("processes", 0), ("processes", 1), ("processes", 2), ("threads", 1), ("threads", 2)):
            seconds, share = _steps(data, kind, workers, config)
            found.append(Waiting(source, kind, workers, seconds, share))
    return found


def _steps(data: DataConfig, kind: str, workers: int, config: BenchLoaderConfig) -> tuple[float, float]:
    words = ["task=gdt", "clip=tiny", "model=tiny", "contrast=preset_4", f"optim.batch={config.batch}", "seed=0"]
    train = compose_config("train", TrainConfig, ["data.root=x", *words])
    composition, device = Composition.from_config(train.contrast), torch.device("cpu")
    dataset = ClipDataset(read_index(data.index, "all"), data.root, train.clip, 0, composition)
    torch.manual_seed(0)
    model = build_model(train).to(device)
    transform = DeviceTransform(train.clip, device)
    context = Context(train, model, device, transform, len(dataset), config.steps, config.batch)
    objective, optimizer = WeightedLoss(context, composition), make_optimizer(model, train.optim)
    share_cores(device, workers)
    asked = (train_requests(len(dataset), config.batch, 0, step) for step in range(WARM + config.steps))
    batches = load(dataset, asked, workers) if kind == "processes" else load_in_threads(dataset, asked, workers)
    waited = 0.0
    for step in range(WARM + config.steps):
        if step == WARM:
            waited, begun = 0.0, perf_counter()
        before = perf_counter()
        batch = next(batches)
        waited += perf_counter() - before
        loss, _ = objective(batch, detailed=False)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    whole = perf_counter() - begun
    return whole / config.steps, waited / whole


def load_in_threads(
    dataset: ClipDataset, batches: Iterable[Sequence[Request]], workers: int, ahead: int = 4
) -> Iterator[Batch]:
    """What `load` gives, decoded ahead by threads of this process, a batch each: to compare with its processes."""
    source = iter(batches)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Batch]] = deque()
        while True:
            for requests in islice(source, ahead * workers - len(waiting)):
                waiting.append(pool.submit(lambda asked: collate([dataset[r] for r in asked]), requests))
            if not waiting:
                return
            yield waiting.popleft().result()


def soak(console: Console, config: BenchLoaderConfig) -> list[tuple[int, float]]:
    """Load `config.soak` clips of small files and print the resident memory on the way: (clips, bytes), of this process
    and its workers, the least after any of the last `LATEST` steps. Where the system does not tell memory, nothing."""
    with TemporaryDirectory() as folder:
        root = make_sample(SampleConfig(out=f"{folder}/sample", classes=2, train=8, test=1, workers=1))
        data = DataConfig(root=str(root), name="soak", index=f"{folder}/index")
        index_videos(IndexConfig(data, workers=1))
        dataset = ClipDataset(read_index(data.index, "train"), root, config.clip, config.seed)
        seen: list[tuple[int, float]] = []
        done, batch = 0, 16
        steps = -(-config.soak // batch)
        asked = (train_requests(len(dataset), batch, config.seed, step) for step in islice(count(), steps))
        marks = [round(steps * share / 100) for share in (WARM, 25, 50, 75, 100)]
        recent: deque[float] = deque(maxlen=LATEST)
        for step, loaded in enumerate(track(load(dataset, asked, config.workers), "clips", steps), 1):
            done += len(loaded.index)
            if (memory := _resident()) is not None:
                recent.append(memory)
            if step in marks and recent:
                seen.append((done, min(recent)))
                console.print(f"{done} clips: {min(recent) / 2**20:.1f} MiB resident")
        if len(seen) > 1:
            console.print(f"growth: {(seen[-1][1] - seen[0][1]) / 2**20:+.1f} MiB from the first to the last line")
        return seen


def _resident() -> float | None:
    """Bytes of this process and its workers, but for files: the system takes their pages and gives them as it likes."""
    pids = ["self", *(str(child.pid) for child in active_children())]
    sizes = [process_memory(field, pid) for pid in pids for field in ("RssAnon", "RssShmem")]
    return None if None in sizes else sum(size for size in sizes if size is not None)
