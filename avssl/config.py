"""Every option of every command: its meaning, unit and default, in one place.

The dataclasses are Hydra's schema: a key that is not here, or a value of another type, is refused. `option(...)`
carries the line that `avssl <command> --help` prints.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


def option(default: Any, text: str, unit: str = "") -> Any:
    """A dataclass field with a help line and a unit."""
    return field(default=default, metadata={"help": text, "unit": unit})


def section(kind: type, text: str) -> Any:
    """A nested dataclass with a heading in the help."""
    return field(default_factory=kind, metadata={"help": text})


@dataclass
class DataConfig:
    root: str = option(MISSING, "folder of videos: {split}/{class}/{video}, {class}/{video}, or {video} at any depth")
    name: str = option("${basename:${data.root}}", "name of the data set, used in output folders")
    index: str = option("index/${data.name}", "folder that `avssl index` writes and the other commands read")
    layout: str = option("auto", "auto | split_class | class | flat: what the folders below the root mean")
    extensions: list[str] = field(
        default_factory=lambda: ["mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "ts", "flv", "3gp", "wmv"],
        metadata={"help": "files with these endings are videos", "unit": ""},
    )
    window_seconds: float | None = option(None, "cut each video into windows this long, each a training item", "s")
    min_seconds: float = option(1.0, "videos (and windows) shorter than this are rejected", "s")
    silence_db: float = option(-60.0, "videos whose sound never exceeds this RMS level are rejected", "dBFS")
    probe_timeout: float = option(20.0, "a file that takes longer than this to probe is rejected", "s")
    train_split: str = option("train", "split to train on; all videos when the data has no such split")
    test_split: str = option("test", "split to report on; the training split when the data has no such split")


@dataclass
class ClipConfig:
    frames: int = option(30, "frames in a clip")
    fps: float = option(30.0, "frames per second, whatever the source's rate", "1/s")
    short_side_min: int = option(128, "short side before the crop, smallest; also the one used in evaluation", "px")
    short_side_max: int = option(160, "short side before the crop, largest", "px")
    crop: int = option(112, "side of the square crop", "px")
    flip: bool = option(True, "random horizontal flip in training")
    color_jitter: float = option(0.0, "strength of brightness, contrast and saturation jitter in training")
    mean: float = option(0.45, "subtracted from pixels in [0, 1]")
    std: float = option(0.225, "pixels are divided by this after the mean is subtracted")
    audio_rate: int = option(24000, "sampling rate that sound is resampled to, mono", "Hz")
    audio_seconds: float = option(1.0, "sound in a clip, from the clip's start", "s")
    spectrogram: str = option("logmel", "logmel")
    mels: int = option(80, "mel bands")
    window_ms: float = option(20.0, "analysis window", "ms")
    hop_ms: float = option(10.0, "hop between windows", "ms")
    volume_jitter: float = option(0.1, "sound is scaled by 1 ± this in training")
    freq_mask: int = option(0, "widest SpecAugment mask over mel bands in training", "bands")
    time_mask: int = option(0, "widest SpecAugment mask over time in training", "frames")


@dataclass
class ModelConfig:
    video: str = option("r2plus1d_18", "r2plus1d_18 | r2plus1d_34 | tiny: the video encoder")
    audio: str = option("resnet9", "resnet9 | resnet18 | tiny: the sound encoder")
    hidden: int = option(512, "width of the hidden layer of the MLP heads")
    dropout: float = option(0.3, "dropout in the MLP heads")


@dataclass
class LabellingConfig:
    clusters: int = option(10, "clusters, K")
    heads: int = option(1, "heads, H: independent labellings that share the encoders")
    sharing: str = option("shared", "shared: one head serves both modalities | per_modality: one each")
    mode: str = option("offline", "offline: solve over the whole data set at scheduled steps")
    solves: int = option(100, "labellings in the whole training")
    exponent: float = option(1.5, "labelling i of S happens at step T (i / (S - 1)) ** exponent")
    warmup_batches: int = option(20, "batches that set the batch-norm statistics before the first labelling")
    lam: float = option(20.0, "lambda: sharpness of the transport problem; the plan is exp(lambda / 2 * log p)")
    marginal: str = option("uniform", "uniform | zipf: the cluster sizes asked for")
    zipf_exponent: float = option(1.0, "s in r_k ~ k ** -s, for marginal=zipf")
    tolerance: float = option(0.1, "stop when sum_n |beta_n / beta_n_new - 1| falls below this")
    max_iterations: int = option(2000, "stop the solver after this many iterations")


@dataclass
class OptimConfig:
    epochs: int = option(200, "passes over the training videos")
    batch: int = option(16, "videos per batch and process")
    lr: float = option(0.01, "learning rate at the start of warm-up; times the number of processes after it")
    warmup_epochs: float = option(10.0, "epochs of linear warm-up", "epochs")
    schedule: str = option("constant", "constant | cosine: learning rate after warm-up")
    optimizer: str = option("sgd", "sgd | adamw")
    momentum: float = option(0.9, "momentum, for sgd")
    weight_decay: float = option(1e-5, "weight decay")


@dataclass
class SampleConfig:
    """avssl sample"""

    out: str = option("sample", "folder to write")
    seed: int = option(0, "the same seed makes the same videos")
    classes: int = option(10, "classes, 2 to 10")
    train: int = option(60, "training videos per class")
    test: int = option(20, "test videos per class")
    size: int = option(64, "width and height", "px")
    fps: float = option(15.0, "frames per second of the files", "1/s")
    min_seconds: float = option(1.5, "shortest video", "s")
    max_seconds: float = option(2.0, "longest video", "s")
    audio_rate: int = option(24000, "sampling rate of the files", "Hz")
    longtail: float = option(0.0, "class sizes fall as rank ** -this; 0 is balanced")
    ambiguous: bool = option(
        False, "pairs of classes share a sound, others share a digit: both modalities are needed to tell them apart"
    )
    direction: bool = option(False, "digits rise or fall, and their pitch with them; the direction is a second label")
    voices: str | None = option(None, "folder of <digit>_<voice>.wav files: spoken digits instead of synthesised sound")
    workers: int = option(0, "processes; 0 is one per core")


@dataclass
class IndexConfig:
    """avssl index"""

    data: DataConfig = section(DataConfig, "the videos")
    workers: int = option(0, "processes; 0 is one per core")


@dataclass
class TrainConfig:
    """avssl train"""

    data: DataConfig = section(DataConfig, "the videos")
    clip: ClipConfig = section(ClipConfig, "what a clip is")
    model: ModelConfig = section(ModelConfig, "encoders and heads")
    labelling: LabellingConfig = section(LabellingConfig, "self-labelling")
    optim: OptimConfig = section(OptimConfig, "optimisation")
    task: str = option("selavi", "selavi: what is learnt")
    out: str = option("runs/${data.name}_${task}_seed${seed}", "run folder; a run that stopped there goes on")
    seed: int = option(0, "weights, shuffling and augmentation")
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps")
    precision: str = option("auto", "auto | float32 | bfloat16: auto is bfloat16 autocast on GPUs that have it")
    workers: int = option(2, "decoding processes; 0 decodes in the training process")
    save_seconds: float = option(60.0, "least time between two checkpoints", "s")


@dataclass
class ClustersConfig:
    """avssl clusters"""

    run: str = option(MISSING, "run folder of `avssl train`")
    split: str = option("", "split to label; empty is every split of the index")
    data: DataConfig | None = field(default=None, metadata={"help": "other videos than the run's", "unit": ""})
    out: str = option("${run}/clusters", "folder to write")
    thumbnails: int = option(8, "thumbnails per cluster on the page")
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps")
    workers: int = option(2, "decoding processes; 0 decodes in this process")
