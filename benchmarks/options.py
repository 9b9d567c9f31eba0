"""The options of each benchmark, and their checks."""

from dataclasses import dataclass

from avssl.config import ClipConfig
from avssl.config.check_options import check_clip
from avssl.config.option import DAY, DEVICE, MAX_SEED, option, section
from avssl.core.cores import check_memory
from avssl.core.device import check_device
from avssl.core.errors import UserError


@dataclass
class BenchContrastConfig:
    """python -m benchmarks contrast"""

    videos: list[int] = option(
        [512, 2048],
        "videos in the batch, with two embeddings each",
        unit="videos",
        minimum=2,
        maximum=100_000,
        unique=True,
    )
    dim: int = option(256, "width of the embeddings", minimum=1, maximum=65_536)
    repeats: int = option(40, "timed pairs of steps", "steps", minimum=1, maximum=1_000_000)
    block: int = option(
        0, "keys that the composed loss compares at once; 0: all", "embeddings", minimum=0, maximum=10_000_000
    )
    device: str = option(
        "auto",
        "where to compute; auto: a CUDA GPU if there is one, else the CPU; or cpu, cuda, cuda:N, mps",
        pattern=DEVICE,
    )
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchSinkhornConfig:
    """python -m benchmarks sinkhorn"""

    sizes: list[str] = option(
        ["10000x100", "100000x400", "1000000x400"],
        "problems, as videos x clusters",
        pattern="[1-9][0-9]{0,8}x[1-9][0-9]{0,5}",
    )
    methods: list[str] = option(
        ["newton", "plain", "pot"],
        "newton: ours; plain: the published algorithm; pot: the one of POT",
        choices="newton plain pot",
        unique=True,
    )
    lam: float = option(20.0, "lambda, the sharpness of the transport problem", minimum=0.001, maximum=10_000)
    tolerance: float = option(
        0.1, "stop when sum_n |beta_n / beta_n_new - 1| is below this", minimum=0, maximum=1_000_000
    )
    alternations: int = option(2000, "largest number of alternations of plain and pot", minimum=1, maximum=10_000_000)
    plain_seconds: float = option(
        300.0, "stop plain after this long, then extrapolate its time and mark it", "s", minimum=0, maximum=30 * DAY
    )
    pot_rows: int = option(
        100_000,
        "larger problems are not given to pot, which cannot be stopped",
        "rows",
        minimum=0,
        maximum=1_000_000_000,
    )
    stream_rows: int = option(
        200_000,
        "larger problems are generated block by block for newton, in every pass",
        "rows",
        minimum=0,
        maximum=1_000_000_000,
    )
    seed: int = option(0, "random seed of the problem", minimum=0, maximum=MAX_SEED)
    out: str | None = option(
        None, "folder for the table (Markdown) and a plot (if matplotlib is installed)", path="new folder"
    )


@dataclass
class BenchFeaturesConfig:
    """python -m benchmarks features"""

    videos: int = option(100_000, "videos in the store", "videos", minimum=100, maximum=100_000_000)
    views: int = option(1, "clips per video", "clips", minimum=1, maximum=1000)
    epochs: int = option(5, "passes over the videos", "epochs", minimum=1, maximum=100_000)
    batch: int = option(256, "videos per batch", "videos", minimum=2, maximum=65_536)
    heads: int = option(4, "heads", minimum=1, maximum=1000)
    clusters: int = option(100, "clusters per head", minimum=2, maximum=100_000)
    passes: int = option(5, "labelling passes", minimum=1, maximum=100_000)
    threads: int = option(2, "CPU threads for the computation", minimum=1, maximum=1024)
    seed: int = option(0, "random seed of the features", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchLoaderConfig:
    """python -m benchmarks loader"""

    clip: ClipConfig = section(ClipConfig, "a clip: its frames, its audio and its decoding")
    sources: list[str] = option(
        ["h264", "prepared", "mpeg4", "vp9"],
        "files to read. h264: with AAC, and a key frame every 250 frames; prepared: the same after `avssl prepare`; "
        "mpeg4: in avi; vp9: in webm",
        choices="h264 prepared mpeg4 vp9",
        unique=True,
    )
    ways: list[str] = option(
        ["pyav", "torchcodec", "decord", "published", "whole"],
        "ways to read. pyav, torchcodec, decord: our decoders; published: two opens and an ffmpeg process per clip; "
        "whole: decode the whole file, then cut",
        choices="pyav torchcodec decord published whole",
        unique=True,
    )
    files: int = option(3, "number of different files of each kind", "files", minimum=1, maximum=1000)
    seconds: float = option(10.0, "duration of the files", "s", minimum=3, maximum=3600)
    items: int = option(
        24, "timed items per way and kind of file, with two clips each", "items", minimum=1, maximum=1_000_000
    )
    steps: int = option(
        40,
        "training steps that measure the time spent waiting for data; 0: none",
        "steps",
        minimum=0,
        maximum=1_000_000,
    )
    batch: int = option(16, "videos per batch of these steps", "videos", minimum=2, maximum=65_536)
    soak: int = option(
        0,
        "instead of everything else, load this many small clips and report the memory use; 0: no",
        "clips",
        minimum=0,
        maximum=1_000_000_000,
    )
    profile: bool = option(False, "also report FFmpeg's own share of a clip's time")
    workers: int = option(0, "decoding processes, for soak", minimum=0, maximum=1024)
    seed: int = option(0, "random seed of the files and clips", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the tables (Markdown)", path="new folder")


@dataclass
class BenchStepConfig:
    """python -m benchmarks step"""

    tasks: list[str] = option(["selavi", "gdt"], "runs to time", choices="selavi gdt", unique=True)
    source: str = option("h264", "files to train on, as those of the benchmark loader", choices="h264 prepared")
    model: str = option("tiny", "model of the runs, one of configs/model")
    words: list[str] = option(["clip=tiny"], "other options of the runs, as avssl train takes them")
    files: int = option(8, "number of videos", "files", minimum=2, maximum=1000)
    seconds: float = option(6.0, "duration of the videos", "s", minimum=3, maximum=3600)
    batch: int = option(8, "videos per step", "videos", minimum=2, maximum=65_536)
    steps: int = option(12, "steps of each run; the first is not counted", "steps", minimum=2, maximum=1_000_000)
    seed: int = option(0, "random seed of the files", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the tables (Markdown)", path="new folder")


@dataclass
class BenchAlignmentConfig:
    """python -m benchmarks alignment"""

    videos: int = option(20_000, "videos", minimum=1, maximum=100_000_000)
    clusters: int = option(400, "clusters", minimum=1, maximum=100_000)
    swaps: int = option(100_000, "number of random swaps to try", minimum=0, maximum=1_000_000_000)
    seed: int = option(0, "random seed of the problem", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchEvaluateConfig:
    """python -m benchmarks evaluate"""

    gallery: int = option(10_000, "videos in the gallery", "videos", minimum=50, maximum=10_000_000)
    queries: int = option(4000, "query videos", "videos", minimum=1, maximum=10_000_000)
    dim: int = option(4096, "width of the features", minimum=1, maximum=65_536)
    loop_queries: int = option(
        20, "queries for the published loop, whose time is scaled up", minimum=1, maximum=1_000_000
    )
    videos: int = option(230_000, "videos with labels and classes", minimum=1, maximum=1_000_000_000)
    clusters: int = option(400, "number of clusters, and of classes", minimum=2, maximum=100_000)
    loop_clusters: int = option(
        100, "clusters for the published loop, whose time is scaled up", minimum=2, maximum=100_000
    )
    repeats: int = option(3, "number of runs of our code, of which the shortest counts", minimum=1, maximum=10_000)
    seed: int = option(0, "random seed of the features", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchHeadsConfig:
    """python -m benchmarks heads"""

    runs: list[str] = option([], "run folders of `avssl train`, with several heads and with classes", path="folder")
    device: str = option(
        "auto",
        "where to compute; auto: a CUDA GPU if there is one, else the CPU; or cpu, cuda, cuda:N, mps",
        pattern=DEVICE,
    )
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchClusterConfig:
    """python -m benchmarks cluster"""

    plan: str = option(
        "",
        "the folder that `avssl plan out=…` wrote; empty: plan SeLaVi on Kinetics-400 with 8 machines of 8 GPUs",
        path="folder",
    )
    steps: int = option(400, "training steps to simulate", "steps", minimum=4, maximum=1_000_000)
    clip_spread: float = option(
        0.5, "standard deviation of the logarithm of a clip's decoding time", minimum=0, maximum=3
    )
    step_spread: float = option(0.02, "the same of a step's time", minimum=0, maximum=3)
    gpu_spread: float = option(0.01, "relative standard deviation of the GPUs' speeds", minimum=0, maximum=1)
    pause_rate: float = option(
        0.0005, "fraction of the steps of a process in which something holds it up", minimum=0, maximum=1
    )
    pause: float = option(2.0, "length of such a pause, in steps", minimum=0, maximum=10_000)
    clip_mb: float = option(2.0, "size of a decoded clip with its audio", "MB", minimum=0, maximum=10_000)
    copy_gb: float = option(12.0, "speed of copies to a GPU", "GB/s", minimum=0.001, maximum=10_000)
    checkpoint_minutes: float = option(10.0, "time between two checkpoints", "minutes", minimum=0.01, maximum=100_000)
    seed: int = option(0, "random seed of the times", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchScaleConfig:
    """python -m benchmarks scale"""

    rows: int = option(1_000_000, "videos of the simulated index", "videos", minimum=1000, maximum=1_000_000_000)
    parts: int = option(16, "jobs that share the work", "jobs", minimum=1, maximum=4096)
    batch: int = option(1024, "videos per training batch", "videos", minimum=1, maximum=1_000_000)
    folder: str = option(
        "",
        "existing folder for the files, which are removed at the end; empty: the system's temporary folder",
        path="folder",
    )
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchGpuConfig:
    """python -m benchmarks gpu"""

    device: str = option("cuda", "the GPU; cpu tries the benchmark itself, with quick=true", pattern=DEVICE)
    parts: list[str] = option(
        ["steps", "memory", "profile", "labelling", "solver", "files", "decode", "waiting", "plan"],
        "what to measure, in this order; decode, waiting and plan need files",
        choices="steps memory profile labelling solver files decode waiting plan",
        unique=True,
    )
    batch: int = option(0, "videos per batch; 0: as published", "videos", minimum=0, maximum=65_536)
    quick: bool = option(False, "small sizes and a fraction of the time, to see that every part runs")
    out: str | None = option(None, "folder for the page (gpu.md) and its figures (gpu.json)", path="new folder")


def check_gpu(config: BenchGpuConfig) -> None:
    """Raise UserError if this machine has no such device."""
    check_device(config.device)


def check_loader(config: BenchLoaderConfig) -> None:
    """Raise UserError for a clip that cannot be cut."""
    check_clip(config.clip)


def check_heads(config: BenchHeadsConfig) -> None:
    """Raise UserError if no runs are given."""
    if not config.runs:
        raise UserError("runs is needed: give the run folders, as runs=[runs/a,runs/b]")


def check_sinkhorn(config: BenchSinkhornConfig) -> None:
    """Raise UserError for a problem that does not fit into memory."""
    for size in config.sizes:
        rows, clusters = map(int, size.split("x"))
        held = min(rows, config.stream_rows)
        check_memory(f"sizes=[{size}]", 4 * held * clusters + 8 * clusters**2 + 8 * rows, "that problem")


def check_contrast(config: BenchContrastConfig) -> None:
    """The same."""
    for videos in config.videos:
        keys = min(config.block or 2 * videos, 2 * videos)
        check_memory(f"videos=[{videos}]", 16 * videos * keys + 16 * videos * config.dim, "their similarities")


def check_alignment(config: BenchAlignmentConfig) -> None:
    """The same."""
    check_memory(f"videos={config.videos}", 8 * config.videos * config.clusters, "their assignments")


def check_evaluate(config: BenchEvaluateConfig) -> None:
    """The same."""
    check_memory(f"dim={config.dim}", 8 * (config.gallery + config.queries) * config.dim, "the features")
    check_memory(f"clusters={config.clusters}", 16 * config.clusters**2, "the counts of clusters by classes")
