"""From what one batch, one clip and one solver pass cost to a whole training: arithmetic alone. Nothing of size N."""

from dataclasses import dataclass, replace
from math import ceil

FLOAT, INT = 4, 4
DOUBLE = 8


@dataclass(frozen=True)
class Target:
    """Where the training is to run."""

    nodes: int
    processes: int
    """On each machine; a GPU each, where there are GPUs."""
    gpus: bool
    cores: int
    """Of a machine, for all its processes."""
    workers: int
    """Decoding processes of a training process; 0: it decodes itself."""
    threads: int
    """That keep busy beside the decoding: on a CPU those that compute, on a GPU the one that drives it."""
    speed: float = 1.0
    """Of a device, relative to the one that was measured."""
    scaling: float = 1.0
    """Share of the speed that is left when machines wait for one another."""
    network: float = float("inf")
    """Bytes/s in and out of a machine."""
    storage: float = float("inf")
    """Bytes/s that a machine can read."""

    @property
    def world(self) -> int:
        return self.nodes * self.processes


@dataclass(frozen=True)
class Work:
    """What is to be computed."""

    videos: int
    epochs: int
    batch: int
    """Videos per process."""
    accumulate: int = 1
    solves: int = 0
    """Labellings of all videos in the whole training; 0: a task without labels."""
    mode: str = "offline"
    groups: int = 1
    heads: int = 1
    clusters: int = 1
    queue: int = 0
    stream: bool = False
    warmup_batches: int = 0
    features: int = 0
    """Floats that a labelling keeps of a video: the widths of the encoders."""


@dataclass(frozen=True)
class Solver:
    """Seconds of a solver pass: rows · (`linear` · K + `square` · K²) + `cube` · K³, and how many there are."""

    linear: float = 0.0
    square: float = 0.0
    cube: float = 0.0
    passes: float = 0.0
    """Over the evidence, without the last one, which gives the labels."""

    def seconds(self, rows: float, clusters: int) -> float:
        """Of a whole problem."""
        each = self.linear * clusters + self.square * clusters**2
        return (self.passes + 1) * rows * each + self.passes * self.cube * clusters**3


@dataclass(frozen=True)
class Costs:
    """Seconds on the device that was measured, CPU seconds and bytes."""

    batch: float
    """s: transform, forward and backward of a batch."""
    update: float = 0.0
    """s: the optimiser's step."""
    forward: float = 0.0
    """s: transform and encoders of one video, for a labelling."""
    decode: float = 0.0
    """CPU s to decode a training item."""
    decode_wall: float = 0.0
    """s that a decoding process takes for it, reading included."""
    label_decode: float = 0.0
    """CPU s to decode the clip of a labelling."""
    label_wall: float = 0.0
    evidence: float = 0.0
    """s: a head's evidence of one video, from its features."""
    solver: Solver = Solver()
    gradients: int = 0
    """Bytes that are summed over the processes in a step."""
    state: int = 0
    """Bytes of model and optimiser in a checkpoint."""
    item: float = 0.0
    """Bytes read for a video."""


@dataclass(frozen=True)
class StepEstimate:
    """Seconds that a number of videos takes each thing that it needs, all at once: the slowest sets the pace."""

    parts: dict[str, float]

    @property
    def seconds(self) -> float:
        return max(self.parts.values())

    @property
    def bound(self) -> str:
        return max(self.parts, key=lambda name: self.parts[name])


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes of a training."""

    steps: int
    step: StepEstimate
    """Of a process's share of a training step."""
    label: StepEstimate
    """Of a process's share of a labelling pass."""
    passes: int
    training: float
    labelling: float
    solving: float
    solve: float
    """Of all heads, once; in mode=batch with each batch."""
    videos_wanted: float
    """Videos/s that a machine's devices take while they train."""
    cores_wanted: float
    """Of a machine: to decode that many, and to drive the devices."""
    workers_wanted: int
    """Decoding processes of each training process, for that."""
    read_wanted: float
    """Bytes/s that a machine reads then, if files are read whole."""
    evidence_bytes: int
    """Of a process, on its device."""
    features_bytes: int
    """Of a process, in main memory: at most, during a labelling."""
    label_bytes: int
    """Of the whole label table."""
    bank_bytes: int
    """Of the remembered features of all videos."""
    checkpoint_bytes: int

    @property
    def seconds(self) -> float:
        return self.training + self.labelling + self.solving

    @property
    def parts(self) -> dict[str, float]:
        return {"training": self.training, "labelling passes": self.labelling, "solver": self.solving}


def pace(
    target: Target, device: float, videos: float, decode: float, decode_wall: float, item: float, sums: float = 0.0
) -> StepEstimate:
    """Of `videos` that take a process `device` seconds to compute, and `sums` bytes to exchange.

    Decoding goes on beside the computation, unless there are no workers for it. Cores that both share are shared.
    """
    waiting = videos * decode_wall
    parts = {"device": device if target.workers else device + waiting}
    if target.workers:
        parts["decoding"] = waiting / target.workers
    busy = device * target.threads + videos * decode
    parts["cores"] = target.processes * busy / target.cores
    parts["storage"] = target.processes * videos * item / target.storage
    parts["network"] = crossing(target, sums)
    return StepEstimate(parts)


def crossing(target: Target, size: float) -> float:
    """Seconds to sum `size` bytes over the machines: a ring sends and receives each byte about twice."""
    return 2 * size * (target.nodes - 1) / target.nodes / target.network


def estimate(target: Target, work: Work, costs: Costs) -> Estimate:
    """The whole training. Costs may be of a small problem: everything is scaled to N videos and W processes."""
    world, k = target.world, work.clusters
    each = work.batch * work.accumulate
    steps = ceil(work.epochs * work.videos / (each * world))
    device = (work.accumulate * costs.batch + costs.update) / target.speed
    step = pace(target, device, each, costs.decode, costs.decode_wall, costs.item, costs.gradients)

    rows = work.videos / world
    forward = costs.forward / target.speed
    label = pace(target, rows * forward, rows, costs.label_decode, costs.label_wall, costs.item)
    passes = work.solves * work.groups if work.mode == "offline" else min(1, work.solves)
    warm = pace(target, work.batch * forward, work.batch, costs.decode, costs.decode_wall, costs.item).seconds
    warm *= work.warmup_batches if passes else 0

    batchwise = steps * work.accumulate if work.mode == "batch" and passes else 0
    once = _solve(target, work, costs, rows)
    solve = _solve(target, work, costs, work.batch * world + work.queue, alone=True) if batchwise else once
    solving = batchwise * solve + work.solves * once

    wide = FLOAT * work.features
    kept = {"offline": work.groups + 1, "bank": 3}.get(work.mode, 1)  # while one pass is joined, or copied, twice
    labelled = passes > 0
    label_bytes = work.videos * work.heads * INT if labelled else 0
    bank_bytes = work.videos * (wide + 1) if labelled and work.mode == "bank" else 0
    own = device + (0 if target.workers else each * costs.decode_wall)
    return Estimate(
        steps, step, label, passes,
        training=steps * step.seconds / (target.scaling if target.nodes > 1 else 1.0),
        labelling=passes * label.seconds + warm,
        solving=solving, solve=solve,
        videos_wanted=target.processes * each / device,
        cores_wanted=target.processes * (each * costs.decode / device + target.threads),
        workers_wanted=ceil(each * costs.decode_wall / device - 1e-9),
        read_wanted=target.processes * each / own * costs.item,
        evidence_bytes=0 if not labelled or work.stream else ceil(rows) * k * FLOAT,
        features_bytes=ceil(rows) * wide * kept if labelled else 0,
        label_bytes=label_bytes, bank_bytes=bank_bytes,
        checkpoint_bytes=costs.state + label_bytes + bank_bytes,
    )  # fmt: skip


def _solve(target: Target, work: Work, costs: Costs, rows: float, alone: bool = False) -> float:
    """Seconds of all heads, once. `alone`: each process solves the whole, and nothing crosses."""
    reads = costs.solver.passes + 2 if work.stream else 1  # streamed: also for the cluster sizes, and for the labels
    computed = costs.solver.seconds(rows, work.clusters) + reads * rows * costs.evidence
    crowded = max(1.0, target.processes * target.threads / target.cores)
    sums = 0.0 if alone else costs.solver.passes * crossing(target, DOUBLE * work.clusters**2)
    return work.heads * (computed * crowded / target.speed + sums)


@dataclass(frozen=True)
class Change:
    """Something that could be done, and the seconds that the training would then take."""

    text: str
    seconds: float


def bottleneck(found: Estimate) -> str:
    """What most of the time goes to, and what that waits for."""
    part = max(found.parts, key=lambda name: found.parts[name])
    bounds = {"training": found.step.bound, "labelling passes": found.label.bound, "solver": "device"}
    waits = {
        "device": "computing", "decoding": "too few decoding processes", "cores": "too few cores",
        "storage": "reading", "network": "exchanging gradients",
    }  # fmt: skip
    return f"{part}: {waits[bounds[part]]}"


def changes(target: Target, work: Work, costs: Costs, core_limit: bool = True) -> list[Change]:
    """What could be changed, the most helpful first; only what saves a twentieth or more.

    More machines are named where nothing else helps. `core_limit`: can a machine be given no more cores?
    """
    now = estimate(target, work, costs)
    tried: list[tuple[str, Target, Work]] = []
    wanted = max(1, now.workers_wanted)
    if wanted > target.workers:
        cores = max(target.cores, target.processes * (wanted + target.threads))
        if cores == target.cores or not core_limit:
            more = "" if cores == target.cores else f" launch.cpus={ceil(cores / target.processes)}"
            tried.append((f"workers={wanted}{more}", replace(target, workers=wanted, cores=cores), work))
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
    found = [Change(text, estimate(t, w, costs).seconds) for text, t, w in tried]
    found = sorted((c for c in found if c.seconds < 0.95 * now.seconds), key=lambda c: c.seconds)
    if not found:
        twice = replace(target, nodes=2 * target.nodes)
        change = Change("twice the machines", estimate(twice, work, costs).seconds)
        found = [change] if change.seconds < 0.95 * now.seconds else []
    return found
