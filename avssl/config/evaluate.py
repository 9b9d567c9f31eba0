"""Protocols."""

from dataclasses import dataclass

from .data import EvaluatedDataConfig
from .option import DAY, DEVICE, MAX_SEED, option, section


@dataclass
class FinetuneConfig:
    """avssl evaluate task=finetune"""

    frames: int = option(
        32, "frames in a clip; 0: the clips that the encoder was trained on", "frames", minimum=0, maximum=1024
    )
    fps: float = option(30.0, "frames per second, whatever the source's rate", "1/s", minimum=0.1, maximum=1000)
    short_side_min: int = option(
        128, "short side before the crop, smallest; also the one of the test", "px", minimum=1, maximum=4096
    )
    short_side_max: int = option(160, "short side before the crop, largest", "px", minimum=1, maximum=4096)
    crop: int = option(128, "side of the square crop", "px", minimum=1, maximum=4096)
    flip: bool = option(True, "random horizontal flip in training")
    color_jitter: float = option(
        0.0, "strength of brightness, contrast and saturation jitter in training", minimum=0, maximum=1
    )
    clips_train: int = option(10, "random clips of each training video in an epoch", "clips", minimum=1, maximum=10_000)
    clips_test: int = option(10, "clips of each test video, evenly apart", "clips", minimum=1, maximum=1000)
    crops_test: int = option(3, "crops of each of those, along the longer side", minimum=1, maximum=100)
    epochs: int = option(
        12, "epochs, each of clips_train passes over the training videos", "epochs", minimum=1, maximum=100_000
    )
    batch: int = option(32, "clips per batch", "clips", minimum=1, maximum=65_536)
    lr_head: float = option(0.0025, "learning rate of the linear classifier", minimum=0, maximum=1000)
    lr_encoder: float = option(0.00025, "learning rate of the encoder", minimum=0, maximum=1000)
    momentum: float = option(0.9, "momentum of SGD", minimum=0, maximum=0.9999)
    weight_decay: float = option(0.005, "weight decay", minimum=0, maximum=100)
    warmup_epochs: int = option(
        2, "epochs of linear warm-up; 0 leaves the learning rates as they are", "epochs", minimum=0, maximum=100_000
    )
    warmup_factor: float = option(
        8.0, "what the warm-up multiplies the learning rates by, in the end", minimum=1, maximum=1000
    )
    milestones: list[int] = option(
        [6, 10], "epochs at which the learning rates drop", "epochs", minimum=0, maximum=100_000, empty=True
    )
    gamma: float = option(0.05, "what they are multiplied by there", minimum=0, maximum=1)
    dropout: float = option(0.0, "dropout before the linear classifier", minimum=0, maximum=0.95)
    seed: int = option(0, "the classifier's weights, shuffling and augmentation", minimum=0, maximum=MAX_SEED)
    save_seconds: float = option(60.0, "least time between two checkpoints", "s", minimum=0, maximum=30 * DAY)


@dataclass
class EvaluateConfig:
    """avssl evaluate"""

    data: EvaluatedDataConfig = section(EvaluatedDataConfig, "the videos to evaluate on")
    run: str = option("", "run folder of `avssl train`", path="run")
    checkpoint: str = option(
        "", "or a checkpoint: of a run, or published (SeLaVi, GDT, torchvision's R(2+1)D)", path="either"
    )
    features: str = option("", "or a file of features: .parquet or .npz with `path` and `features`", path="file")
    task: str = option(
        "all",
        "clustering: the labels, and k-means on features; retrieval: videos by videos; cross_modal: one modality by "
        "the other; few_shot, linear: classifiers on frozen features; knn: their nearest neighbours; robustness: "
        "clustering of degraded clips; finetune: training on, with labels. all is every one but the last two",
        choices="all clustering retrieval cross_modal few_shot knn linear robustness finetune",
    )
    tasks: list[str] = option(
        [],
        "or several of them, as tasks=[linear,knn]",
        choices="clustering retrieval cross_modal few_shot knn linear robustness finetune",
    )
    folds: list[int] = option(
        [],
        "official folds, and their mean, as folds=[1,2,3]; empty is data.fold alone",
        minimum=1,
        maximum=100,
        unique=True,
    )
    columns: list[str] = option(
        ["class"], "labels to evaluate against: class, or columns of the table `labels`", unique=True
    )
    labels: str | None = option(
        None, "CSV with the columns path and others; none is labels.csv in the data's root", path="file"
    )
    k: int = option(20, "neighbours, for knn", minimum=1, maximum=100_000)
    temperature: float = option(
        0.07, "each neighbour's vote weighs exp(cosine / this), for knn; 0: all weigh the same", minimum=0, maximum=1000
    )
    shots: list[int] = option(
        [1, 5, 20], "labelled videos of each class, for few_shot", "videos", minimum=1, maximum=1_000_000, unique=True
    )
    seeds: int = option(10, "draws of few-shot videos, and starts of k-means", minimum=1, maximum=10_000)
    clips: int = option(10, "clips of each video, for retrieval", "clips", minimum=1, maximum=1000)
    finetune: FinetuneConfig = section(FinetuneConfig, "training on, with labels")
    random: bool = option(False, "evaluate the encoders before training, for comparison")
    cache: str = option(
        "",
        "folder that keeps features, found again by weights, videos and clips; empty is <out>/features",
        path="new folder",
    )
    out: str = option(
        "", "folder to write; empty is evaluate in the run's folder, or evaluate/<name of the file>", path="new folder"
    )
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0 is the cores that decoding leaves", minimum=0, maximum=1024
    )
