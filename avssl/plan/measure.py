"""Measure decoding, the solver, and everything else that a plan needs, on this machine."""

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
from ..objectives.build import count_further_passes
from ..selflabel.marginals import uniform
from ..selflabel.sinkhorn import sinkhorn
from .estimate import Solver
from .step import SCHEDULE, Bench, StepCosts
from .timing import random_evidence, seconds

MAX_ELEMENTS, MAX_ROWS, MAX_CLUSTERS = 4_000_000, 65_536, 1024
"""Largest measured problem: rows x clusters, rows, and clusters. Larger problems are extrapolated from it."""


@dataclass
class DecodeCosts:
    """Costs of decoding an item, s: CPU time (mean, median, 10th and 90th percentile), and mean elapsed time."""

    mean: float
    median: float
    low: float
    high: float
    wall: float
    items: int
    again: float = 0.0
    """Mean CPU time per item whose file is in the cache (`clip.cache_mb`)."""
    again_wall: float = 0.0
    kept: float = 0.0
    """Mean bytes per file in the cache; 0 without a cache."""

    def mixed(self, share: float) -> tuple[float, float]:
        """Mean CPU time and mean elapsed time, if the fraction `share` of the items comes from the cache."""
        return self.mean + share * (self.again - self.mean), self.wall + share * (self.again_wall - self.wall)


@dataclass
class Measured:
    """Measurements on `device`, with `threads` of `cores`; None for what was not measured."""

    device: str
    cores: int
    threads: int
    disk: str
    """The folder whose disk was measured; empty if it cannot be written to."""
    step: StepCosts | None = None
    decode: DecodeCosts | None = None
    label_decode: DecodeCosts | None = None
    evidence: float = 0.0
    """Seconds per video and head."""
    solver: Solver | None = None
    checkpoint: float | None = None
    """Seconds per byte."""


def solver_costs(config: LabellingConfig, videos: int, device: torch.device) -> Solver:
    """Measure the solver on random problems with equal cluster sizes, see `random_evidence`.

    Two numbers of clusters separate the terms N·K and N·K²; the K³ of Newton's step is timed separately. The number of
    passes is that of the problem with the configured number of clusters, or with 1,024.
    """
    largest = min(config.clusters, MAX_CLUSTERS)
    per_row = {}
    for clusters in sorted({largest, max(1, largest // 2)}):
        rows = min(max(MAX_ELEMENTS // clusters, 2 * clusters), max(videos, clusters), MAX_ROWS)
        per_row[clusters], newton, passes = _solve(config, rows, clusters, device)
    return Solver(*line_and_square(per_row), newton / largest**3, passes)


def _solve(config: LabellingConfig, rows: int, clusters: int, device: torch.device) -> tuple[float, float, float]:
    """Seconds per row and pass, seconds per Newton step, and the number of passes."""
    log_p = torch.cat([*random_evidence(rows, clusters, 0).blocks(1024)]).to(device)
    r = uniform(clusters).to(device)
    matrix = torch.eye(clusters, dtype=torch.float64, device=device) + 1 / clusters
    newton = seconds(lambda: torch.linalg.solve(matrix, r.double()), device, 0.3)
    iterations: list[int] = []

    def work() -> None:
        iterations[:] = [sinkhorn(log_p, r, config.lam, config.tolerance, config.max_iterations).iterations]

    total, passes = seconds(work, device, 2.0), iterations[0]
    return max(0.1 * total, total - passes * newton) / ((passes + 1) * rows), newton, float(passes)


def line_and_square(values: dict[int, float]) -> tuple[float, float]:
    """Fit a · K + b · K² to one or two values by K, with a and b at least 0; exact at the largest K."""
    large, small = max(values), min(values)
    if large == small:
        return values[large] / large, 0.0
    per_large, per_small = values[large] / large, values[small] / small
    square = min(max(0.0, (per_large - per_small) / (large - small)), per_large / large)
    return per_large - square * large, square


def decode_costs(dataset: ClipDataset, kind: Pass, budget: float = 8.0) -> DecodeCosts:
    """Measure decoding in one thread, until `budget` seconds are over or each video has been decoded once.

    Videos that cannot be decoded are not counted.

    Raises:
        UserError: no video can be decoded, or ten in a row cannot.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    order = np.random.default_rng(0).permutation(len(dataset))
    dataset[Request(int(order[0]), kind, 0)]  # loads libraries
    cache_mb = dataset.config.cache_mb
    cache = process_cache(cache_mb, reset=True) if cache_mb else None
    try:
        cpu, wall = _decode(dataset, [Request(int(video), kind, 1) for video in order], budget)
        if not cpu:
            raise UserError("none of the sampled videos can be decoded: run `avssl index` again")
        low, high = np.quantile(cpu, [0.1, 0.9])
        costs = DecodeCosts(fmean(cpu), median(cpu), float(low), float(high), fmean(wall), len(cpu))
        files = [file for file in cache.files.values() if file] if cache else []
        if files:
            again = [Request(int(video), kind, 2) for video in order[: len(cpu)]]
            costs.kept = fmean(file.bytes for file in files)
            cpu, wall = _decode(dataset, again, budget)
            costs.again, costs.again_wall = fmean(cpu), fmean(wall)
        return costs
    finally:
        torch.set_num_threads(threads)


def _decode(dataset: ClipDataset, requests: list[Request], budget: float) -> tuple[list[float], list[float]]:
    """CPU times and elapsed times, s, of the items that can be decoded, until `budget` (s) is over."""
    cpu: list[float] = []
    wall: list[float] = []
    began = time.perf_counter()
    for number, request in enumerate(requests):
        if number >= 4 and time.perf_counter() - began > budget:
            break
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        if len(collate([dataset[request]]).index):
            cpu.append(time.process_time() - cpu_start)
            wall.append(time.perf_counter() - wall_start)
    return cpu, wall


def measure(config: PlanConfig, device: torch.device, dataset: ClipDataset | None, videos: int) -> Measured:
    """Measure everything that the plan needs, one after the other."""
    disk = _disk(config.out or ".")
    labelled, transport = "labelling" in config.objectives, config.labelling.method == "transport"
    has_passes = labelled or count_further_passes(config, SCHEDULE, 1.0) > 0
    bench = Bench(config, device, videos)
    measured = Measured(str(device), available_cores(), torch.get_num_threads(), disk)

    def decoding() -> None:
        if dataset is None:
            return
        if config.data.features:  # the clips to extract
            measured.label_decode = decode_costs(dataset, Pass.LABEL)
            return
        measured.decode = decode_costs(dataset, Pass.TRAIN)
        same = dataset.composition is None
        if has_passes:
            measured.label_decode = measured.decode if same else decode_costs(dataset, Pass.LABEL)

    def labels() -> None:
        if labelled and transport:
            measured.evidence = bench.evidence_seconds()
            measured.solver = solver_costs(config.labelling, videos, device)

    def steps() -> None:
        measured.step = bench.step_costs()

    def disk_writes() -> None:
        measured.checkpoint = bench.checkpoint_seconds(disk)

    jobs: list[Callable[[], None]] = [decoding, steps, labels, disk_writes]
    for job in track(jobs, "measuring", len(jobs)):
        job()
    return measured


def _disk(path: str) -> str:
    """The folder at `path`, or the nearest existing one above it; empty if it cannot be written to."""
    folder = Path(path).resolve()
    while not folder.is_dir():
        folder = folder.parent
    return str(folder) if os.access(folder, os.W_OK) else ""
