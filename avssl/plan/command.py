"""`avssl plan`: estimate the cost of a run, and find what to change first."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import PlanConfig
from ..core.atomic import write_json
from ..core.cores import available_cores
from ..core.device import prepare_device, share_cores
from ..core.json_output import prints_json
from ..core.report import report
from ..core.screen import Console
from ..models.taken_clip import take_over
from ..train.check_options import check_clusters, check_keys, check_plan
from .estimate import Change, Estimate, Target, bottleneck, changes, estimate
from .inputs import make_costs, make_target, make_work, on_cluster, with_workers
from .measure import Measured, measure
from .step import parts_of
from .table import rows_of
from .videos import count_videos, some_videos


@dataclass(frozen=True)
class Plan:
    """A plan: the estimate, and what it was computed from."""

    videos: int
    target: Target
    estimate: Estimate
    changes: list[Change]
    rows: list[list[str]]
    """What, value, and how it is known."""


def document(config: PlanConfig, plan: Plan) -> dict[str, Any]:
    """What `avssl plan json=true` prints."""
    e = plan.estimate
    parts = {name.replace(" ", "_"): seconds for name, seconds in e.parts.items()}
    return {
        "videos": plan.videos, "steps": e.steps, "labelling_passes": e.passes, "processes": plan.target.world,
        "gpus": plan.target.world if plan.target.gpus else 0, "total_seconds": e.seconds,
        "parts_seconds": parts, "step_seconds": e.step.seconds, "step_bound": e.step.bound,
        "bottleneck": bottleneck(e), "checkpoint_bytes": e.checkpoint_bytes, "label_bytes": e.label_bytes,
        "what_helps": [{"change": change.text, "total_seconds": change.seconds} for change in plan.changes],
        "table": [dict(zip(("what", "value", "how"), row, strict=True)) for row in plan.rows],
    }  # fmt: skip


def run(config: PlanConfig) -> Estimate:
    """Measure, compute and print a plan, and write plan.json and plan.md to the folder `out`, if it is given.

    Returns:
        The estimate.

    Raises:
        UserError: `avssl train` would reject the options, or there is neither an index nor `videos`.
    """
    return make_plan(config).estimate


@prints_json(document)
def make_plan(config: PlanConfig) -> Plan:
    """As `run`, for the whole plan."""
    check_plan(config)
    config = take_over(config)
    console = Console(highlight=False)
    device = prepare_device(config.device, fixed_shapes=True)
    config = with_workers(config, device)
    split, indexed = count_videos(config)
    videos = config.videos or indexed
    check_clusters(config, videos)
    check_keys(config, videos)
    dataset, item = some_videos(config, split) if indexed else (None, 0.0)
    target = make_target(config, device)
    cluster = on_cluster(config)
    assumed_speed = cluster and target.gpus and device.type != "cuda"
    threads, load = torch.get_num_threads(), os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    try:
        share_cores(
            device, config.workers, available_cores() if assumed_speed else min(target.threads, available_cores())
        )
        measured = measure(config, device, dataset, videos)
    finally:
        torch.set_num_threads(threads)
    work = make_work(config, videos, target, measured)
    costs = make_costs(config, measured, videos, item)
    result = estimate(target, work, costs)
    better = changes(target, work, costs, core_limit=not cluster)
    rows = rows_of(config, measured, target, work, costs, result, better)
    about = _about(config, measured, target, assumed_speed, load)
    report(console, "plan", ["what", "value", "source"], rows, about, config.out or None)
    if config.out:
        sections = {"target": target, "work": work, "costs": costs, "measured": measured, "estimate": result}
        plain = {name: asdict(section) for name, section in sections.items()}  # type: ignore[call-overload]
        totals = {"seconds": result.seconds, "step_seconds": result.step.seconds, "bound": result.step.bound}
        plain["estimate"] |= totals
        plain["changes"] = [asdict(change) for change in better]
        plain["table"] = [dict(zip(("what", "value", "how"), row, strict=True)) for row in rows]
        write_json(Path(config.out) / "plan.json", plain)
        console.print(f"plan: {Path(config.out) / 'plan.md'}", soft_wrap=True, markup=False)
    return Plan(videos, target, result, better, rows)


def _about(config: PlanConfig, measured: Measured, target: Target, assumed_speed: bool, load: float) -> str:
    notes = [f"Measured on {measured.device}, with {measured.threads} of {measured.cores} cores computing."]
    if on_cluster(config):
        notes.append("The plan assumes that the cluster's cores and GPUs are as fast as those of this machine.")
    if load > measured.cores / 2:
        notes.append(f"This machine was busy (load {load:.1f} on {measured.cores} cores), so an idle one is faster.")
    if assumed_speed:
        notes.append(
            f"This machine has no GPU: the plan assumes that a GPU is {target.speed:g} times as fast as this machine "
            f"(gpu_speed=…). All values that depend on it are only as good as this assumption."
        )
    if len(parts_of(config)) > 1:
        notes.append(
            "A step's time and the gradients are means over the parts of the run, which train different objectives."
        )
    if "contrast" in config.objectives and target.world > 1:
        notes.append("Not included: the comparison of clips between processes, which grows with their number.")
    prototypes = "contrast" in config.objectives and config.contrast.prototypes
    if prototypes or ("labelling" in config.objectives and config.labelling.method != "transport"):
        notes.append("Not included: the time of k-means.")
    return " ".join(notes)
