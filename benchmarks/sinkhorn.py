"""The solver and the alignment beside what was published: the benchmarks `sinkhorn` and `alignment`."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import torch

from avssl.core.errors import UserError
from avssl.core.report import report
from avssl.core.screen import Console
from avssl.plan.timing import random_evidence
from avssl.selflabel.alignment import align
from avssl.selflabel.marginals import uniform
from avssl.selflabel.sinkhorn import BlockwiseEvidence, assign, sinkhorn
from benchmarks.memory import process_memory
from benchmarks.options import BenchAlignmentConfig, BenchSinkhornConfig

BLOCK = 1024
"""Rows of a problem that are looked at at once."""

METHODS = ("newton", "plain", "pot")


@dataclass
class Figures:
    """One method on one problem. `seconds` and `passes` are `extrapolated` where the method was stopped before."""

    method: str
    rows: int
    clusters: int
    seconds: float
    passes: float
    error: float
    """Σ_n |β_n / β_n_new − 1| at the end (of what was run), found in float64 from the column scales."""
    cost: float
    """Mean of −log p at the labels, in nats."""
    memory: float | None
    """Peak over the process's memory before it had the evidence, in float32 N×K matrices; None where not told."""
    extrapolated: bool = False


def _whole(problem: BlockwiseEvidence) -> torch.Tensor:
    log_p = torch.empty(problem.rows, problem.clusters)
    start = 0
    for rows in problem.blocks(BLOCK):
        log_p[start : start + len(rows)] = rows
        start += len(rows)
    return log_p


def plain_alternation(
    log_p: torch.Tensor, r: torch.Tensor, lam: float, tolerance: float, alternations: int, seconds: float
) -> tuple[torch.Tensor, int]:
    """The published algorithm, transcribed: log α [K] and the alternations done: fewer if `seconds` run out.

    M = p^(λ/2) in float64; α_k = r_k / Σ_n β_n M_nk, β_n = (1/N) / Σ_k M_nk α_k; the error is looked at every tenth.
    """
    begun = perf_counter()
    m = log_p.double().mul_(lam / 2).exp_()
    n = len(m)
    beta = torch.full((n,), 1 / n, dtype=torch.float64)
    alpha, done, error = r, 0, float("inf")
    while error > tolerance and done < alternations and (done == 0 or perf_counter() - begun < seconds):
        alpha = r / (beta @ m)
        new = (1 / n) / (m @ alpha)
        if done % 10 == 0:
            error = float((beta / new - 1).abs().nansum())
        beta = new
        done += 1
    return alpha.log(), done


def _pot(
    log_p: torch.Tensor, r: torch.Tensor, lam: float, tolerance: float, alternations: int
) -> tuple[torch.Tensor, int]:
    import numpy as np
    import ot

    n = len(log_p)
    _, log = ot.sinkhorn(
        np.full(n, 1 / n), r.numpy(), -log_p.double().numpy(), 2 / lam,
        numItermax=alternations, stopThr=tolerance / n, log=True, warn=False,
    )  # fmt: skip
    return torch.from_numpy(log["v"]).log(), int(log["niter"])


def published_error(problem: BlockwiseEvidence, log_alpha: torch.Tensor, r: torch.Tensor, lam: float) -> float:
    """Σ_n |β_n / β_n_new − 1|, float64 throughout, β being the row scales that belong to log α [K]. Two passes."""

    def plans() -> Iterator[torch.Tensor]:
        for rows in problem.blocks(BLOCK):
            yield (rows.double() * (lam / 2) + log_alpha).softmax(1)

    mass = sum((q.sum(0) for q in plans()), torch.zeros_like(r)) / problem.rows
    return float(sum((q @ (r / mass) - 1).abs().sum() for q in plans()))


def _measure(method: str, rows: int, clusters: int, config: BenchSinkhornConfig) -> Figures:
    r, lam = uniform(clusters), config.lam
    small = _whole(random_evidence(200, 4, 0))
    sinkhorn(small, uniform(4))  # libraries and threads are up before anything is counted
    plain_alternation(small, uniform(4), lam, 0.1, 20, 1)
    if method == "pot":
        _pot(small, uniform(4), lam, 0.1, 20)
    base = process_memory("VmRSS")
    problem = random_evidence(rows, clusters, config.seed)
    streamed = method == "newton" and rows > config.stream_rows
    log_p = problem if streamed else _whole(problem)
    peak_reset = Path("/proc/self/clear_refs")
    if peak_reset.exists():
        peak_reset.write_text("5")
    begun = perf_counter()
    factor = 1.0
    if isinstance(log_p, BlockwiseEvidence) or method == "newton":
        solved = sinkhorn(log_p, r, lam, config.tolerance)
        log_alpha, passes = solved.log_alpha.double(), solved.iterations + 1.0
    elif method == "plain":
        log_alpha, done = plain_alternation(log_p, r, lam, config.tolerance, config.alternations, config.plain_seconds)
        passes = 2.0 * done
        if perf_counter() - begun >= config.plain_seconds and done < config.alternations:
            factor = config.alternations / done
    else:
        log_alpha, done = _pot(log_p, r, lam, config.tolerance, config.alternations)
        passes = 2.0 * done
    seconds = perf_counter() - begun
    peak = process_memory("VmHWM")
    kept = problem if isinstance(log_p, BlockwiseEvidence) else BlockwiseEvidence(rows, clusters, _slice(log_p))
    cost = float(assign(kept, log_alpha, lam)[1]) / rows
    memory = None if base is None or peak is None else (peak - base) / (4 * rows * clusters)
    error = published_error(kept, log_alpha, r, lam)
    name = f"{method}, streamed" if streamed else method
    return Figures(name, rows, clusters, seconds * factor, passes * factor, error, cost, memory, factor > 1)


def _slice(log_p: torch.Tensor) -> Callable[[int, int], torch.Tensor]:
    return lambda start, stop: log_p[start:stop]


def _child(connection: Connection, threads: int, *job: object) -> None:
    torch.set_num_threads(threads)
    connection.send(_measure(*job))  # type: ignore[arg-type]


def _alone(*job: object) -> Figures | None:
    """`_measure` in a process of its own, whose memory is nobody else's; None where it was ended, as for memory."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, torch.get_num_threads(), *job))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return None
    finally:
        process.join()


def _obstacle(method: str, rows: int, clusters: int, config: BenchSinkhornConfig) -> str:
    """Why a method is not run on a problem, or nothing."""
    need = {"newton": 0.0 if rows > config.stream_rows else 6.0, "plain": 20.0, "pot": 44.0}[method] * rows * clusters
    if method == "pot" and importlib.util.find_spec("ot") is None:
        return "POT is not installed: pip install POT"
    if method == "pot" and rows > config.pot_rows:
        return f"more rows than pot_rows={config.pot_rows}"
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    free = next((1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), need)
    return f"needs {need / 2**30:.1f} GiB, {free / 2**30:.1f} are free" if need > free else ""


def _sizes(words: Sequence[str]) -> list[tuple[int, int]]:
    try:
        sizes = [(int(n), int(k)) for n, k in (word.lower().split("x") for word in words)]
    except ValueError:
        sizes = []
    if not sizes or min(map(min, sizes)) < 1:
        raise UserError(f"sizes={list(words)}: name each problem as videos x clusters, as in sizes=[10000x100]")
    return sizes


def main_sinkhorn(config: BenchSinkhornConfig) -> list[Figures]:
    """Each method on each problem, in a process of its own, one after the other; prints a table."""
    unknown = [m for m in config.methods if m not in METHODS]
    if unknown or not config.methods:
        raise UserError(f"methods={config.methods}: choose from {', '.join(METHODS)}")
    console, found = Console(), []
    for rows, clusters in _sizes(config.sizes):
        for method in config.methods:
            why = _obstacle(method, rows, clusters, config)
            figures = None if why else _alone(method, rows, clusters, config)
            if figures is None:
                console.print(f"{rows} x {clusters}: {method} skipped: {why or 'its process was ended'}")
            else:
                found.append(figures)
    head = ["videos x clusters", "method", "seconds", "passes", "error", "cost", "memory / float32 N x K"]
    about = "* stopped after plain_seconds: time and passes extrapolated to all alternations, the error as it was then"
    about = about if any(f.extrapolated for f in found) else ""
    report(console, "sinkhorn", head, [_row(f) for f in found], about, config.out)
    if config.out:
        _plot(found, Path(config.out) / "sinkhorn.png")
    return found


def _row(f: Figures) -> list[str]:
    mark = "*" if f.extrapolated else ""
    memory = "unknown" if f.memory is None else f"{f.memory:.2f}"
    size = f"{f.rows} x {f.clusters}"
    return [
        size,
        f.method,
        f"{f.seconds:.3g}{mark}",
        f"{f.passes:.0f}{mark}",
        f"{f.error:.2g}",
        f"{f.cost:.5f}",
        memory,
    ]


def _plot(found: list[Figures], path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="videos x clusters", ylabel="seconds")
    for method in METHODS:
        mine = [f for f in found if f.method.startswith(method)]
        axes.plot([f.rows * f.clusters for f in mine], [f.seconds for f in mine], "o-", label=method)
    axes.legend()
    figure.savefig(path, dpi=150)


@dataclass
class Agreement:
    """How one way of alignment ended: Σ_n Σ_k p_v,nk p_a,nπ(k) / N, and the mean L1 distance of the assignments."""

    method: str
    seconds: float
    agreement: float
    distance: float


def random_swaps(p_video: torch.Tensor, p_audio: torch.Tensor, swaps: int, seed: int) -> torch.Tensor:
    """The published alignment, transcribed: a permutation int64 [K], from probabilities [N, K] of each modality.

    Two clusters of the sound change places if that lowers the L1 distance of the two assignments; `swaps` tries.
    """
    g = torch.Generator().manual_seed(seed)
    clusters = p_video.shape[1]
    order = torch.arange(clusters)
    for _ in range(swaps):
        i, j = torch.randint(clusters, (2,), generator=g).tolist()
        v, a = p_video[:, [i, j]], p_audio[:, order[[i, j]]]
        if (v - a.flip(1)).abs().sum() < (v - a).abs().sum():
            order[[i, j]] = order[[j, i]]
    return order


def main_alignment(config: BenchAlignmentConfig) -> list[Agreement]:
    """Exact and random alignment of noisy soft assignments whose clusters are permuted; prints a table."""
    g = torch.Generator().manual_seed(config.seed)
    n, k = config.videos, config.clusters
    true = torch.nn.functional.one_hot(torch.randint(k, (n,), generator=g), k)
    hidden = torch.randperm(k, generator=g)
    p_video, p_audio = ((torch.randn(n, k, generator=g) + 4 * c).softmax(1) for c in (true, true[:, hidden]))
    found = []
    for method in ("none", "swaps", "exact"):
        begun = perf_counter()
        if method == "none":
            order = torch.arange(k)
        else:
            exact = method == "exact"
            order = align(p_video, p_audio) if exact else random_swaps(p_video, p_audio, config.swaps, config.seed)
        seconds = perf_counter() - begun
        aligned = p_audio[:, order]
        agreement, distance = float((p_video * aligned).sum() / n), float((p_video - aligned).abs().sum() / n)
        found.append(Agreement(method, seconds, agreement, distance))
    rows = [[f.method, f"{f.seconds:.3g}", f"{f.agreement:.5f}", f"{f.distance:.5f}"] for f in found]
    about = f"{n} videos x {k} clusters, {config.swaps} random swaps; agreement: higher is better, L1 distance: lower"
    report(Console(), "alignment", ["alignment", "seconds", "agreement", "L1 distance"], rows, about, config.out)
    return found
