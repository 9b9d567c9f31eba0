"""`avssl plan`: what a training will cost, and what to change first."""

import os
from dataclasses import asdict
from pathlib import Path

import torch

from ..config import PlanConfig
from ..core.atomic import write_json
from ..core.cores import available_cores
from ..core.device import choose_device, share_cores
from ..core.report import report
from ..core.screen import Console
from ..train.check_options import check_clusters, check_plan
from .estimate import Estimate, Target, changes, estimate
from .inputs import make_costs, make_target, make_work, on_cluster
from .measure import Measured, measure
from .table import rows_of
from .videos import count_videos, some_videos


def run(config: PlanConfig) -> Estimate:
    """Measure, compute, and print the plan, which is returned; `out`, where given, gets plan.json and plan.md.

    Raises UserError for options that training would refuse, and where there is neither an index nor `videos`.
    """
    check_plan(config)
    console = Console(highlight=False)
    device = choose_device(config.device)
    split, there = count_videos(config)
    videos = config.videos or there
    check_clusters(config, videos)
    dataset, item = some_videos(config, split) if there else (None, 0.0)
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
    found = estimate(target, work, costs)
    better = changes(target, work, costs, core_limit=not cluster)
    rows = rows_of(config, measured, target, work, costs, found, better)
    about = _about(config, measured, target, assumed_speed, load)
    report(console, "plan", ["what", "value", "how it is known"], rows, about, config.out or None)
    if config.out:
        everything = {"target": target, "work": work, "costs": costs, "measured": measured, "estimate": found}
        plain = {name: asdict(part) for name, part in everything.items()}  # type: ignore[call-overload]
        plain["estimate"] |= {"seconds": found.seconds, "step_seconds": found.step.seconds, "bound": found.step.bound}
        plain["changes"] = [asdict(change) for change in better]
        plain["table"] = [dict(zip(("what", "value", "how"), row, strict=True)) for row in rows]
        write_json(Path(config.out) / "plan.json", plain)
        console.print(f"plan: {Path(config.out) / 'plan.md'}", soft_wrap=True, markup=False)
    return found


def _about(config: PlanConfig, measured: Measured, target: Target, assumed_speed: bool, load: float) -> str:
    here = f"Measured on {measured.device}, {measured.threads} of {measured.cores} cores computing."
    notes = [here, "Cores and GPUs there are taken to be as fast as those here."] if on_cluster(config) else [here]
    if load > measured.cores / 2:
        notes.append(f"This machine was busy (load {load:.1f} on {measured.cores} cores): an idle one is faster.")
    if assumed_speed:
        notes.append(
            f"No GPU is here, though: one there is assumed {target.speed:g} times as fast as this machine "
            f"(gpu_speed=…), and every figure that follows from it is no better than that."
        )
    if "contrast" in config.objectives and target.world > 1:
        notes.append("Left out: comparing a process's clips with those of all others, which grows with the processes.")
    if "labelling" in config.objectives and config.labelling.method != "transport":
        notes.append("Left out: the time of k-means.")
    return " ".join(notes)
