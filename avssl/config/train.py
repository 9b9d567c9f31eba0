"""The options of `avssl train` and of `avssl plan`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .clip import ClipConfig
from .contrast import ContrastConfig
from .data import TrainedDataConfig
from .labelling import LabellingConfig
from .launch import LaunchConfig
from .model import ModelConfig
from .monitor import MonitorConfig
from .optim import OptimConfig
from .option import DAY, MAX_SEED, device_option, json_option, option, section, threads_option, workers_option

TASKS: dict[str, tuple[str, ...]] = {
    "selavi": ("labelling",),
    "gdt": ("contrast",),
    "both": ("contrast", "labelling"),
}
"""The objectives of each task, in the order of computation."""


@dataclass
class TrainConfig:
    """avssl train"""

    data: TrainedDataConfig = section(TrainedDataConfig, "the index to train on, and its splits")
    clip: ClipConfig = section(ClipConfig, "the frames and the audio of a clip, their augmentation and decoding")
    model: ModelConfig = section(ModelConfig, "the encoders, their starting weights, and the heads")
    labelling: LabellingConfig = section(LabellingConfig, "how many clusters, and how they are found (SeLaVi)")
    contrast: ContrastConfig = section(
        ContrastConfig, "which clips are pulled together, and which are pushed apart (GDT)"
    )
    optim: OptimConfig = section(OptimConfig, "length of the run, batch, optimiser, learning rates")
    monitor: MonitorConfig = section(
        MonitorConfig, "held-out videos that show during the run whether its features collapse"
    )
    launch: LaunchConfig = section(
        LaunchConfig, "where the run computes: this machine or a SLURM cluster, and the number of processes"
    )
    task: str = option(
        "selavi",
        "selavi: learn clusters; gdt: learn a representation by contrast; both: train one pair of encoders with both "
        "losses",
        choices="selavi gdt both",
    )  # fmt: skip
    out: str = option(
        "runs/${data.name}_${task}_seed${seed}",
        "run folder; if it contains an interrupted run, the command resumes it",
        path="new folder",
    )
    seed: int = option(
        0,
        "random seed of weights, shuffling and augmentation; several seeds show how much results vary",
        minimum=0,
        maximum=MAX_SEED,
    )
    device: str = device_option()
    precision: str = option(
        "auto",
        "number format of the encoders' arithmetic; auto: bfloat16 autocast on GPUs that support it, else float32",
        choices="auto float32 bfloat16",
    )
    compile: bool = option(
        False,
        "compile the encoders with torch.compile: the first step takes longer, the later ones less; for long runs",
    )
    workers: int = workers_option()
    threads: int = threads_option()
    log_steps: int = option(
        10, "training steps from one line of metrics.jsonl to the next", "steps", minimum=1, maximum=1_000_000
    )
    save_seconds: float = option(
        60.0,
        "shortest time between two checkpoints; an interruption loses at most about this much work",
        "s",
        minimum=0,
        maximum=30 * DAY,
    )
    auto: list[str] = option([], "what was chosen because no preset was given", noted=True)
    auto_reasons: list[str] = option([], "the reasons for these choices", noted=True)
    wandb: str = option("", "Weights & Biases project that receives the metrics; empty: none")

    @property
    def objectives(self) -> dict[str, float]:
        """The terms of the loss with their weights, in the order of computation."""
        weights = {"contrast": self.contrast.weight, "labelling": self.labelling.weight}
        names = TASKS[self.task]
        return {name: weights[name] if len(names) > 1 else 1.0 for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle a config. If an earlier version queued it, its options get their present names."""
        from .from_file import from_plain
        from .renamed import translated_run

        queued = _plain(state)
        today = translated_run(queued)
        self.__dict__.update(state if today == queued else vars(from_plain(type(self), today, "a queued job")))


def _plain(value: Any) -> Any:
    """The attributes of nested objects as nested dictionaries."""
    items = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    return value if items is None else {name: _plain(item) for name, item in items.items()}


@dataclass
class PlanConfig(TrainConfig):
    """avssl plan"""

    takes: ClassVar[type] = TrainConfig
    """The command also accepts the options of this schema."""

    out: str = option(
        "",
        "folder for plan.json and plan.md, whose disk's speed is measured; empty: print the plan only",
        path="new folder",
    )
    videos: int = option(
        0,
        "number of training videos; 0: the number in the index; required without an index",
        "videos",
        minimum=0,
        maximum=10_000_000_000,
    )
    gpu_speed: float = option(
        100.0,
        "assumed speed of one of the run's GPUs relative to this machine, if this machine has no GPU",
        "x",
        minimum=0.001,
        maximum=100_000,
    )
    decode_ms: float = option(
        25.0,
        "assumed CPU time to decode a clip, if there is no index to measure it with",
        "ms",
        minimum=0,
        maximum=1_000_000,
    )
    network_gbit: float = option(
        100.0, "assumed network bandwidth of each machine", "Gbit/s", minimum=0.001, maximum=100_000
    )
    read_mb: float = option(
        0.0, "assumed read speed of each machine's storage; 0: unlimited", "MB/s", minimum=0, maximum=10_000_000
    )
    scaling: float = option(
        0.9, "assumed fraction of linear speed-up that several nodes reach", minimum=0.01, maximum=1
    )
    json: bool = json_option()
