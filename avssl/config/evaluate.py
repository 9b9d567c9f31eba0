"""The options of `avssl evaluate`, with those of its finetuning."""

from dataclasses import dataclass
from typing import ClassVar

from .clip import FramesConfig
from .data import IndexedDataConfig
from .launch import PartsConfig, parts_section
from .model import trusted
from .optim import DescentConfig
from .option import DAY, MAX_SEED, device_option, json_option, option, other, section, threads_option, workers_option


@dataclass
class FinetuneConfig(DescentConfig, FramesConfig):
    """avssl evaluate tasks=[finetune]"""

    frames: int = other(
        FramesConfig, "frames", 32, "frames in a clip; 0: clips as the encoder was trained on", minimum=0
    )
    short_side_min: int = other(
        FramesConfig,
        "short_side_min",
        128,
        "smallest short side before the random crop; test clips have this short side",
    )
    crop: int = other(FramesConfig, "crop", 128)
    epochs: int = other(DescentConfig, "epochs", 12, "epochs; each makes clips_train passes over the training videos")
    batch: int = other(DescentConfig, "batch", 32, "clips per batch", unit="clips")
    momentum: float = other(DescentConfig, "momentum", 0.9, "momentum of SGD")
    weight_decay: float = other(DescentConfig, "weight_decay", 0.005)
    warmup_epochs: float = other(DescentConfig, "warmup_epochs", 2.0, "epochs of linear warm-up; 0: no warm-up")
    milestones: list[float] = other(
        DescentConfig, "milestones", [6.0, 10.0], "epochs at which the learning rates drop", empty=True
    )
    warmup_factor: float = option(8.0, "factor that the learning rates grow by during warm-up", minimum=1, maximum=1000)
    gamma: float = option(0.05, "factor on the learning rates at each milestone", minimum=0, maximum=1)
    lr_head: float = option(0.0025, "learning rate of the linear classifier", minimum=0, maximum=1000)
    lr_encoder: float = option(0.00025, "learning rate of the encoder", minimum=0, maximum=1000)
    dropout: float = option(0.0, "dropout before the linear classifier", minimum=0, maximum=0.95)
    clips_train: int = option(10, "random clips per training video and epoch", "clips", minimum=1, maximum=10_000)
    clips_test: int = option(
        10, "evenly spaced clips per test video; their predictions are averaged", "clips", minimum=1, maximum=1000
    )
    crops_test: int = option(
        3, "crops per test clip, along its longer side; their predictions are averaged", minimum=1, maximum=100
    )
    seed: int = option(
        0, "random seed of the classifier's weights, shuffling and augmentation", minimum=0, maximum=MAX_SEED
    )
    save_seconds: float = option(
        60.0,
        "shortest time between two checkpoints; an interruption loses at most about this much work",
        "s",
        minimum=0,
        maximum=30 * DAY,
    )


@dataclass
class EvaluateConfig:
    """avssl evaluate"""

    one_of: ClassVar[tuple[str, ...]] = ("run", "checkpoint", "features")
    """Options of which a user gives exactly one; on the command line, the newest run if none is given."""

    data: IndexedDataConfig = section(IndexedDataConfig, "the index to evaluate on; by default that of the run")
    run: str = option("", "run folder that `avssl train` wrote", path="run")
    checkpoint: str = option(
        "",
        "instead of run: one checkpoint of a run, or published weights (SeLaVi, GDT, R(2+1)D) by file or name",
        path="either",
    )
    features: str = option(
        "", "instead of run: a file of your own features, .parquet or .npz, with `path` and `features`", path="file"
    )
    tasks: list[str] = option(
        [],
        "clustering: the labels, and k-means of the features; retrieval: videos by videos; cross_modal: one modality "
        "by the other; few_shot, linear: classifiers on frozen features; knn: nearest neighbours of frozen features; "
        "robustness: clustering of degraded clips; finetune: train encoder and classifier on the classes. Empty: all "
        "but robustness and finetune",
        choices="clustering retrieval cross_modal few_shot knn linear robustness finetune",
    )
    folds: list[int] = option(
        [],
        "official folds to evaluate and average over, such as 1,2,3; empty: only the index in data.index",
        minimum=1,
        maximum=100,
        unique=True,
    )
    columns: list[str] = option(
        ["class"], "targets to evaluate against: class, or columns of the table `labels`", unique=True
    )
    labels: str | None = option(
        None, "CSV with the column path and a column per target; none: labels.csv in the folder of videos", path="file"
    )
    k: int = option(20, "number of neighbours that vote, for knn", minimum=1, maximum=100_000)
    temperature: float = option(
        0.07,
        "a neighbour's vote has the weight exp(cosine / temperature); 0: equal weights; for knn",
        minimum=0,
        maximum=1000,
    )
    shots: list[int] = option(
        [1, 5, 20], "labelled videos per class, for few_shot", "videos", minimum=1, maximum=1_000_000, unique=True
    )
    seeds: int = option(
        10, "number of random draws of the few-shot videos, and of random starts of k-means", minimum=1, maximum=10_000
    )
    clips: int = option(10, "clips per video, for retrieval", "clips", minimum=1, maximum=1000)
    finetune: FinetuneConfig = section(FinetuneConfig, "finetuning of an encoder and a classifier on the classes")
    random: bool = option(False, "evaluate the encoders with random weights, as a baseline")
    cache: str = option(
        "",
        "folder that stores features, so that repeating the command is quick; empty: <out>/features",
        path="new folder",
    )
    out: str = option(
        "",
        "folder for the results; empty: evaluate in the run's folder, or evaluate/<name of the file>",
        path="new folder",
    )
    trust: list[str] = trusted()
    device: str = device_option()
    workers: int = workers_option()
    threads: int = threads_option()
    json: bool = json_option()
    launch: PartsConfig = parts_section()
