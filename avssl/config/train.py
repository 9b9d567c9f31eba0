"""The options of `avssl train` and of `avssl plan`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .clip import ClipConfig
from .contrast import ContrastConfig
from .data import TrainedDataConfig
from .labelling import LabellingConfig
from .launch import LaunchConfig
from .model import ModelConfig
from .optim import OptimConfig
from .option import DAY, DEVICE, MAX_SEED, json_option, option, section

TASKS: dict[str, tuple[str, ...]] = {
    "selavi": ("labelling",),
    "gdt": ("contrast",),
    "both": ("contrast", "labelling"),
}
"""The objectives of each task, in the order in which they are computed."""


@dataclass
class TrainConfig:
    """avssl train"""

    data: TrainedDataConfig = section(TrainedDataConfig, "the index, and its splits")
    clip: ClipConfig = section(ClipConfig, "the frames and audio of a clip")
    model: ModelConfig = section(ModelConfig, "encoders and heads")
    labelling: LabellingConfig = section(LabellingConfig, "self-labelling")
    contrast: ContrastConfig = section(ContrastConfig, "composed contrast")
    optim: OptimConfig = section(OptimConfig, "optimisation")
    launch: LaunchConfig = section(LaunchConfig, "where the run computes, and in how many processes")
    task: str = option(
        "selavi",
        "selavi: learn clusters; gdt: learn a representation by composed contrast; both: train one pair of encoders on "
        "both losses",
        choices="selavi gdt both",
    )  # fmt: skip
    out: str = option(
        "runs/${data.name}_${task}_seed${seed}", "run folder; a run that stopped there is resumed", path="new folder"
    )
    seed: int = option(0, "random seed of weights, shuffling and augmentation", minimum=0, maximum=MAX_SEED)
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    precision: str = option(
        "auto", "number format; auto: bfloat16 autocast on GPUs that support it", choices="auto float32 bfloat16"
    )
    compile: bool = option(False, "compile the encoders with torch.compile: the first step is slow, later ones faster")
    workers: int = option(2, "decoding processes; 0 decodes in the training process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0: the cores that decoding leaves free", minimum=0, maximum=1024
    )
    log_steps: int = option(
        10, "training steps between two lines of metrics.jsonl", "steps", minimum=1, maximum=1_000_000
    )
    save_seconds: float = option(60.0, "shortest time between two checkpoints", "s", minimum=0, maximum=30 * DAY)
    auto: list[str] = option([], "what was chosen where no preset was given", noted=True)
    auto_reasons: list[str] = option([], "why", noted=True)
    wandb: str = option("", "project in Weights & Biases to send figures to; empty: send none")

    @property
    def objectives(self) -> dict[str, float]:
        """The terms of the loss with their weights, in the order in which they are computed."""
        weights = {"contrast": self.contrast.weight, "labelling": self.labelling.weight}
        names = TASKS[self.task]
        return {name: weights[name] if len(names) > 1 else 1.0 for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle a config. One that an earlier version queued gets the present names of its options."""
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
        "", "folder for plan.json and plan.md; the speed of its disk is measured; empty: write none", path="new folder"
    )
    videos: int = option(
        0,
        "number of training videos; 0: as many as the index has; needed without an index",
        "videos",
        minimum=0,
        maximum=10_000_000_000,
    )
    gpu_speed: float = option(
        100.0,
        "assumed speed of one of the run's GPUs relative to this machine, if it has no GPU",
        "x",
        minimum=0.001,
        maximum=100_000,
    )
    decode_ms: float = option(
        25.0,
        "assumed CPU time to decode a clip, if there is no index to measure it on",
        "ms",
        minimum=0,
        maximum=1_000_000,
    )
    network_gbit: float = option(
        100.0, "assumed network bandwidth of each machine", "Gbit/s", minimum=0.001, maximum=100_000
    )
    read_mb: float = option(
        0.0, "assumed reading speed of each machine; 0: unlimited", "MB/s", minimum=0, maximum=10_000_000
    )
    scaling: float = option(
        0.9, "assumed fraction of the ideal speed that several nodes reach", minimum=0.01, maximum=1
    )
    json: bool = json_option()
