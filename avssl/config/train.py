"""The options of `avssl train` and of `avssl plan`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .clip import ClipConfig
from .contrast import ContrastConfig
from .crops import CropsConfig
from .data import TrainedDataConfig
from .distillation import DistillationConfig
from .jepa import JepaConfig
from .labelling import LabellingConfig
from .launch import LaunchConfig
from .localisation import LocalisationConfig
from .loss import AXIS_OF_TERM, LossConfig
from .model import ModelConfig
from .monitor import MonitorConfig
from .optim import OptimConfig
from .option import DAY, MAX_SEED, device_option, json_option, option, section, threads_option, workers_option
from .teacher import TeacherConfig

TASKS: dict[str, tuple[str, ...]] = {
    "selavi": ("labelling",),
    "gdt": ("contrast",),
    "both": ("contrast", "labelling"),
    "none": (),
}
"""The objectives of each task that have a weight of 1 unless `loss.*` says otherwise."""

OBJECTIVES = "contrast", "labelling", "prediction", "distillation", "jepa", "localisation"
"""All objectives, in the order of computation."""

OF_AXES = {"contrast", "distillation", "jepa"}
"""The objectives whose clips differ along the axes that are distinct or invariant."""

CUSTOM_PREDICTED = ":predicted"
"""The end of an axis in `contrast.custom_axes` whose levels are predicted."""


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
    loss: LossConfig = section(
        LossConfig, "the terms of the loss and their weights, such as loss.contrast=1 loss.rotation=0.1; none or 0: off"
    )
    distillation: DistillationConfig = section(
        DistillationConfig, "prototypes of a video's other views as targets (SwAV, DINO)"
    )
    jepa: JepaConfig = section(JepaConfig, "embeddings of a video's other views as targets, without a teacher (LeJEPA)")
    localisation: LocalisationConfig = section(LocalisationConfig, "where in the frames the sound is (EZ-VSL, LVS)")
    teacher: TeacherConfig = section(TeacherConfig, "the slow copy of the model that gives targets (MoCo, PCL, DINO)")
    crops: CropsConfig = section(CropsConfig, "small clips beside the whole ones (multi-crop)")
    optim: OptimConfig = section(OptimConfig, "length of the run, batch, optimiser, learning rates")
    monitor: MonitorConfig = section(MonitorConfig, "held-out videos that show whether features collapse")
    launch: LaunchConfig = section(
        LaunchConfig, "where the run computes: this machine or a SLURM cluster, and the number of processes"
    )
    task: str = option(
        "selavi",
        "selavi: learn clusters; gdt: learn a representation by contrast; both: train one pair of encoders with both "
        "losses; none: only what has a weight in loss.*",
        choices="selavi gdt both none",
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
        """The objectives of the run with their weights, in the order of computation."""
        weights = {name: getattr(self.loss, name) for name in OBJECTIVES}
        weights |= {name: 1.0 for name in TASKS[self.task] if weights[name] is None}
        weights["prediction"] = 1.0 if self.predicted else 0.0  # its terms have weights of their own
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def predicted(self) -> dict[str, float]:
        """The weight of each predicted axis, by its name, or as it is in `contrast.custom_axes`."""
        roles, weights = vars(self.contrast.axes), {}
        for term, axis in AXIS_OF_TERM.items():
            weight = getattr(self.loss, term)
            weights[axis] = (1.0 if roles[axis] == "predicted" else 0.0) if weight is None else weight
        own = 1.0 if self.loss.prediction is None else self.loss.prediction
        weights |= {text: own for text in self.contrast.custom_axes if text.endswith(CUSTOM_PREDICTED)}
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def modalities(self) -> list[str]:
        """The modalities that the run encodes."""
        return self.labelling.modalities if "labelling" in self.objectives else self.contrast.modalities

    @property
    def has_clusters(self) -> bool:
        """Whether the run learns clusters: by self-labelling, or as the prototypes of distillation."""
        return bool(self.objectives.keys() & {"labelling", "distillation"})

    @property
    def has_teacher(self) -> bool:
        """Whether an objective has targets of a slow copy of the model."""
        objectives = self.objectives
        return ("contrast" in objectives and self.contrast.keys == "queue") or (
            "distillation" in objectives and self.distillation.teacher
        )

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
