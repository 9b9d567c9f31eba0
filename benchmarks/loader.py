"""`python -m benchmarks loader`: what a clip costs, and how long a training step waits for its clips."""

import resource
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from avssl.clips.decode import ClipSpec
from avssl.core.errors import UserError
from avssl.core.progress import track
from avssl.core.report import report
from avssl.core.screen import Console
from benchmarks.loader_files import make_files
from benchmarks.loader_profile import Share, profile
from benchmarks.loader_steps import Waiting, soak, waiting
from benchmarks.loader_ways import Way, make_way
from benchmarks.options import BenchLoaderConfig


@dataclass
class Cost:
    """What a clip of a kind of file costs by one way: seconds and CPU seconds, of this process and its children."""

    source: str
    way: str
    seconds: float
    cpu: float


def main(config: BenchLoaderConfig) -> list[Cost]:
    """Bench as configured, and print the tables."""
    console = Console(highlight=False, soft_wrap=True)
    if config.soak:
        soak(console, config)
        return []
    ways: dict[str, Way] = {}
    for name in config.ways:
        try:
            ways[name] = make_way(name, config.clip)
        except UserError as error:
            console.print(f"{name} skipped: {error}", markup=False)
    if not ways:
        raise UserError(f"ways={config.ways}: none of them can be run here")
    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        files = make_files(Path(folder), config.sources, config.files, config.seconds, config.seed)
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1):  # NumPy's threads spin on after a product, at the cost of what is timed next
                costs = measure(files, ways, config)
                shares = profile(files, config) if config.profile else []
        finally:
            torch.set_num_threads(threads)
        rates = {kind: 8e-3 * sum(p.stat().st_size for p in paths) / len(paths) / config.seconds
                 for kind, paths in files.items()}  # fmt: skip
        _report_costs(console, costs, rates, config)
        if shares:
            _report_shares(console, shares, config)
        if config.steps:
            torch.set_num_threads(threads)
            _report_waiting(console, waiting(files, Path(folder), config), config)
    return costs


def measure(files: dict[str, list[Path]], ways: dict[str, Way], config: BenchLoaderConfig) -> list[Cost]:
    """Each way on each kind of file, in turns on the same two stretches of the same files."""
    clip, seconds = config.clip, ClipSpec.of(config.clip).seconds
    slack = config.seconds - 2 * seconds - 0.1  # the encoders' ends are not exact
    if slack <= 0:
        raise UserError(f"seconds={config.seconds:g} is too short for two clips of {seconds:g} s")
    spent = {(kind, way): [0.0, 0.0] for kind in files for way in ways}
    rounds = [(i, kind) for i in range(-1, config.items) for kind in files]  # the first of each is not counted
    for i, kind in track(rounds, "clips", len(rounds)):
        rng = np.random.default_rng([config.seed, i + 1])
        early, late = np.sort(rng.random(2)) * slack
        starts = [float(early), float(late + seconds)]
        short_side = int(rng.integers(clip.short_side_min, clip.short_side_max + 1))
        path = files[kind][i % len(files[kind])]
        for name, way in ways.items():
            begun, cpu = perf_counter(), _cpu()
            way(path, starts, short_side)
            if i >= 0:
                spent[kind, name][0] += perf_counter() - begun
                spent[kind, name][1] += _cpu() - cpu
    clips = 2 * config.items
    return [Cost(kind, way, wall / clips, cpu / clips) for (kind, way), (wall, cpu) in spent.items()]


def _cpu() -> float:
    """CPU seconds of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _report_costs(console: Console, costs: list[Cost], rates: dict[str, float], config: BenchLoaderConfig) -> None:
    by = {(c.source, c.way): c for c in costs}

    def ratio(cost: Cost, source: str, way: str) -> str:
        other = by.get((source, way))
        return "" if other is None else f"{other.cpu / cost.cpu:.1f}"

    rows = [
        [
            c.source, f"{rates[c.source]:.0f}", c.way, f"{1 / c.seconds:.1f}", f"{1e3 * c.cpu:.1f}",
            ratio(c, c.source, "published"), ratio(c, "h264", "published"), ratio(c, c.source, "whole"),
        ]
        for c in costs
    ]  # fmt: skip
    head = [
        "file", "kbit/s", "way", "clips/s", "CPU ms / clip",
        "x published, same file", "x published, h264", "x whole, same file",
    ]  # fmt: skip
    about = (
        f"{config.clip.frames} frames of {config.clip.crop} px and a spectrogram of {config.clip.audio_seconds:g} s; "
        f"two clips of a video of {config.seconds:g} s, {config.items} videos, one thread. Ratios are of CPU time: how "
        f"many times as fast on a core. Published: two opens and one ffmpeg process a clip; whole: all is decoded."
    )
    report(console, "loader", head, rows, about, config.out)


def _report_shares(console: Console, shares: list[Share], config: BenchLoaderConfig) -> None:
    rows = [
        [
            s.source, *(f"{1e3 * x:.1f}" for x in (s.ffmpeg, s.read, s.whole)), f"{s.overhead:.2f}",
            f"{s.ffmpeg / s.read:.0%}", f"{s.ffmpeg / s.whole:.0%}",
        ]
        for s in shares
    ]  # fmt: skip
    head = [
        "file", "FFmpeg alone", "reading clips", "with crop and spectrogram", "reading / FFmpeg",
        "FFmpeg's share of it", "of all",
    ]  # fmt: skip
    about = (
        f"CPU ms per clip by way of pyav, medians over {config.items} videos. FFmpeg alone: opening, seeking, reading "
        f"and decoding packets, scaling, resampling, recorded and made again without avssl."
    )
    report(console, "profile", head, rows, about, config.out)


def _report_waiting(console: Console, found: list[Waiting], config: BenchLoaderConfig) -> None:
    rows = [
        [w.source, f"{w.workers} {w.kind}" if w.workers else "this process", f"{1e3 * w.seconds:.0f}", f"{w.share:.0%}"]
        for w in found
    ]
    about = (
        f"Composed contrast with the tiny encoders, {config.batch} videos a step, two clips each; {config.steps} steps."
    )
    report(console, "waiting", ["file", "decoding in", "ms / step", "waiting for data"], rows, about, config.out)
