"""The options of `avssl evaluate` and of its finetuning."""

from dataclasses import dataclass
from typing import ClassVar

from .clip import FramesConfig
from .data import IndexedDataConfig
from .model import trusted
from .optim import DescentConfig
from .option import DAY, DEVICE, MAX_SEED, json_option, option, other, section


@dataclass
class FinetuneConfig(DescentConfig, FramesConfig):
    """avssl evaluate tasks=[finetune]"""

    frames: int = other(
        FramesConfig, "frames", 32, "frames in a clip; 0: clips as in the encoder's training", minimum=0
    )
    short_side_min: int = other(
        FramesConfig, "short_side_min", 128, "smallest short side before the random crop; test clips use it too"
    )
    crop: int = other(FramesConfig, "crop", 128)
    epochs: int = other(DescentConfig, "epochs", 12, "epochs; each has clips_train passes over the training videos")
    batch: int = other(DescentConfig, "batch", 32, "clips per batch", unit="clips")
    momentum: float = other(DescentConfig, "momentum", 0.9, "momentum of SGD")
    weight_decay: float = other(DescentConfig, "weight_decay", 0.005)
    warmup_epochs: float = other(
        DescentConfig, "warmup_epochs", 2.0, "epochs of linear warm-up; 0: the learning rates stay as they are"
    )
    milestones: list[float] = other(
        DescentConfig, "milestones", [6.0, 10.0], "epochs at which the learning rates drop", empty=True
    )
    warmup_factor: float = option(8.0, "factor on the learning rates at the end of warm-up", minimum=1, maximum=1000)
    gamma: float = option(0.05, "factor on the learning rates at each milestone", minimum=0, maximum=1)
    lr_head: float = option(0.0025, "learning rate of the linear classifier", minimum=0, maximum=1000)
    lr_encoder: float = option(0.00025, "learning rate of the encoder", minimum=0, maximum=1000)
    dropout: float = option(0.0, "dropout before the linear classifier", minimum=0, maximum=0.95)
    clips_train: int = option(10, "random clips of each training video in an epoch", "clips", minimum=1, maximum=10_000)
    clips_test: int = option(10, "evenly spaced clips of each test video", "clips", minimum=1, maximum=1000)
    crops_test: int = option(3, "crops of each test clip, along the longer side", minimum=1, maximum=100)
    seed: int = option(
        0, "random seed of the classifier's weights, shuffling and augmentation", minimum=0, maximum=MAX_SEED
    )
    save_seconds: float = option(60.0, "shortest time between two checkpoints", "s", minimum=0, maximum=30 * DAY)


@dataclass
class EvaluateConfig:
    """avssl evaluate"""

    one_of: ClassVar[tuple[str, ...]] = ("run", "checkpoint", "features")
    """Options of which a user gives exactly one; on the command line, the newest run without any."""

    data: IndexedDataConfig = section(IndexedDataConfig, "the index to evaluate on; none: the run's own")
    run: str = option("", "run folder of `avssl train`", path="run")
    checkpoint: str = option(
        "", "instead of run: a checkpoint of a run, or published weights (SeLaVi, GDT, R(2+1)D)", path="either"
    )
    features: str = option(
        "", "instead of run: a file of features, .parquet or .npz with `path` and `features`", path="file"
    )
    tasks: list[str] = option(
        [],
        "clustering: the labels, and k-means on features; retrieval: videos by videos; cross_modal: one modality by "
        "the other; few_shot, linear: classifiers on frozen features; knn: nearest neighbours of frozen features; "
        "robustness: clustering of degraded clips; finetune: encoder and classifier, trained with labels. Empty: all "
        "but robustness and finetune",
        choices="clustering retrieval cross_modal few_shot knn linear robustness finetune",
    )
    folds: list[int] = option(
        [],
        "official folds to evaluate and average over, as folds=[1,2,3]; empty: the index that data.index names",
        minimum=1,
        maximum=100,
        unique=True,
    )
    columns: list[str] = option(
        ["class"], "labels to evaluate against: class, or columns of the table `labels`", unique=True
    )
    labels: str | None = option(
        None, "CSV with the column path and label columns; none: labels.csv in the folder of videos", path="file"
    )
    k: int = option(20, "neighbours that vote, for knn", minimum=1, maximum=100_000)
    temperature: float = option(
        0.07,
        "for knn: a neighbour's vote has the weight exp(cosine / temperature); 0: equal weights",
        minimum=0,
        maximum=1000,
    )
    shots: list[int] = option(
        [1, 5, 20], "labelled videos of each class, for few_shot", "videos", minimum=1, maximum=1_000_000, unique=True
    )
    seeds: int = option(10, "random draws of few-shot videos, and random starts of k-means", minimum=1, maximum=10_000)
    clips: int = option(10, "clips of each video, for retrieval", "clips", minimum=1, maximum=1000)
    finetune: FinetuneConfig = section(FinetuneConfig, "finetuning of an encoder and a classifier, with labels")
    random: bool = option(False, "evaluate the encoders with their initial random weights, for comparison")
    cache: str = option(
        "",
        "folder that keeps features for later runs of the command; empty: <out>/features",
        path="new folder",
    )
    out: str = option(
        "", "folder to write; empty: evaluate in the run's folder, or evaluate/<name of the file>", path="new folder"
    )
    trust: list[str] = trusted()
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0: the cores that decoding leaves free", minimum=0, maximum=1024
    )
    json: bool = json_option()
