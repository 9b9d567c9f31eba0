"""A run: its sections, and what belongs to none of them; and the plan of one."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .clip import ClipConfig
from .contrast import ContrastConfig
from .data import TrainedDataConfig
from .labelling import LabellingConfig
from .launch import LaunchConfig
from .model import ModelConfig
from .optim import OptimConfig
from .option import DAY, DEVICE, MAX_SEED, option, section

TASKS: dict[str, tuple[str, ...]] = {
    "selavi": ("labelling",),
    "gdt": ("contrast",),
    "both": ("contrast", "labelling"),
}
"""The objectives that each task is a preset of, in the order in which they are computed."""


@dataclass
class TrainConfig:
    """avssl train"""

    data: TrainedDataConfig = section(TrainedDataConfig, "the index, and its splits")
    clip: ClipConfig = section(ClipConfig, "what a clip is")
    model: ModelConfig = section(ModelConfig, "encoders and heads")
    labelling: LabellingConfig = section(LabellingConfig, "self-labelling")
    contrast: ContrastConfig = section(ContrastConfig, "composed contrast")
    optim: OptimConfig = section(OptimConfig, "optimisation")
    launch: LaunchConfig = section(LaunchConfig, "where it runs, in how many processes")
    task: str = option(
        "selavi", "selavi: clusters; gdt: a representation by composed contrast; both: one pair of encoders for both",
        choices="selavi gdt both",
    )  # fmt: skip
    out: str = option(
        "runs/${data.name}_${task}_seed${seed}", "run folder; a run that stopped there goes on", path="new folder"
    )
    seed: int = option(0, "weights, shuffling and augmentation", minimum=0, maximum=MAX_SEED)
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    precision: str = option("auto", "auto is bfloat16 autocast on GPUs that have it", choices="auto float32 bfloat16")
    compile: bool = option(False, "compile the encoders (torch.compile): a slow first step, faster ones after it")
    workers: int = option(2, "decoding processes; 0 decodes in the training process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0 is the cores that decoding leaves", minimum=0, maximum=1024
    )
    log_steps: int = option(
        10, "training steps between two lines of metrics.jsonl", "steps", minimum=1, maximum=1_000_000
    )
    save_seconds: float = option(60.0, "least time between two checkpoints", "s", minimum=0, maximum=30 * DAY)
    wandb: str = option("", "project of Weights & Biases to send figures to; empty: none")

    @property
    def objectives(self) -> dict[str, float]:
        """The terms of the loss with their weights, in the order in which they are computed."""
        weights = {"contrast": self.contrast.weight, "labelling": self.labelling.weight}
        names = TASKS[self.task]
        return {name: weights[name] if len(names) > 1 else 1.0 for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what an earlier version queued: its options get their names of today."""
        from .from_file import from_plain
        from .renamed import translated_run

        queued = _plain(state)
        today = translated_run(queued)
        self.__dict__.update(state if today == queued else vars(from_plain(type(self), today, "a queued job")))


def _plain(value: Any) -> Any:
    """Nested mappings of what nested objects hold."""
    items = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    return value if items is None else {name: _plain(item) for name, item in items.items()}


@dataclass
class PlanConfig(TrainConfig):
    """avssl plan"""

    takes: ClassVar[type] = TrainConfig
    """Its options are this command's too."""

    out: str = option("", "folder for plan.json and plan.md, whose disk is timed; empty writes none", path="new folder")
    videos: int = option(
        0,
        "training videos; 0 is as many as the index has, and without an index they are needed",
        "videos",
        minimum=0,
        maximum=10_000_000_000,
    )
    gpu_speed: float = option(
        100.0,
        "assumed speed of one of the run's GPUs over this machine's, where no GPU is here",
        "x",
        minimum=0.001,
        maximum=100_000,
    )
    decode_ms: float = option(
        25.0, "assumed CPU time to decode a clip, without an index to measure it on", "ms", minimum=0, maximum=1_000_000
    )
    network_gbit: float = option(
        100.0, "assumed network of each machine, between nodes", "Gbit/s", minimum=0.001, maximum=100_000
    )
    read_mb: float = option(
        0.0, "assumed speed at which a machine reads; 0: reading is no limit", "MB/s", minimum=0, maximum=10_000_000
    )
    scaling: float = option(0.9, "assumed share of the speed that is left on several nodes", minimum=0.01, maximum=1)
