"""The inputs of the estimate, from the options and the measurements."""

from dataclasses import replace
from math import ceil

import torch

from ..config import PlanConfig
from ..core.cores import available_cores
from ..core.device import AUTO_WORKERS, CPU_WORKERS, auto_workers, decoding_workers
from ..objectives.build import count_further_passes, make_plan
from ..objectives.labelling import LABEL_BATCH
from ..selflabel.labelling_steps import configured_steps
from .estimate import Costs, Extraction, Solver, Target, Work
from .measure import DecodeCosts, Measured


def on_cluster(config: PlanConfig) -> bool:
    """Whether the plan is for machines other than this one."""
    launch = config.launch
    return launch.where == "slurm" or launch.nodes > 1 or launch.gpus > 0


def with_workers(config: PlanConfig, device: torch.device) -> PlanConfig:
    """The config with the number of decoding processes that `workers=-1` means on the machines of the run."""
    launch, workers = config.launch, config.workers
    if workers == AUTO_WORKERS and on_cluster(config):
        workers = auto_workers(launch.cpus) if launch.gpus_of_node() else min(CPU_WORKERS, launch.cpus)
    elif workers == AUTO_WORKERS and device.type != "cpu" and launch.processes > 1:
        workers = auto_workers(available_cores() // launch.processes)
    return replace(config, workers=decoding_workers(workers, device))


def make_target(config: PlanConfig, device: torch.device) -> Target:
    """The machines of the run: this one, or `launch.nodes` machines with `launch.gpus` GPUs."""
    launch, workers = config.launch, config.workers
    if not on_cluster(config):
        cores, gpu = available_cores(), device.type != "cpu"
        threads = 1 if gpu else config.threads or max(1, cores - workers)
        return Target(1, launch.processes or 1, gpu, cores, workers, threads)
    gpus = launch.gpus_of_node()
    processes = launch.processes or gpus or 1
    threads = 1 if gpus else config.threads or max(1, launch.cpus - workers)
    return Target(
        launch.nodes, processes, gpus > 0, launch.cpus * processes, workers, threads,
        speed=config.gpu_speed if gpus and device.type != "cuda" else 1.0,
        scaling=config.scaling, network=config.network_gbit * 1e9 / 8,
        storage=config.read_mb * 1e6 or float("inf"),
    )  # fmt: skip


def make_work(config: PlanConfig, videos: int, target: Target, measured: Measured) -> Work:
    """The work of a run on `videos` videos."""
    optim, labelling = config.optim, config.labelling
    assert measured.step is not None
    batch = optim.batch * target.world
    steps = optim.steps_of(videos, batch)
    further = count_further_passes(config, steps, videos / (batch * optim.accumulate))
    work = Work(
        videos, optim.epochs_of(videos), optim.batch, optim.accumulate, features=measured.step.features,
        label_batch=LABEL_BATCH, further_passes=further,
    )  # fmt: skip
    if "labelling" not in config.objectives:
        return work
    schedule = configured_steps(labelling, steps)
    solves = 1 if labelling.mode == "batch" else len(schedule)
    return replace(
        work, solves=solves, mode=labelling.mode, groups=labelling.groups, heads=labelling.heads,
        clusters=labelling.clusters, queue=labelling.queue, stream=labelling.memory == "stream",
        warmup_batches=min(labelling.warmup_batches, ceil(videos / batch)),
    )  # fmt: skip


def kept_share(config: PlanConfig, videos: int, size: float) -> float:
    """The fraction of training items that come from the cache of decoded files of `size` bytes each.

    Every decoding process has its own cache, and must decode each file once, so one read of a file per worker misses
    the cache over all epochs. Labelling passes, which read more, are not counted.
    """
    if not size:
        return 0.0
    fits = min(1.0, config.clip.cache_mb * 1e6 / (videos * size))
    return fits * max(0.0, 1 - max(1, config.workers) / config.optim.epochs_of(videos))


def make_costs(config: PlanConfig, measured: Measured, videos: int, item: float) -> Costs:
    """The measured or assumed costs of the parts. `item` is the mean size of a video, bytes."""
    step, decode, label = measured.step, measured.decode, measured.label_decode
    assert step is not None
    plan = make_plan(config)
    clips = 1 if plan is None else plan.decoded
    guess = config.decode_ms / 1e3

    def costs(decoding: DecodeCosts | None, clips: int) -> tuple[float, float]:
        if decoding is None:
            return clips * guess, clips * guess
        return decoding.mixed(kept_share(config, videos, decoding.kept))

    (cpu, wall), (label_cpu, label_wall) = costs(decode, clips), costs(label, 1)
    if config.data.features:
        each = config.data.views + config.data.augmented
        extraction = Extraction(each, step.encode, label_cpu, label_wall, item)
        return Costs(
            step.batch, step.update, step.forward, evidence=measured.evidence, solver=measured.solver or Solver(),
            gradients=step.gradients, state=step.state, per_video=sum(step.per_video.values()), extraction=extraction,
        )  # fmt: skip
    return Costs(
        step.batch, step.update, step.forward,
        decode=cpu, decode_wall=wall, label_decode=label_cpu, label_wall=label_wall,
        evidence=measured.evidence, solver=measured.solver or Solver(),
        gradients=step.gradients, state=step.state, per_video=sum(step.per_video.values()), item=item,
    )  # fmt: skip
