"""Every option of every command: its meaning, unit and default, in one place.

The dataclasses are Hydra's schema: a key that is not here, or a value of another type, is refused. `option(...)`
carries the line that `avssl <command> --help` prints.
"""

from dataclasses import dataclass

from omegaconf import MISSING

from .contrast.config import ContrastConfig
from .data.datasets import DatasetCard
from .options import DAY, DEVICE, MAX_SEED, description, option, section


@dataclass
class DataConfig:
    root: str = option(
        MISSING, "folder of videos: {split}/{class}/{video}, {class}/{video}, or {video} at any depth", path="folder"
    )
    name: str = option("${basename:${data.root}}", "name of the data set, used in output folders")
    index: str = option(
        "index/${data.name}", "folder that `avssl index` writes and the other commands read", path="folder"
    )
    layout: str = option("auto", "what the folders below the root mean", choices="auto split_class class flat")
    storage: str = option(
        "auto", "files below the root, or members of the tar files that `avssl shard` wrote there",
        choices="auto files tar",
    )  # fmt: skip
    extensions: list[str] = option(
        ["mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "ts", "flv", "3gp", "wmv"],
        "files with these endings are videos",
        unique=True,
    )
    window_seconds: float | None = option(
        None, "cut each video into windows this long, each a training item", "s", minimum=0.01, maximum=DAY
    )
    min_seconds: float = option(1.0, "videos (and windows) shorter than this are rejected", "s", minimum=0, maximum=DAY)
    silence_db: float = option(
        -60.0, "videos whose sound never exceeds this RMS level are rejected", "dBFS", minimum=-200, maximum=0
    )
    probe_timeout: float = option(
        20.0, "a file that takes longer than this to probe is rejected", "s", minimum=0.1, maximum=DAY
    )
    train_split: str = option("train", "split to train on; all videos where there are no splits")
    test_split: str = option(
        "test", "split to report on; without it the validation split, and the training split without that too"
    )
    annotations: str | None = option(
        None,
        "the data set's official split files, their folder or one file; none is splits and classes by folders alone",
        path="either",
    )
    format: str = option(
        "none", "what the split files look like; data=<the data set> sets it",
        choices="none ucf101 hmdb51 vggsound kinetics ave audioset",
    )  # fmt: skip
    fold: int = option(1, "which of the official splits, for data=ucf101 and data=hmdb51", minimum=1, maximum=100)
    trimmed: str = option(
        "auto",
        "are files cut to their annotated stretch? auto: told by name and length; never: all are whole videos",
        choices="auto always never",
    )
    keep_classes: list[str] = option([], "index these classes alone; none is all", unique=True)
    require_sound: bool = option(True, "reject videos without sound, or silent ones; false is for video encoders alone")
    card: DatasetCard = description(DatasetCard)


@dataclass
class ClipConfig:
    frames: int = option(30, "frames in a clip", "frames", minimum=1, maximum=1024)
    fps: float = option(30.0, "frames per second, whatever the source's rate", "1/s", minimum=0.1, maximum=1000)
    short_side_min: int = option(
        128,
        "short side before the crop, smallest; also the one used in evaluation, unless short_side_eval is set",
        "px",
        minimum=1,
        maximum=4096,
    )
    short_side_max: int = option(160, "short side before the crop, largest", "px", minimum=1, maximum=4096)
    short_side_eval: int = option(
        0,
        "short side before the crop in evaluation; 0 is short_side_min; SeLaVi's released code: 112",
        "px",
        minimum=0,
        maximum=4096,
    )
    retrieval_frames: int = option(
        0,
        "frames in a clip, for retrieval; 0 is frames; SeLaVi's released code: 32",
        "frames",
        minimum=0,
        maximum=1024,
    )
    crop: int = option(112, "side of the square crop", "px", minimum=1, maximum=4096)
    flip: bool = option(True, "random horizontal flip in training")
    color_jitter: float = option(
        0.0, "strength of brightness, contrast and saturation jitter in training", minimum=0, maximum=1
    )
    mean: float = option(0.45, "subtracted from pixels in [0, 1]", minimum=0, maximum=1)
    std: float = option(0.225, "pixels are divided by this after the mean is subtracted", minimum=0.001, maximum=10)
    audio_rate: int = option(
        24000, "sampling rate that sound is resampled to, mono", "Hz", minimum=100, maximum=192_000
    )
    audio_seconds: float = option(1.0, "sound in a clip, from the clip's start", "s", minimum=0.05, maximum=600)
    spectrogram: str = option(
        "logmel",
        "logmel: standardised per clip; logfbank: SeLaVi's and GDT's, by audio_mean and audio_std",
        choices="logmel logfbank",
    )
    audio_mean: float = option(
        0.0, "subtracted from the spectrogram, for logfbank; 1.93 in GDT", minimum=-1000, maximum=1000
    )
    audio_std: float = option(
        1.0,
        "the spectrogram less audio_mean is divided by this, for logfbank; 17.89 in GDT",
        minimum=0.001,
        maximum=1000,
    )
    mels: int = option(80, "mel bands", "bands", minimum=1, maximum=1024)
    window_ms: float = option(20.0, "analysis window", "ms", minimum=1, maximum=1000)
    hop_ms: float = option(10.0, "hop between windows", "ms", minimum=1, maximum=1000)
    volume_jitter: float = option(0.1, "sound is scaled by 1 ± this in training", minimum=0, maximum=1)
    freq_mask: int = option(0, "widest SpecAugment mask over mel bands in training", "bands", minimum=0, maximum=1024)
    time_mask: int = option(0, "widest SpecAugment mask over time in training", "frames", minimum=0, maximum=100_000)
    decoder: str = option(
        "auto",
        "what decodes the pictures; auto is pyav; the others are extras: pip install 'avssl[torchcodec]'",
        choices="auto pyav torchcodec decord",
    )
    keep_mb: float = option(
        0.0,
        "decoded videos that each decoding process keeps in memory, so as not to decode them again: for small files; "
        "with clip.decoder=pyav",
        "MB",
        minimum=0,
        maximum=1_000_000,
    )
    timeout: float = option(
        60.0, "a video that takes longer than this to decode counts as damaged", "s", minimum=0.1, maximum=DAY
    )


@dataclass
class ModelConfig:
    video: str = option("r2plus1d_18", "the video encoder", choices="r2plus1d_18 r2plus1d_34 tiny")
    audio: str = option("resnet9", "the sound encoder", choices="resnet9 resnet18 tiny")
    hidden: int = option(512, "width of the hidden layer of the MLP heads", "units", minimum=1, maximum=65_536)
    dropout: float = option(0.3, "dropout in the MLP heads", minimum=0, maximum=0.95)


@dataclass
class LabellingConfig:
    clusters: int = option(10, "clusters, K", minimum=1, maximum=1_000_000)
    heads: int = option(1, "heads, H: independent labellings that share the encoders", minimum=1, maximum=1000)
    sharing: str = option(
        "shared",
        "shared: one head serves both modalities; per_modality: one each; concat: one over both side by side, which "
        "labels no modality alone",
        choices="shared per_modality concat",
    )
    align: bool = option(True, "for per_modality: permute the sound heads to agree before the first labelling")
    groups: int = option(
        1, "heads are split into as many groups, each labelled from its own augmented pass", minimum=1, maximum=1000
    )
    shuffle_groups: bool = option(
        False, "draw again at each labelling which heads form a group, as SeLaVi's released code does"
    )
    modalities: list[str] = option(
        ["video", "audio"],
        "what labels are found from and trained: one of them is SeLa",
        choices="video audio",
        unique=True,
    )
    method: str = option(
        "transport", "transport: SeLaVi; kmeans: DeepCluster; xdc: each modality learns the other's k-means clusters",
        choices="transport kmeans xdc",
    )  # fmt: skip
    mode: str = option(
        "offline",
        "offline: solve over the whole data set, from passes over it; bank: from features remembered of training; "
        "batch: solve over each batch and a queue of past ones",
        choices="offline bank batch",
    )
    queue: int = option(
        512, "past videos solved with each batch, for mode=batch", "videos", minimum=0, maximum=1_000_000
    )
    memory: str = option(
        "full", "full: keeps a head's evidence, N x K, while it is solved; stream: computes it anew in every pass",
        choices="full stream",
    )  # fmt: skip
    solves: int = option(100, "labellings in the whole training", minimum=1, maximum=100_000)
    exponent: float = option(
        1.5, "labelling i of S happens at step T (i / (S - 1)) ** exponent", minimum=0, maximum=100
    )
    label_at_end: bool = option(
        True, "label once more after the last step; false leaves that labelling out, as SeLaVi's released code does"
    )
    normalise_logits: bool = option(
        False, "the training loss sees logits of unit length, as in SeLaVi's released code; labels are found without"
    )
    warmup_batches: int = option(
        20,
        "batches that set the batch-norm statistics before the first labelling; one pass over the data at most",
        "batches",
        minimum=0,
        maximum=1_000_000,
    )
    lam: float = option(
        20.0,
        "lambda: sharpness of the transport problem; the plan is exp(lambda / 2 * log p)",
        minimum=0.001,
        maximum=10_000,
    )
    marginal: str = option(
        "uniform",
        "the cluster sizes asked for; the solver pairs the largest with the largest cluster",
        choices="uniform gaussian zipf exponential given empirical",
    )
    sigma: float = option(
        0.1, "standard deviation of the sizes over their mean, for marginal=gaussian", minimum=0, maximum=10
    )
    zipf_exponent: float = option(1.0, "s in r_k ~ k ** -s, for marginal=zipf", minimum=0, maximum=10)
    exponential_scale: float = option(
        0.0,
        "tau in r_k ~ exp(-k / tau), for marginal=exponential; 0 is a third of the clusters",
        "clusters",
        minimum=0,
        maximum=1_000_000,
    )
    sizes: list[float] = option(
        [],
        "one size a cluster, counts or masses in any order, for marginal=given",
        minimum=0,
        maximum=1_000_000_000_000_000,
    )
    sizes_file: str | None = option(
        None, "file of the same: one number a line (text or .csv), or a .npy vector, for marginal=given", path="file"
    )
    empirical_floor: float = option(
        0.1,
        "least size over the mean, at most 1, for marginal=empirical: the sizes that the model finds",
        minimum=0,
        maximum=1,
    )
    weight: float = option(1.0, "weight of the labelling's loss, for task=both", minimum=0, maximum=1000)
    tolerance: float = option(
        0.1, "stop when sum_n |beta_n / beta_n_new - 1| is sure to be below this", minimum=0, maximum=1_000_000
    )
    max_iterations: int = option(
        500, "stop the solver after this many passes over the data", minimum=1, maximum=1_000_000
    )


@dataclass
class OptimConfig:
    epochs: int = option(200, "passes over the training videos", "epochs", minimum=1, maximum=100_000)
    batch: int = option(16, "videos per batch and process", "videos", minimum=1, maximum=65_536)
    lr: float = option(0.01, "learning rate at the start of warm-up", minimum=0, maximum=1000)
    scale_lr: bool = option(True, "is the learning rate after warm-up times the number of processes?")
    warmup_epochs: float = option(10.0, "epochs of linear warm-up", "epochs", minimum=0, maximum=100_000)
    schedule: str = option("constant", "learning rate after warm-up", choices="constant cosine")
    optimizer: str = option("sgd", "optimiser", choices="sgd adamw lars")
    momentum: float = option(0.9, "momentum, for sgd and lars", minimum=0, maximum=0.9999)
    weight_decay: float = option(1e-5, "weight decay", minimum=0, maximum=100)
    milestones: list[float] = option(
        [], "epochs at which the learning rate drops to a tenth", "epochs", minimum=0, maximum=100_000
    )
    accumulate: int = option(
        1,
        "batches whose gradients are summed up for one step; contrast sees each apart",
        "batches",
        minimum=1,
        maximum=65_536,
    )
    clip: float = option(0.0, "gradients are scaled down to this norm; 0 leaves them", minimum=0, maximum=1_000_000)


@dataclass
class LaunchConfig:
    where: str = option(
        "local", "local: on this machine; slurm: submitted by sbatch; launch=local and launch=slurm set it",
        choices="local slurm",
    )  # fmt: skip
    processes: int = option(
        0,
        "training processes on each machine; 0 is one per GPU for launch=slurm, and one for launch=local",
        minimum=0,
        maximum=1024,
    )
    timeout: float = option(
        600.0, "a process that the others wait for longer than this ends the training", "s", minimum=1, maximum=30 * DAY
    )
    nodes: int = option(1, "machines, for launch=slurm", minimum=1, maximum=10_000)
    gpus: int = option(8, "GPUs on each machine, for launch=slurm; 0 trains on CPUs", minimum=0, maximum=64)
    cpus: int = option(8, "cores of each process, for launch=slurm", minimum=1, maximum=1024)
    memory_gb: float = option(
        0.0, "memory of each machine, for launch=slurm; 0 is the partition's default", "GB", minimum=0, maximum=100_000
    )
    partition: str = option("", "SLURM partition; empty is the cluster's default")
    account: str = option("", "SLURM account")
    qos: str = option("", "SLURM quality of service")
    constraint: str = option("", "features that SLURM's nodes must have")
    minutes: int = option(
        1440,
        "time limit of a job, for launch=slurm; a training that needs longer is requeued",
        "min",
        minimum=1,
        maximum=525_600,
    )
    warn_seconds: int = option(
        120,
        "how long before its time limit a job is told to save and requeue, for launch=slurm",
        "s",
        minimum=10,
        maximum=DAY,
    )
    restarts: int = option(
        3,
        "times in a row that a job which failed is requeued without a checkpoint in between, for launch=slurm",
        minimum=0,
        maximum=1000,
    )
    setup: list[str] = option([], "shell lines before the training, for launch=slurm, as 'module load cuda'")
    sbatch: list[str] = option([], "further options of sbatch, for launch=slurm, as [exclusive,'mail-type=END']")
    dry: bool = option(False, "print what sbatch would be given, for launch=slurm, and submit nothing")


@dataclass
class SampleConfig:
    """avssl sample"""

    out: str = option("sample", "folder to write", path="new folder")
    seed: int = option(0, "the same seed makes the same videos", minimum=0, maximum=MAX_SEED)
    classes: int = option(10, "classes, 2 to 10", minimum=2, maximum=10)
    train: int = option(80, "training videos per class", "videos", minimum=1, maximum=10_000)
    test: int = option(30, "test videos per class", "videos", minimum=0, maximum=10_000)
    size: int = option(64, "width and height", "px", minimum=32, maximum=1024)
    fps: float = option(15.0, "frames per second of the files", "1/s", minimum=1, maximum=120)
    min_seconds: float = option(1.5, "shortest video", "s", minimum=0.1, maximum=60)
    max_seconds: float = option(2.0, "longest video", "s", minimum=0.1, maximum=60)
    audio_rate: int = option(24000, "sampling rate of the files", "Hz", minimum=8000, maximum=48_000)
    longtail: float = option(0.0, "class sizes fall as rank ** -this; 0 is balanced", minimum=0, maximum=10)
    ambiguous: bool = option(
        False, "pairs of classes share a sound, others share a digit: both modalities are needed to tell them apart"
    )
    direction: bool = option(False, "digits rise or fall, and their pitch with them; the direction is a second label")
    voices: str | None = option(
        None, "folder of <digit>_<voice>.wav files: spoken digits instead of synthesised sound", path="folder"
    )
    workers: int = option(0, "processes; 0 is one per core", minimum=0, maximum=1024)


@dataclass
class IndexConfig:
    """avssl index"""

    data: DataConfig = section(DataConfig, "the videos")
    clip_seconds: float = option(
        1.0,
        "length of a clip: videos shorter than two of them are counted, for distinct time shifts",
        "s",
        minimum=0,
        maximum=DAY,
    )
    workers: int = option(0, "processes; 0 is one per core", minimum=0, maximum=1024)


@dataclass
class PrepareConfig:
    """avssl prepare"""

    data: DataConfig = section(DataConfig, "the videos")
    out: str = option("prepared/${data.name}", "folder to write; a run that stopped there goes on", path="new folder")
    short_side: int = option(
        160, "pictures are scaled down to this short side, never up", "px", minimum=16, maximum=4096
    )
    gop: int = option(
        12, "frames from one key frame to the next: what a seek decodes at most", "frames", minimum=1, maximum=10_000
    )
    crf: int = option(23, "quality of the picture: 0 is lossless, 51 the worst", minimum=0, maximum=51)
    audio_rate: int = option(24000, "sampling rate of the sound, mono", "Hz", minimum=7350, maximum=96_000)
    audio_bitrate: int = option(64000, "bit rate of the sound (AAC)", "bit/s", minimum=8000, maximum=512_000)
    patience: float = option(
        20.0,
        "a file that takes longer than a minute and this many times its duration is given up",
        minimum=0,
        maximum=10_000,
    )
    overwrite: bool = option(False, "write again what is there, as after other options")
    workers: int = option(0, "processes; 0 is one per core", minimum=0, maximum=1024)


@dataclass
class ShardConfig:
    """avssl shard"""

    data: DataConfig = section(DataConfig, "the videos, as `avssl prepare` wrote them or any others")
    out: str = option("shards/${data.name}", "folder to write; a run that stopped there goes on", path="new folder")
    shard_mb: float = option(
        512.0, "a shard is begun when the last one has this size", "MB", minimum=0.001, maximum=1_000_000
    )
    seed: int = option(0, "the order of the videos within a split", minimum=0, maximum=MAX_SEED)


@dataclass
class TrainConfig:
    """avssl train"""

    data: DataConfig = section(DataConfig, "the videos")
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


@dataclass
class PlannedDataConfig(DataConfig):
    root: str = option("", "folder of videos; empty is the one that the index was made of", path="folder")


@dataclass
class PlannedLaunchConfig(LaunchConfig):
    gpus: int = option(
        -1, "GPUs on each machine; 0 trains on CPUs; -1 is 8 for launch=slurm or several nodes, else what is here",
        minimum=-1, maximum=64,
    )  # fmt: skip


@dataclass
class PlanConfig(TrainConfig):
    """avssl plan"""

    data: PlannedDataConfig = section(PlannedDataConfig, "the videos")
    launch: PlannedLaunchConfig = section(PlannedLaunchConfig, "where it is to run, in how many processes")
    out: str = option("", "folder for plan.json and plan.md, whose disk is timed; empty writes none", path="new folder")
    videos: int = option(
        0,
        "training videos; 0 is as many as the index has; without an index, what to plan for",
        "videos",
        minimum=0,
        maximum=10_000_000_000,
    )
    gpu_speed: float = option(
        100.0,
        "assumed speed of one of the training's GPUs over this machine's, where no GPU is here",
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


@dataclass
class ClustersConfig:
    """avssl clusters"""

    run: str = option(MISSING, "run folder of `avssl train`", path="run")
    split: str = option("", "split to label; empty is every split of the index")
    out: str = option("${run}/clusters", "folder to write", path="new folder")
    floors: bool = option(False, "also cluster raw pixels and raw spectrograms with k-means, for comparison")
    previews: int = option(
        6,
        "videos of each cluster that the page shows with picture and sound: so many of the most confident, of the "
        "least confident, and at random",
        "videos",
        minimum=0,
        maximum=1000,
    )
    names: str = option(
        "", "names.json that was downloaded from the page: name, merge and reject clusters, and export", path="file"
    )
    labelled: str = option("${out}/labelled", "folder for the labelled data set that names=… makes", path="new folder")
    links: str = option(
        "symbolic",
        "what the labelled data set's videos/{split}/{name}/ holds",
        choices="symbolic hard copy none",
    )
    min_confidence: float = option(
        0.0, "leave videos of a lower confidence out of the labelled data set", minimum=0, maximum=1
    )
    only_named: bool = option(False, "leave videos of unnamed clusters out of the labelled data set")
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0 is the cores that decoding leaves", minimum=0, maximum=1024
    )


@dataclass
class LabelConfig:
    """avssl label"""

    videos: str = option(
        MISSING, "folder of videos, one file, or - for paths on standard input, one a line", path="either"
    )
    run: str = option("", "run folder of `avssl train`", path="run")
    checkpoint: str = option(
        "", "one checkpoint of a run, or a file of published weights, instead of run", path="either"
    )
    out: str = option(
        "",
        "files to write, without their ending, or a folder for them; empty is label/<name of videos> in the run's "
        "folder, or here",
        path="new",
    )
    names: str = option("", "names.json that was downloaded from the explorer", path="file")
    head: int | None = option(
        None, "the head that labels; none is the one chosen without classes", minimum=0, maximum=999
    )
    reject: float = option(
        0.05,
        "share of the run's own held-out videos that would be none of these: sets the threshold; 0 is no threshold",
        minimum=0,
        maximum=0.99,
    )
    sound: str = option(
        "optional",
        "videos without sound, or silent: optional labels them by their pictures alone, where the model can; required "
        "leaves them without a label",
        choices="optional required",
    )
    watch: bool = option(False, "go on with what comes into the folder, until interrupted")
    settle_seconds: float = option(
        5.0, "a file that was changed more lately than this is still being written", "s", minimum=0, maximum=DAY
    )
    watch_seconds: float = option(
        0.0, "stop watching when nothing has come for so long; 0 is never", "s", minimum=0, maximum=365 * DAY
    )
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    workers: int = option(2, "decoding processes; 0 decodes in this process", minimum=0, maximum=1024)
    threads: int = option(
        0, "threads that compute on a CPU; 0 is the cores that decoding leaves", minimum=0, maximum=1024
    )


@dataclass
class RunsConfig:
    """avssl runs"""

    folder: str = option("runs", "folder that holds run folders, at any depth", path="folder")


@dataclass
class SummaryConfig:
    """avssl summary"""

    runs: list[str] = option([], "run folders, as runs=[a,b,c]", path="folder", unique=True)
    of: str = option(
        "clusters",
        "clusters: NMI of what avssl clusters wrote; evaluate: every figure of avssl evaluate, trained and with "
        "random=true, side by side",
        choices="clusters evaluate",
    )
    out: str | None = option(None, "file for the table of of=evaluate (Markdown)", path="new file")


@dataclass
class EvaluatedDataConfig(DataConfig):
    root: str = option("", "folder of the videos to evaluate on; empty is the run's own data", path="folder")


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


@dataclass
class ExportConfig:
    """avssl export"""

    modality: str = option(MISSING, "the encoder to export", choices="video audio")
    format: str = option(
        "onnx", "onnx; torch_export: a program of torch.export (.pt2); safetensors: the weights alone",
        choices="onnx torch_export safetensors",
    )  # fmt: skip
    run: str = option("", "run folder of `avssl train`", path="run")
    checkpoint: str = option(
        "", "one checkpoint of a run, or published weights (a file or a name), instead of run", path="either"
    )
    heads: bool = option(False, "the cluster heads over the encoder too")
    out: str = option(
        "",
        "file to write; empty is export/<modality> in the run's folder, or export/<checkpoint>_<modality> here",
        path="new file",
    )
    tolerance: float = option(
        1e-3,
        "largest difference from the encoder's own outputs, as a share of the largest of them",
        minimum=0,
        maximum=1,
    )


@dataclass
class ModelsConfig:
    """avssl models"""


@dataclass
class ModelsShowConfig:
    """avssl models show"""

    name: str = option(MISSING, "a published model, as `avssl models` lists them")


@dataclass
class ModelsFetchConfig:
    """avssl models fetch"""

    name: str = option(MISSING, "a published model, as `avssl models` lists them")
    accept_licence: bool = option(False, "the licence that is shown is accepted")
    sha256: str = option(
        "",
        "checksum of the file, 64 hexadecimal digits; needed where its authors published none",
        pattern="[0-9a-fA-F]{64}",
    )
    url: str = option("", "another address of the same file")
    timeout: float = option(
        60.0, "a silence of the server longer than this ends the fetching", "s", minimum=0.1, maximum=DAY
    )


@dataclass
class ModelsConvertConfig:
    """avssl models convert"""

    name: str = option(MISSING, "a published model, as `avssl models` lists them")
    file: str = option(MISSING, "its file, as published", path="file")
    out: str = option("", "file to write; empty is where avssl.load looks for the name", path="new file")


@dataclass
class HypothesesConfig:
    """avssl hypotheses"""

    out: str = option("runs/hypotheses", "folder to write; an experiment that stopped there goes on", path="new folder")
    presets: list[int] = option(
        [1, 2, 3, 4, 5, 6, 7, 8, 9], "hypotheses of GDT to train", minimum=1, maximum=9, unique=True
    )
    seeds: list[int] = option([0, 1, 2], "training seeds", minimum=0, maximum=MAX_SEED, unique=True)
    data_seed: int = option(0, "seed of the sample's videos", minimum=0, maximum=MAX_SEED)
    train: int = option(80, "training videos per class", "videos", minimum=2, maximum=10_000)
    test: int = option(30, "test videos per class", "videos", minimum=2, maximum=10_000)
    epochs: int = option(20, "passes over the training videos", "epochs", minimum=1, maximum=100_000)
    jobs: int = option(0, "trainings at a time; 0 is one per core on a CPU, one on a GPU", minimum=0, maximum=1024)
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)


@dataclass
class BenchContrastConfig:
    """avssl bench contrast"""

    videos: list[int] = option(
        [512, 2048], "videos in the batch, two embeddings each", unit="videos", minimum=2, maximum=100_000, unique=True
    )
    dim: int = option(256, "width of the embeddings", minimum=1, maximum=65_536)
    repeats: int = option(40, "timed pairs of steps", "steps", minimum=1, maximum=1_000_000)
    block: int = option(
        0, "keys that the composed loss compares at once; 0 is all", "embeddings", minimum=0, maximum=10_000_000
    )
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)


@dataclass
class BenchSinkhornConfig:
    """avssl bench sinkhorn"""

    sizes: list[str] = option(
        ["10000x100", "100000x400", "1000000x400"],
        "problems: videos x clusters",
        pattern="[1-9][0-9]{0,8}x[1-9][0-9]{0,5}",
    )
    methods: list[str] = option(
        ["newton", "plain", "pot"],
        "newton: ours; plain: the published; pot: POT's",
        choices="newton plain pot",
        unique=True,
    )
    lam: float = option(20.0, "lambda: sharpness of the transport problem", minimum=0.001, maximum=10_000)
    tolerance: float = option(
        0.1, "stop when sum_n |beta_n / beta_n_new - 1| is below this", minimum=0, maximum=1_000_000
    )
    alternations: int = option(2000, "most alternations of plain and pot", minimum=1, maximum=10_000_000)
    plain_seconds: float = option(
        300.0, "stop plain after this long, and extrapolate and mark its time", "s", minimum=0, maximum=30 * DAY
    )
    pot_rows: int = option(
        100_000,
        "problems of more rows are not given to pot, which cannot be stopped",
        "rows",
        minimum=0,
        maximum=1_000_000_000,
    )
    stream_rows: int = option(
        200_000,
        "problems of more rows are made block by block for ours, at every pass",
        "rows",
        minimum=0,
        maximum=1_000_000_000,
    )
    seed: int = option(0, "the same seed makes the same problem", minimum=0, maximum=MAX_SEED)
    out: str | None = option(
        None, "folder for the table (Markdown) and a plot (if matplotlib is installed)", path="new folder"
    )


@dataclass
class BenchLoaderConfig:
    """avssl bench loader"""

    clip: ClipConfig = section(ClipConfig, "what a clip is")
    sources: list[str] = option(
        ["h264", "prepared", "mpeg4", "vp9"],
        "files to read: h264: AAC and a key frame every 250; prepared: the same after `avssl prepare`; mpeg4: in avi",
        choices="h264 prepared mpeg4 vp9",
        unique=True,
    )
    ways: list[str] = option(
        ["pyav", "torchcodec", "decord", "published", "whole"],
        "decoders of ours; published: two opens and an ffmpeg process a clip; whole: the whole file decoded, then cut",
        choices="pyav torchcodec decord published whole",
        unique=True,
    )
    files: int = option(3, "different files of each kind", "files", minimum=1, maximum=1000)
    seconds: float = option(10.0, "their length", "s", minimum=3, maximum=3600)
    items: int = option(24, "timed items of each way and kind, two clips each", "items", minimum=1, maximum=1_000_000)
    steps: int = option(
        40,
        "timed training steps for the time that they wait for data; 0 leaves that out",
        "steps",
        minimum=0,
        maximum=1_000_000,
    )
    batch: int = option(16, "videos in the batch of such a step", "videos", minimum=2, maximum=65_536)
    soak: int = option(
        0,
        "instead of all that, load this many small clips and tell the memory taken",
        "clips",
        minimum=0,
        maximum=1_000_000_000,
    )
    workers: int = option(0, "decoding processes, for soak", minimum=0, maximum=1024)
    seed: int = option(0, "the same seed makes the same files and clips", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the tables (Markdown)", path="new folder")


@dataclass
class BenchAlignmentConfig:
    """avssl bench alignment"""

    videos: int = option(20_000, "videos", minimum=1, maximum=100_000_000)
    clusters: int = option(400, "clusters", minimum=1, maximum=100_000)
    swaps: int = option(100_000, "random swaps tried", minimum=0, maximum=1_000_000_000)
    seed: int = option(0, "the same seed makes the same problem", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class ReproduceConfig:
    """avssl reproduce"""

    out: str = option(
        "runs/reproduce_${profile}", "folder to write; experiments that stopped there go on", path="new folder"
    )
    profile: str = option(
        "full", "how much is trained: quick tries out every experiment, full may decide its claim", choices="quick full"
    )
    experiments: list[str] = option([], "experiments of configs/reproduce; none is all of them", unique=True)
    seeds: list[int] = option(
        [],
        "seeds of the videos and of the training; none is the profile's, and more where an arm needs them",
        minimum=0,
        maximum=MAX_SEED,
        unique=True,
    )
    epochs: int = option(0, "passes over the training videos; 0 is the profile's", "epochs", minimum=0, maximum=100_000)
    solves: int = option(0, "labellings in a training; 0 is the profile's", minimum=0, maximum=100_000)
    train: float = option(0.0, "share of the experiments' training videos; 0 is the profile's", minimum=0, maximum=1)
    test: float = option(0.0, "share of the experiments' test videos; 0 is the profile's", minimum=0, maximum=1)
    report: bool = option(False, "train nothing: write the page of what is done so far")
    known: list[str] = option(
        [],
        "reproduce.json files, as of other machines: what they have figures of is not trained here",
        path="file",
    )
    jobs: int = option(0, "trainings at a time; 0 is one per core on a CPU, one on a GPU", minimum=0, maximum=1024)
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)


@dataclass
class BenchEvaluateConfig:
    """avssl bench evaluate"""

    gallery: int = option(10_000, "videos that are searched", "videos", minimum=50, maximum=10_000_000)
    queries: int = option(4000, "videos that are searched for", "videos", minimum=1, maximum=10_000_000)
    dim: int = option(4096, "width of the features", minimum=1, maximum=65_536)
    loop_queries: int = option(
        20, "queries that the published loop is run for; its time is scaled up", minimum=1, maximum=1_000_000
    )
    videos: int = option(230_000, "videos that are clustered", minimum=1, maximum=1_000_000_000)
    clusters: int = option(400, "clusters, and classes", minimum=2, maximum=100_000)
    loop_clusters: int = option(
        100, "clusters that the published loop is run for; its time is scaled up", minimum=2, maximum=100_000
    )
    repeats: int = option(3, "times that ours is run; the shortest counts", minimum=1, maximum=10_000)
    seed: int = option(0, "the same seed makes the same features", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchHeadsConfig:
    """avssl bench heads"""

    runs: list[str] = option(
        [], "run folders of `avssl train`, with several heads, and with classes to compare with", path="folder"
    )
    device: str = option("auto", "auto | cpu | cuda | cuda:N | mps", pattern=DEVICE)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class ExaminedDataConfig(DataConfig):
    root: str = option("", "folder of videos, indexed first; empty takes the index as it is", path="folder")


@dataclass
class DoctorConfig:
    """avssl doctor"""

    data: ExaminedDataConfig = section(ExaminedDataConfig, "the videos")
    duplicates: bool = option(True, "compare the contents of files of the same size")
    clip_seconds: float = option(
        1.0, "length of a clip: two of them should fit, for distinct time shifts", "s", minimum=0, maximum=DAY
    )
    min_fps: float = option(10.0, "frame rates below this are unusual", "1/s", minimum=0, maximum=1000)
    max_fps: float = option(60.0, "frame rates above this are unusual", "1/s", minimum=0, maximum=1000)
    min_audio_rate: int = option(16000, "sampling rates of sound below this are low", "Hz", minimum=0, maximum=192_000)
    min_side: int = option(64, "pictures whose short side is below this are small", "px", minimum=0, maximum=4096)
    workers: int = option(0, "processes; 0 is one per core", minimum=0, maximum=1024)
