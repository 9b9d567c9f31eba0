"""Compute the cost of a whole run from the costs of one batch, one clip and one solver pass, in constant memory."""

from dataclasses import dataclass, replace
from math import ceil

FLOAT, INT, DOUBLE = 4, 4, 8
"""Bytes of a number."""


@dataclass(frozen=True)
class Target:
    """The machines of a run."""

    nodes: int
    processes: int
    """Processes per machine; each has a GPU, if there are GPUs."""
    gpus: bool
    cores: int
    """Cores per machine, for all its processes."""
    workers: int
    """Decoding processes per training process; with 0 it decodes itself."""
    threads: int
    """Busy threads per training process: on a CPU those that compute, on a GPU the one that drives it."""
    speed: float = 1.0
    """Speed of a device, relative to the measured one."""
    scaling: float = 1.0
    """Fraction of the speed that remains when machines wait for each other."""
    network: float = float("inf")
    """Network speed per machine, bytes/s each way."""
    storage: float = float("inf")
    """Reading speed per machine, bytes/s."""

    @property
    def world(self) -> int:
        return self.nodes * self.processes


@dataclass(frozen=True)
class Work:
    """The amount of work of a run."""

    videos: int
    epochs: float
    batch: int
    """Videos per batch of one process."""
    accumulate: int = 1
    solves: int = 0
    """Labelling passes in the whole run; 0 for a task without labels."""
    mode: str = "offline"
    groups: int = 1
    heads: int = 1
    clusters: int = 1
    queue: int = 0
    stream: bool = False
    warmup_batches: int = 0
    label_batch: int = 0
    """Videos per batch of a labelling pass."""
    features: int = 0
    """Floats that a labelling pass keeps per video: the sum of the encoders' widths."""
    further_passes: int = 0
    """Passes over the data that find prototypes."""


@dataclass(frozen=True)
class Solver:
    """The seconds of a solver pass, rows · (`linear` · K + `square` · K²) + `cube` · K³, and the number of passes."""

    linear: float = 0.0
    square: float = 0.0
    cube: float = 0.0
    passes: float = 0.0
    """Passes over the evidence, without the last one, which assigns the labels."""

    def seconds(self, rows: float, clusters: int) -> float:
        """Seconds of a whole problem."""
        per_row = self.linear * clusters + self.square * clusters**2
        return (self.passes + 1) * rows * per_row + self.passes * self.cube * clusters**3


@dataclass(frozen=True)
class Extraction:
    """Features that a run extracts first (`data.features=auto`): clips per video; device seconds, CPU seconds and
    elapsed seconds per clip; bytes to read per clip."""

    clips: int
    encode: float
    decode: float
    wall: float
    item: float


@dataclass(frozen=True)
class Costs:
    """Costs of the parts: seconds on the measured device, CPU seconds, and bytes."""

    batch: float
    """Transform, forward and backward pass of a batch, s."""
    update: float = 0.0
    """The optimiser's step, s."""
    forward: float = 0.0
    """Transform and encoders of one video in a labelling pass, s."""
    decode: float = 0.0
    """Decoding a training item, CPU s."""
    decode_wall: float = 0.0
    """The same with reading, in elapsed s."""
    label_decode: float = 0.0
    """Decoding a clip of a labelling pass, CPU s."""
    label_wall: float = 0.0
    """The same with reading, in elapsed s."""
    evidence: float = 0.0
    """A head's evidence of one video from its features, s."""
    solver: Solver = Solver()
    gradients: int = 0
    """Bytes summed over the processes in a step."""
    state: int = 0
    """Bytes of model, optimiser, teacher and queues in a checkpoint."""
    per_video: float = 0.0
    """Bytes that objectives keep of every video, such as a bank's, without labels."""
    item: float = 0.0
    """Bytes to read per video."""
    extraction: Extraction | None = None
    """The extraction of a run's features, if it extracts any. Its steps then decode nothing."""


@dataclass(frozen=True)
class StepEstimate:
    """Seconds that each resource needs for a number of videos. They work in parallel, so the slowest is the bound."""

    parts: dict[str, float]

    @property
    def seconds(self) -> float:
        return max(self.parts.values())

    @property
    def bound(self) -> str:
        return max(self.parts, key=lambda name: self.parts[name])


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes of a run."""

    steps: int
    step: StepEstimate
    """A process's share of a training step."""
    label: StepEstimate
    """A process's share of a pass that labels or finds prototypes."""
    passes: int
    training: float
    labelling: float
    solving: float
    solve: float
    """One solution for all heads, s; in mode=batch, for each batch."""
    videos_wanted: float
    """Videos/s that the devices of a machine can process in training."""
    cores_wanted: float
    """Cores per machine to decode this many videos and to drive the devices."""
    workers_wanted: int
    """Decoding processes per training process to decode this many videos."""
    read_wanted: float
    """Bytes/s that a machine then reads, if it reads whole files."""
    evidence_bytes: int
    """Evidence of a process, on its device."""
    features_bytes: int
    """Most features of a process in main memory during a labelling pass."""
    label_bytes: int
    """The labels of all processes."""
    bank_bytes: int
    """The stored features of all videos."""
    checkpoint_bytes: int
    prototypes: float = 0.0
    """Seconds of all passes that find prototypes."""
    extraction: StepEstimate | None = None
    """A process's share of the extraction of features."""
    label_start: float = 0.0
    """Seconds until the first batch of such a pass is decoded: nothing is decoded ahead of it."""

    @property
    def extracting(self) -> float:
        """Seconds of the extraction of features."""
        return 0.0 if self.extraction is None else self.extraction.seconds

    @property
    def seconds(self) -> float:
        return self.extracting + self.training + self.labelling + self.prototypes + self.solving

    @property
    def parts(self) -> dict[str, float]:
        first = {"features": self.extracting} if self.extraction else {}
        passes = {"labelling passes": self.labelling, "prototype passes": self.prototypes}
        return first | {"training": self.training} | passes | {"solver": self.solving}


def pace(
    target: Target, device: float, videos: float, decode: float, decode_wall: float, item: float, sums: float = 0.0
) -> StepEstimate:
    """The time of a process's videos. Decoding and computation overlap, unless there are no workers.

    Args:
        target: the machines.
        device: seconds to compute.
        videos: number of videos.
        decode: CPU seconds to decode a video.
        decode_wall: elapsed seconds to decode a video.
        item: bytes to read for a video.
        sums: bytes to sum over the processes.
    """
    waiting = videos * decode_wall
    parts = {"device": device if target.workers else device + waiting}
    if target.workers:
        parts["decoding"] = waiting / target.workers
    busy = device * target.threads + videos * decode
    parts["cores"] = target.processes * busy / target.cores
    parts["storage"] = target.processes * videos * item / target.storage
    parts["network"] = exchange_seconds(target, sums)
    return StepEstimate(parts)


def exchange_seconds(target: Target, size: float) -> float:
    """Seconds to sum `size` bytes over the machines: a ring sends and receives each byte about twice."""
    return 2 * size * (target.nodes - 1) / target.nodes / target.network


def estimate(target: Target, work: Work, costs: Costs) -> Estimate:
    """Estimate a whole run. All costs are scaled from the measurements to N videos and W processes."""
    world, k = target.world, work.clusters
    per_process = work.batch * work.accumulate
    steps = ceil(work.epochs * work.videos / (per_process * world) - 1e-9)  # epochs may be a rounded quotient
    device = (work.accumulate * costs.batch + costs.update) / target.speed
    step = pace(target, device, per_process, costs.decode, costs.decode_wall, costs.item, costs.gradients)

    rows = work.videos / world
    forward = costs.forward / target.speed
    label = pace(target, rows * forward, rows, costs.label_decode, costs.label_wall, costs.item)
    # one decoding process makes the whole first batch, and the device waits for it
    label_start = min(work.label_batch, rows) * costs.label_wall if target.workers else 0.0
    passes = work.solves * work.groups if work.mode == "offline" else min(1, work.solves)
    warmup = pace(target, work.batch * forward, work.batch, costs.decode, costs.decode_wall, costs.item).seconds
    warmup *= work.warmup_batches if passes else 0

    solved_batches = steps * work.accumulate if work.mode == "batch" and passes else 0
    solve_all = _solve(target, work, costs, rows)
    batch_rows = work.batch * world + work.queue
    solve = _solve(target, work, costs, batch_rows, local=True) if solved_batches else solve_all
    solving = solved_batches * solve + work.solves * solve_all

    extraction = None
    if (x := costs.extraction) is not None:
        clips = rows * x.clips
        extraction = pace(target, clips * x.encode / target.speed, clips, x.decode, x.wall, x.item)

    feature_bytes = FLOAT * work.features
    copies = {"offline": work.groups + 1, "bank": 3}.get(work.mode, 1)  # while a pass is concatenated or copied
    labelled = passes > 0
    label_bytes = work.videos * work.heads * INT if labelled else 0
    bank_bytes = work.videos * (feature_bytes + 1) if labelled and work.mode == "bank" else 0
    process_seconds = device + (0 if target.workers else per_process * costs.decode_wall)
    return Estimate(
        steps, step, label, passes,
        training=steps * step.seconds / (target.scaling if target.nodes > 1 else 1.0),
        labelling=passes * (label_start + label.seconds) + warmup,
        prototypes=work.further_passes * (label_start + label.seconds),
        solving=solving, solve=solve,
        videos_wanted=target.processes * per_process / device,
        cores_wanted=target.processes * (per_process * costs.decode / device + target.threads),
        workers_wanted=ceil(per_process * costs.decode_wall / device - 1e-9),
        read_wanted=target.processes * per_process / process_seconds * costs.item,
        evidence_bytes=0 if not labelled or work.stream else ceil(rows) * k * FLOAT,
        features_bytes=ceil(rows) * feature_bytes * copies if labelled else 0,
        label_bytes=label_bytes, bank_bytes=bank_bytes,
        checkpoint_bytes=costs.state + label_bytes + bank_bytes + round(costs.per_video * work.videos),
        extraction=extraction, label_start=label_start,
    )  # fmt: skip


def _solve(target: Target, work: Work, costs: Costs, rows: float, local: bool = False) -> float:
    """Seconds to solve for all heads once. With `local`, each process solves the whole problem, without exchange."""
    # a streamed problem computes its evidence in every pass, and once more each for the cluster sizes and the labels
    evidence_passes = costs.solver.passes + 2 if work.stream else 1
    computed = costs.solver.seconds(rows, work.clusters) + evidence_passes * rows * costs.evidence
    slowdown = max(1.0, target.processes * target.threads / target.cores)
    sums = 0.0 if local else costs.solver.passes * exchange_seconds(target, DOUBLE * work.clusters**2)
    return work.heads * (computed * slowdown / target.speed + sums)


@dataclass(frozen=True)
class Change:
    """A possible change, and the seconds that the run would then take."""

    text: str
    seconds: float


def bottleneck(result: Estimate) -> str:
    """The part that takes most of the time, and what limits it."""
    part = max(result.parts, key=lambda name: result.parts[name])
    bounds = {"training": result.step.bound, "solver": "device"}
    bounds |= dict.fromkeys(("labelling passes", "prototype passes"), result.label.bound)
    bounds |= {"features": result.extraction.bound} if result.extraction else {}
    waits = {
        "device": "computing", "decoding": "too few decoding processes", "cores": "too few cores",
        "storage": "reading", "network": "exchanging gradients",
    }  # fmt: skip
    return f"{part}: {waits[bounds[part]]}"


def changes(target: Target, work: Work, costs: Costs, core_limit: bool = True) -> list[Change]:
    """Changes that save at least 5 % of the time, the most helpful first; else more machines, if they help.

    `core_limit`: whether machines cannot have more cores.
    """
    now = estimate(target, work, costs)
    tried: list[tuple[str, Target, Work]] = []
    workers = max(1, now.workers_wanted)
    if workers > target.workers:
        cores = max(target.cores, target.processes * (workers + target.threads))
        if cores == target.cores or not core_limit:
            more = "" if cores == target.cores else f" launch.cpus={ceil(cores / target.processes)}"
            tried.append((f"workers={workers}{more}", replace(target, workers=workers, cores=cores), work))
    elif not core_limit and now.step.bound == "cores":
        cpus = ceil(now.cores_wanted / target.processes)
        tried.append((f"launch.cpus={cpus}", replace(target, cores=cpus * target.processes), work))
    if work.solves > 1 and work.mode == "offline":
        fewer = ceil(work.solves / 2)
        tried.append((f"labelling.passes={fewer} (labels are older)", target, replace(work, solves=fewer)))
        if work.groups > 1:
            tried.append(("labelling.groups=1 (all heads from one pass)", target, replace(work, groups=1)))
        else:
            tried.append(("labelling.mode=bank (labels from older features)", target, replace(work, mode="bank")))
    results = [Change(text, estimate(t, w, costs).seconds) for text, t, w in tried]
    helpful = sorted((c for c in results if c.seconds < 0.95 * now.seconds), key=lambda c: c.seconds)
    if not helpful:
        twice = replace(target, nodes=2 * target.nodes)
        change = Change("twice the machines", estimate(twice, work, costs).seconds)
        helpful = [change] if change.seconds < 0.95 * now.seconds else []
    return helpful
