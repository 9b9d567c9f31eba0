"""The plan as rows of a table: quantity, value and source."""

from ..config import PlanConfig
from ..objectives.build import make_plan
from ..objectives.step_clips import StepClips
from .estimate import Change, Costs, Estimate, Target, Work, bottleneck
from .inputs import kept_share, on_cluster
from .measure import DecodeCosts, Measured, StepCosts
from .videos import count_files

HERE, COMPUTED = "measured here", "computed"


def duration(seconds: float) -> str:
    """A duration in a suitable unit."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * size or (unit == "s" and seconds >= 1):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def size(number: float) -> str:
    """A number of bytes in a suitable unit."""
    for unit, power in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= power:
            return f"{number / power:.3g} {unit}"
    return f"{number:.0f} B"


class Rows:
    """The rows of one plan: [what, value, how]."""

    def __init__(self, config: PlanConfig, measured: Measured, target: Target, work: Work, costs: Costs, e: Estimate):
        self.config, self.measured, self.target, self.work, self.costs, self.e = (
            config, measured, target, work, costs, e,
        )  # fmt: skip
        assumed = target.speed != 1.0
        self.on_device = f"{HERE}, assumed gpu_speed={target.speed:g}" if assumed else HERE
        self.computed = f"{COMPUTED}, from assumed gpu_speed={target.speed:g}" if assumed else COMPUTED
        self.rows: list[list[str]] = []

    def add(self, what: str, value: str, how: str = COMPUTED) -> None:
        self.rows.append([what, value, how])

    def where(self) -> None:
        t, w = self.target, self.work
        kind = "GPU" if t.gpus else "CPU"
        files = 0 if self.config.videos else count_files(self.config)
        windows = f" windows of {files:,}" if 0 < files < w.videos else ""
        self.add("training videos", f"{w.videos:,}{windows}", "given" if self.config.videos else "from the index")
        machines = f"{t.nodes:,} machine{'s' if t.nodes > 1 else ''}"
        self.add("processes", f"{t.world:,} ({machines} of {t.processes}, on {kind}s; {t.cores} cores each)", "given")
        self.add("steps", f"{self.e.steps:,} of {w.batch * w.accumulate * t.world:,} videos")

    def step(self, step: StepCosts) -> None:
        t, e, costs = self.target, self.e, self.costs
        scaled = "" if step.size == self.work.batch else f", scaled from {step.size} videos"
        if costs.extraction is None:
            clips = StepClips.of(self.config, make_plan(self.config))
            self.add("step of a process: clips", clips.describe(self.work.batch * self.work.accumulate))
        how = self.on_device + scaled
        self.add("batch of a process: compute", duration(costs.batch / t.speed), how)
        if costs.extraction is None:
            self.add("… of that, augmentation and spectrograms", duration(step.transform / t.speed), self.on_device)
        self.add("… and the optimiser", duration(costs.update / t.speed), self.on_device)
        if t.nodes > 1:
            gradients = f"{size(costs.gradients)}, {duration(e.step.parts['network'])}"
            self.add("gradients to exchange", gradients, f"assumed network_gbit={self.config.network_gbit:g}")
        if costs.extraction is None:
            self.decoded()
        self.add("videos/s needed by a machine", f"{e.videos_wanted:,.3g}", self.computed)
        if costs.extraction is not None:
            self.add("step", f"{duration(e.step.seconds)} ({e.step.bound})", self.computed)
            return
        self.resources()

    def extraction(self) -> None:
        """Features that the run extracts before its first step."""
        x, e = self.costs.extraction, self.e.extraction
        if x is None or e is None:
            return
        data, clips = self.config.data, self.work.videos * x.clips
        self.add(
            "features: clips to encode",
            f"{clips:,} ({data.views} and {data.augmented} augmented of each training video)",
        )
        self.add("… decoding one", *self.decoding(self.measured.label_decode, x.decode))
        self.add("… encoding one", duration(x.encode / self.target.speed), self.on_device)
        self.add("… all of them", f"{duration(e.seconds)} ({e.bound})", self.computed)

    def decoded(self) -> None:
        """Costs of decoding."""
        costs = self.costs
        self.add("decoding a training item", *self.decoding(self.measured.decode, costs.decode))
        if self.e.passes or self.work.further_passes:
            purpose = "to label" if self.e.passes else "for prototypes"
            self.add(f"decoding an item {purpose}", *self.decoding(self.measured.label_decode, costs.label_decode))
        if (decode := self.measured.decode) and decode.kept:
            share = kept_share(self.config, self.work.videos, decode.kept)
            self.add(
                "… from a cached file",
                f"{1e3 * decode.again:.3g} ms of a core ({share:.0%} of the items, {size(decode.kept)} a file)",
                f"{HERE}, clip.cache_mb={self.config.clip.cache_mb:g}",
            )

    def resources(self) -> None:
        """The resources that a machine needs to keep up."""
        t, e, costs = self.target, self.e, self.costs
        needed, available = e.cores_wanted, t.cores
        verdict = "enough" if needed <= available * 1.001 else "too few"
        name = f"launch.cpus={self.config.launch.cpus}: " if on_cluster(self.config) else ""
        self.add(
            "cores needed by a machine, decoding and compute",
            f"{needed:.3g} ({name}{available} available: {verdict})",
            self.computed,
        )
        verdict = "enough" if e.workers_wanted <= t.workers else "too few" if t.workers else "it decodes itself"
        self.add(
            "decoding processes needed by a process",
            f"{e.workers_wanted} (workers={t.workers}: {verdict})",
            self.computed,
        )
        if costs.item:
            limit = f", assumed read_mb={self.config.read_mb:g}" if self.config.read_mb and t.storage < 1e30 else ""
            self.add("read by a machine, at most", f"{size(e.read_wanted)}/s", f"{COMPUTED}, whole files{limit}")
        self.add("step", f"{duration(e.step.seconds)} ({e.step.bound})", self.computed)

    def decoding(self, costs: DecodeCosts | None, assumed: float) -> tuple[str, str]:
        if costs is None:
            return f"{1e3 * assumed:.3g} ms", f"assumed decode_ms={self.config.decode_ms:g} a clip"
        spread = f"{1e3 * costs.low:.3g} to {1e3 * costs.high:.3g}"
        return (
            f"{1e3 * costs.median:.3g} ms of a core ({spread}; mean {1e3 * costs.mean:.3g})",
            f"{HERE}, {costs.items} items",
        )

    def further_passes(self) -> None:
        e, passes = self.e, self.work.further_passes
        if passes:
            value = f"{passes:,} of {duration(e.label_start + e.label.seconds)} ({e.label.bound})"
            self.add("passes for prototypes", value, f"{self.computed}, without k-means")

    def labels(self) -> None:
        t, w, e = self.target, self.work, self.e
        label = f"{e.passes:,} of {duration(e.label_start + e.label.seconds)} ({e.label.bound})"
        self.add("labelling passes", label, self.computed)
        if self.measured.solver is None:
            self.add("clustering", "not included", "k-means is not estimated")
        else:
            how = f"{HERE}, random problem"
            self.add("solver: passes over the evidence", f"{self.costs.solver.passes:.0f} + 1", how)
            often = "batch by batch" if w.mode == "batch" else f"{w.solves} times"
            once = f"{duration(e.solve)} for {w.heads} heads, {often}"
            self.add("solver: one labelling pass", once, f"{self.computed}, scaled from {HERE}")
        self.add("evidence on a device (labelling.memory=" + ("stream)" if w.stream else "full)"),
                 size(e.evidence_bytes) if e.evidence_bytes else "only blocks")  # fmt: skip
        self.add("features in memory, a process", size(e.features_bytes))
        self.add(
            "label table", f"{size(e.label_bytes)} (N x {w.heads} heads, {size(e.label_bytes / t.world)} a process)"
        )
        if e.bank_bytes:
            self.add("stored features", f"{size(e.bank_bytes)} ({size(e.bank_bytes / t.world)} a process)")

    def memory(self, step: StepCosts) -> None:
        if self.measured.device.startswith("cuda"):
            self.add("GPU memory of a step", size(step.memory), HERE)
        elif self.target.gpus and not self.measured.device.startswith("mps"):
            how = f"{COMPUTED}, roughly: in float32, without workspace"
            self.add("GPU memory of a step", f"about {size(step.memory)}", how)
        if step.teacher:
            self.add("teacher, in every process", size(step.teacher))
        for name, stored in step.stored.items():
            self.add(f"{name}: kept from step to step, in every process", size(stored))
        for name, each in step.per_video.items():
            total = each * self.work.videos
            self.add(f"{name}: kept of every video", f"{size(total)} ({size(total / self.target.world)} a process)")
        self.add("checkpoint", size(self.e.checkpoint_bytes))
        per_byte = self.measured.checkpoint
        if per_byte is None:
            self.add("… to write", "unknown", f"{self.config.out or '.'} cannot be written to")
        else:
            write = duration(per_byte * self.e.checkpoint_bytes)
            self.add("… to write, one writer", write, f"{HERE}, in {self.measured.disk}")

    def total(self, better: list[Change]) -> None:
        t, e = self.target, self.e
        how = self.computed
        if t.nodes > 1:
            how += f", assumed scaling={t.scaling:g}"
        for name, seconds in e.parts.items():
            if seconds:
                value = f"{duration(seconds)} ({seconds / e.seconds:.0%})"
                self.add(name, value, how if name == "training" else self.computed)
        kind = "GPU" if t.gpus else "process"
        self.add("total", f"{duration(e.seconds)}, {e.seconds * t.world / 3600:,.3g} {kind}-hours", how)
        self.add("bottleneck", bottleneck(e))
        if better:
            first = better[0]
            self.add("what helps most", f"{first.text}: {duration(first.seconds)} in total", self.computed)
        else:
            self.add("what helps most", "none of the changes tried saves 5 %")


def rows_of(
    config: PlanConfig,
    measured: Measured,
    target: Target,
    work: Work,
    costs: Costs,
    result: Estimate,
    better: list[Change],
) -> list[list[str]]:
    """The rows of the table: the quantity, its value, and whether it was measured here, computed or assumed."""
    assert measured.step is not None
    table = Rows(config, measured, target, work, costs, result)
    table.where()
    table.extraction()
    table.step(measured.step)
    if result.passes:
        table.labels()
    table.further_passes()
    table.memory(measured.step)
    table.total(better)
    return table.rows
