"""The options of `avssl locate` and of `avssl detect`."""

from dataclasses import dataclass

from .model import trusted
from .option import MISSING, device_option, json_option, option, threads_option, workers_option


@dataclass
class LocateConfig:
    """avssl locate"""

    run: str = option(MISSING, "run folder that `avssl train` wrote", path="run")
    split: str = option("", "split to locate sounds in; empty: every split of the index")
    videos: str = option(
        "",
        "new videos in which to locate sounds: a folder or one file; empty: those of the run's index",
        path="either",
    )
    out: str = option(
        "${run}/locate",
        "folder for the boxes and the figures; for new videos, videos/NAME in it",
        path="new folder",
    )
    clips: int = option(
        1, "clips of each video, evenly spaced; 1: the one in the middle", "clips", minimum=1, maximum=1000
    )
    beta: float = option(
        0.3,
        "threshold of a box between the mean (0) and the maximum (1) of a heat map: its largest connected component "
        "above it becomes the box",
        minimum=0,
        maximum=0.999,
    )
    prior: str = option(
        "",
        "image encoder whose activation is mixed into the heat maps as an object prior, such as torchvision:resnet18 "
        "(EZ-VSL); empty: none",
    )
    prior_weight: float = option(0.6, "weight of the prior; the heat map has the rest", minimum=0, maximum=1)
    truth: str = option(
        "",
        "file of true boxes to measure against: boxes.csv of the sample, or the annotations of VGG-SS, "
        "Flickr-SoundNet, SLAVC, AVSBench or IS3; empty: the data folder's own boxes.csv, if there is one",
        path="either",
    )
    json: bool = json_option()
    trust: list[str] = trusted()
    device: str = device_option()
    workers: int = workers_option()
    threads: int = threads_option()


@dataclass
class DetectConfig:
    """avssl detect"""

    run: str = option(MISSING, "run folder that `avssl train` wrote", path="run")
    videos: str = option(
        "",
        "pictures or videos in which to find objects: a file or a folder; empty: only train the detector",
        path="either",
    )
    boxes: str = option(
        "",
        "boxes to train on; empty: those that `avssl locate` wrote for the run. A boxes.csv of the sample trains on "
        "true boxes and classes",
        path="file",
    )
    out: str = option("${run}/detector", "folder for the detector", path="new folder")
    detector: str = option(
        "faster_rcnn_small",
        "faster_rcnn_small: for CPUs; faster_rcnn_resnet50, fcos_resnet50: for GPUs",
        choices="faster_rcnn_small faster_rcnn_resnet50 fcos_resnet50",
    )
    steps: int = option(1000, "training steps", "steps", minimum=1, maximum=10_000_000)
    batch: int = option(8, "frames per training step", "frames", minimum=1, maximum=4096)
    lr: float = option(0.001, "largest learning rate of AdamW", minimum=1e-7, maximum=10)
    min_confidence: float = option(
        0.5, "train only on boxes whose cluster has at least this confidence", minimum=0, maximum=1
    )
    min_score: float = option(
        0.3, "report objects that the detector is at least this sure of", minimum=0.001, maximum=0.999
    )
    names: str = option(
        "", "names.json, downloaded from the page of clusters, for names in place of cluster numbers", path="file"
    )
    truth: str = option("", "file of true boxes to measure the detector against, as in avssl locate", path="either")
    onnx: bool = option(False, "also write the detector as ONNX, and check that its outputs are the same")
    seed: int = option(0, "random seed of the detector's weights and batches", minimum=0, maximum=2**32 - 1)
    json: bool = json_option()
    trust: list[str] = trusted()
    device: str = device_option()
    workers: int = workers_option()
    threads: int = threads_option()
