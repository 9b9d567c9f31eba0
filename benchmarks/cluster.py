"""`python -m benchmarks cluster`: `avssl plan` for a cluster beside a discrete-event simulation of the same run."""

from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from avssl.config import PlanConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.core.report import report
from avssl.core.screen import Console
from avssl.core.untrusted import is_number, read_json
from avssl.objectives.labelling import LABEL_BATCH
from avssl.plan.command import run as run_plan
from avssl.plan.estimate import Costs, Estimate, Extraction, Solver, Target, Work, estimate, exchange_seconds
from avssl.plan.table import duration
from benchmarks.cluster_events import Outcome, Phase, Spread, simulate
from benchmarks.options import BenchClusterConfig

KINETICS = (
    "videos=230976", "experiment=selavi_kinetics400", "launch=slurm", "launch.nodes=8", "launch.gpus=8",
)  # fmt: skip

Inputs = TypeVar("Inputs", Target, Work, Costs, Solver, Extraction)


@dataclass(frozen=True)
class Planned:
    """What a plan was computed from."""

    target: Target
    work: Work
    costs: Costs
    checkpoint: float
    """Seconds to write a byte of a checkpoint; 0 if unknown."""


@dataclass(frozen=True)
class Part:
    """A part of the run: seconds planned and simulated, and why they differ."""

    name: str
    planned: float
    simulated: float
    why: str = ""


def run(config: BenchClusterConfig) -> list[Part]:
    """Simulate the run of a plan, and print both, part by part."""
    planned = read_plan(Path(config.plan)) if config.plan else make_plan()
    parts = compare(planned, config)
    t, w = planned.target, planned.work
    rows = [[p.name, duration(p.planned), duration(p.simulated), _ratio(p), p.why] for p in parts]
    about = (
        f"{w.videos:,} videos on {t.nodes} machines of {t.processes} processes, with {t.cores} cores each and "
        f"{t.workers} decoding processes per process; {config.steps} steps and one labelling pass are simulated, event "
        f"by event, with the plan's costs. Assumed: the logarithms of clip times and of step times spread by "
        f"{config.clip_spread:g} and {config.step_spread:g}, the speeds of GPUs by {config.gpu_spread:g}; "
        f"{config.pause_rate:g} of the steps of a process take {1 + config.pause:g} times as long; a clip has "
        f"{config.clip_mb:g} MB and is copied at {config.copy_gb:g} GB/s."
    )
    report(Console(), "cluster", ["part", "planned", "simulated", "ratio", "why"], rows, about, config.out)
    return parts


def _ratio(part: Part) -> str:
    return f"{part.simulated / part.planned:.2f}" if part.planned else ""


def make_plan() -> Planned:
    """The plan of SeLaVi on Kinetics-400 with 64 GPUs, measured here."""
    with TemporaryDirectory() as folder:
        run_plan(compose_config("plan", PlanConfig, [*KINETICS, f"out={folder}"]))
        return read_plan(Path(folder))


def read_plan(path: Path) -> Planned:
    """The inputs of a plan, from `plan.json` or its folder. Raises UserError if it is missing or damaged."""
    file = path / "plan.json" if path.is_dir() else path
    try:
        stored = read_json(file)
    except OSError as error:
        raise UserError(f"plan={path}: {error.strerror}: give the folder that `avssl plan out=…` wrote") from None
    try:
        costs = dict(stored["costs"])
        costs["solver"] = _inputs(Solver, costs["solver"], file)
        if costs.get("extraction") is not None:
            costs["extraction"] = _inputs(Extraction, costs["extraction"], file)
        checkpoint = stored["measured"]["checkpoint"]
        return Planned(
            _inputs(Target, stored["target"], file), _inputs(Work, stored["work"], file), _inputs(Costs, costs, file),
            float(checkpoint) if is_number(checkpoint) else 0.0,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{file} is no plan of this version: write it again with `avssl plan out=…`") from None


def _inputs(kind: type[Inputs], stored: dict[str, Any], file: Path) -> Inputs:
    for f in fields(kind):
        value = stored.get(f.name)
        if value is not None and f.type in (int, float, "int", "float") and not is_number(value):
            raise UserError(f"{file}: {f.name} is {value!r}")
    # JSON has no infinity
    values: dict[str, Any] = {k: inf if x is None and k in ("network", "storage") else x for k, x in stored.items()}
    return kind(**values)


def compare(planned: Planned, config: BenchClusterConfig) -> list[Part]:
    """The parts of the run, planned and simulated.

    Raises:
        UserError: the plan has a part that is not simulated.
    """
    target, work, costs = planned.target, planned.work, planned.costs
    if costs.extraction is not None or not target.workers or work.mode != "offline":
        raise UserError(
            "this plan's run extracts features, has no decoding processes, or does not label offline: only other runs "
            "are simulated"
        )
    spread = Spread(config.clip_spread, config.step_spread, config.gpu_spread, config.pause_rate, config.pause)
    e = estimate(target, work, costs)
    copy = config.clip_mb * 1e6 / (config.copy_gb * 1e9)
    training = _training(planned, config, e, spread, copy)
    parts = [training]
    if e.passes:
        parts += _labelling(planned, config, e, spread, copy)
    parts.append(_checkpoints(planned, config, e, sum(part.simulated for part in parts)))
    total = Part("total", e.seconds, sum(part.simulated for part in parts))
    differences = [p for p in parts if abs(p.simulated - p.planned) > 0.01 * e.seconds]
    worst = max(differences, key=lambda p: abs(p.simulated - p.planned), default=None)
    return [*parts, Part(total.name, total.planned, total.simulated, f"most of it: {worst.name}" if worst else "")]


def _training(planned: Planned, config: BenchClusterConfig, e: Estimate, spread: Spread, copy: float) -> Part:
    target, work, costs = planned.target, planned.work, planned.costs
    device = (costs.batch + costs.update / work.accumulate) / target.speed
    phase = Phase(
        config.steps * work.accumulate, work.batch, device, costs.decode, costs.decode_wall, costs.item,
        work.batch * copy, work.accumulate, costs.gradients,
    )  # fmt: skip
    found = simulate(target, phase, spread, config.seed)
    half = config.steps // 2  # the first steps take batches that were prepared before
    step = (found.ends[-1] - found.ends[half - 1]) / (config.steps - half)
    waits = {
        "for clips": _mean(found.waited_clips, half),
        "for other processes": _mean(found.waited_others, half),
        "for gradients": _mean(found.network, half),
    }
    named = ", ".join(f"{duration(seconds)} {name}" for name, seconds in waits.items() if seconds > 1e-3 * step)
    planned_step = e.training / e.steps
    why = f"a step takes {duration(step)}, not {duration(planned_step)}"
    why += f"; a process waits {named}" if named else ""
    return Part("training", e.training, e.steps * step + found.first, why)


def _mean(values: list[float], start: int) -> float:
    return float(np.mean(values[start:]))


def _labelling(planned: Planned, config: BenchClusterConfig, e: Estimate, spread: Spread, copy: float) -> list[Part]:
    target, work, costs = planned.target, planned.work, planned.costs
    batches = -(-work.videos // (target.world * LABEL_BATCH))
    phase = Phase(
        batches, LABEL_BATCH, LABEL_BATCH * costs.forward / target.speed, costs.label_decode, costs.label_wall,
        costs.item, LABEL_BATCH * copy,
    )  # fmt: skip
    found: Outcome = simulate(target, phase, spread, config.seed + 1)
    whole = work.videos / (target.world * LABEL_BATCH) / batches  # the last batch is smaller
    once = found.first + (found.end - found.first) * whole
    warmup = e.labelling - e.passes * (e.label_start + e.label.seconds)
    planned_pass = duration(e.label_start + e.label.seconds)
    why = (
        f"a pass takes {duration(once)}, not {planned_pass}: its first batches come after up to "
        f"{duration(found.first)}, and the slowest of {target.world} processes ends it"
    )
    passes = Part("labelling passes", e.labelling, e.passes * once + warmup, why)

    # each pass over the evidence ends when the slowest process does
    iterations = work.heads * (costs.solver.passes + 1)
    sums = work.heads * costs.solver.passes * exchange_seconds(target, 8 * work.clusters**2)
    rng = np.random.default_rng([config.seed, 2])
    speeds = np.exp(rng.normal(0, spread.gpu, target.world))
    times = speeds * np.exp(rng.normal(0, spread.step, (min(1000, int(iterations) + 1), target.world)))
    slowest = float(times.max(1).mean())
    solve = (e.solve - sums) * slowest + sums
    why = f"each pass over the evidence waits for the slowest process ({slowest:.2f} times the mean)"
    return [passes, Part("solver", e.solving, e.solving / e.solve * solve if e.solve else 0.0, why)]


def _checkpoints(planned: Planned, config: BenchClusterConfig, e: Estimate, seconds: float) -> Part:
    """Checkpoints are written in the background, but their values are copied from the device first."""
    number = seconds / (60 * config.checkpoint_minutes)
    copied = e.checkpoint_bytes / (config.copy_gb * 1e9)
    write = planned.checkpoint * e.checkpoint_bytes
    late = max(0.0, write - 60 * config.checkpoint_minutes)
    why = f"{number:,.0f} of {e.checkpoint_bytes / 1e9:.2g} GB; written in the background in {duration(write)}"
    return Part("checkpoints", 0.0, number * (copied + late), why)
