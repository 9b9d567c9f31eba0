"""What decoding and the solver cost on this machine; and all that is measured for a plan."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch

from ..clips.dataset import ClipDataset, Pass, Request, collate
from ..clips.decoders.cache import process_cache
from ..config import LabellingConfig, PlanConfig
from ..core.cores import available_cores
from ..core.errors import UserError
from ..core.progress import track
from ..selflabel.marginals import uniform
from ..selflabel.sinkhorn import sinkhorn
from .estimate import Solver
from .step import Bench, StepCosts
from .timing import random_evidence, seconds

ELEMENTS, ROWS = 4_000_000, 65_536
"""Rows x clusters, and rows, of the measured problem, at most."""
MOST_CLUSTERS = 1024
"""More clusters than these are computed from this many."""


@dataclass
class DecodeCosts:
    """Of items as they come, s: CPU time (mean, median, tenth and ninetieth percentile), and mean time that passed."""

    mean: float
    median: float
    low: float
    high: float
    wall: float
    items: int
    again: float = 0.0
    """Mean CPU time of an item whose file is kept decoded (`clip.cache_mb`)."""
    again_wall: float = 0.0
    kept: float = 0.0
    """Bytes that a kept file takes, decoded; 0 where none is kept."""

    def mixed(self, kept: float) -> tuple[float, float]:
        """Mean CPU time and time that passed, where the share `kept` of the items come from kept files."""
        return self.mean + kept * (self.again - self.mean), self.wall + kept * (self.again_wall - self.wall)


@dataclass
class Measured:
    """What was timed on `device`, with `threads` of `cores`. None: not measured."""

    device: str
    cores: int
    threads: int
    disk: str
    """The folder that was written to; empty where it cannot be."""
    step: StepCosts | None = None
    decode: DecodeCosts | None = None
    label_decode: DecodeCosts | None = None
    evidence: float = 0.0
    """s a video and head."""
    solver: Solver | None = None
    checkpoint: float | None = None
    """s a byte."""


def solver_costs(config: LabellingConfig, videos: int, device: torch.device) -> Solver:
    """Of random problems (two modalities' logits, unit normal, 4 more on the true cluster) under equal sizes.

    Two numbers of clusters tell the term of N·K from that of N·K²; the K³ of Newton's step is timed alone. The passes
    are those of the problem with as many clusters as configured, or 1,024.
    """
    most = min(config.clusters, MOST_CLUSTERS)
    each = {}
    for clusters in sorted({most, max(1, most // 2)}):
        rows = min(max(ELEMENTS // clusters, 2 * clusters), max(videos, clusters), ROWS)
        each[clusters], newton, passes = _solve(config, rows, clusters, device)
    return Solver(*line_and_square(each), newton / most**3, passes)


def _solve(config: LabellingConfig, rows: int, clusters: int, device: torch.device) -> tuple[float, float, float]:
    """Seconds of a row in a pass, seconds of a Newton step, and passes."""
    log_p = torch.cat([*random_evidence(rows, clusters, 0).blocks(1024)]).to(device)
    r = uniform(clusters).to(device)
    matrix = torch.eye(clusters, dtype=torch.float64, device=device) + 1 / clusters
    newton = seconds(lambda: torch.linalg.solve(matrix, r.double()), device, 0.3)
    solved: list[int] = []

    def work() -> None:
        solved[:] = [sinkhorn(log_p, r, config.lam, config.tolerance, config.max_iterations).iterations]

    whole, passes = seconds(work, device, 2.0), solved[0]
    return max(0.1 * whole, whole - passes * newton) / ((passes + 1) * rows), newton, float(passes)


def line_and_square(each: dict[int, float]) -> tuple[float, float]:
    """(a, b), neither below 0, of a · K + b · K² through the one or two points; exact at the largest K."""
    large, small = max(each), min(each)
    if large == small:
        return each[large] / large, 0.0
    per_large, per_small = each[large] / large, each[small] / small
    square = min(max(0.0, (per_large - per_small) / (large - small)), per_large / large)
    return per_large - square * large, square


def decode_costs(dataset: ClipDataset, kind: Pass, budget: float = 8.0) -> DecodeCosts:
    """Decode items of `dataset`, in one thread, for `budget` seconds or until each video has been. UserError where ten
    in a row cannot be decoded, or none; of others, those that cannot are not counted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    order = np.random.default_rng(0).permutation(len(dataset))
    dataset[Request(int(order[0]), kind, 0)]  # libraries are loaded
    cache_mb = dataset.config.cache_mb
    keep = process_cache(cache_mb, reset=True) if cache_mb else None
    try:
        cpu, wall = _decode(dataset, [Request(int(video), kind, 1) for video in order], budget)
        if not cpu:
            raise UserError("none of the videos that were tried can be decoded: run `avssl index` again")
        low, high = np.quantile(cpu, [0.1, 0.9])
        found = DecodeCosts(fmean(cpu), median(cpu), float(low), float(high), fmean(wall), len(cpu))
        files = [file for file in keep.files.values() if file] if keep else []
        if files:
            again = [Request(int(video), kind, 2) for video in order[: len(cpu)]]
            found.kept = fmean(file.bytes for file in files)
            cpu, wall = _decode(dataset, again, budget)
            found.again, found.again_wall = fmean(cpu), fmean(wall)
        return found
    finally:
        torch.set_num_threads(threads)


def _decode(dataset: ClipDataset, requests: list[Request], budget: float) -> tuple[list[float], list[float]]:
    """CPU time and time that passed, s, of those that can be decoded until `budget` is over."""
    cpu: list[float] = []
    wall: list[float] = []
    begun = time.perf_counter()
    for number, request in enumerate(requests):
        if number >= 4 and time.perf_counter() - begun > budget:
            break
        passed, used = time.perf_counter(), time.process_time()
        if len(collate([dataset[request]]).index):
            cpu.append(time.process_time() - used)
            wall.append(time.perf_counter() - passed)
    return cpu, wall


def measure(config: PlanConfig, device: torch.device, dataset: ClipDataset | None, videos: int) -> Measured:
    """Time everything on this machine, one after the other."""
    disk = _disk(config.out or ".")
    labelled, transport = "labelling" in config.objectives, config.labelling.method == "transport"
    bench = Bench(config, device)
    found = Measured(str(device), available_cores(), torch.get_num_threads(), disk)

    def decoding() -> None:
        if dataset is None:
            return
        found.decode = decode_costs(dataset, Pass.TRAIN)
        same = dataset.composition is None
        if labelled:
            found.label_decode = found.decode if same else decode_costs(dataset, Pass.LABEL)

    def labels() -> None:
        if labelled and transport:
            found.evidence = bench.evidence_seconds()
            found.solver = solver_costs(config.labelling, videos, device)

    def steps() -> None:
        found.step = bench.step_costs()

    def disk_writes() -> None:
        found.checkpoint = bench.checkpoint_seconds(disk)

    jobs: list[Callable[[], None]] = [decoding, steps, labels, disk_writes]
    for job in track(jobs, "measuring", len(jobs)):
        job()
    return found


def _disk(path: str) -> str:
    """The folder at `path`, or the one above it that is there."""
    folder = Path(path).resolve()
    while not folder.is_dir():
        folder = folder.parent
    return str(folder) if os.access(folder, os.W_OK) else ""
