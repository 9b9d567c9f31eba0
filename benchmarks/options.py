"""The options of each benchmark, and what cannot go together in them."""

from dataclasses import dataclass

from avssl.config import ClipConfig
from avssl.config.check_options import check_clip
from avssl.config.option import DAY, DEVICE, MAX_SEED, option, section
from avssl.core.cores import check_memory
from avssl.core.errors import UserError


@dataclass
class BenchContrastConfig:
    """python -m benchmarks contrast"""

    videos: list[int] = option(
        [512, 2048], "videos in the batch, two embeddings each", unit="videos", minimum=2, maximum=100_000, unique=True
    )
    dim: int = option(256, "width of the embeddings", minimum=1, maximum=65_536)
    repeats: int = option(40, "timed pairs of steps", "steps", minimum=1, maximum=1_000_000)
    block: int = option(
        0, "keys that the composed loss compares at once; 0 is all", "embeddings", minimum=0, maximum=10_000_000
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
class BenchFeaturesConfig:
    """python -m benchmarks features"""

    videos: int = option(100_000, "videos of the store", "videos", minimum=100, maximum=100_000_000)
    views: int = option(1, "clips of each", "clips", minimum=1, maximum=1000)
    epochs: int = option(5, "passes over the videos", "epochs", minimum=1, maximum=100_000)
    batch: int = option(256, "videos per batch", "videos", minimum=2, maximum=65_536)
    heads: int = option(4, "heads", minimum=1, maximum=1000)
    clusters: int = option(100, "clusters of each head", minimum=2, maximum=100_000)
    passes: int = option(5, "labelling passes", minimum=1, maximum=100_000)
    threads: int = option(2, "threads that compute", minimum=1, maximum=1024)
    seed: int = option(0, "the same seed makes the same features", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchLoaderConfig:
    """python -m benchmarks loader"""

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
    """python -m benchmarks alignment"""

    videos: int = option(20_000, "videos", minimum=1, maximum=100_000_000)
    clusters: int = option(400, "clusters", minimum=1, maximum=100_000)
    swaps: int = option(100_000, "random swaps tried", minimum=0, maximum=1_000_000_000)
    seed: int = option(0, "the same seed makes the same problem", minimum=0, maximum=MAX_SEED)
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


@dataclass
class BenchEvaluateConfig:
    """python -m benchmarks evaluate"""

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
    """python -m benchmarks heads"""

    runs: list[str] = option(
        [], "run folders of `avssl train`, with several heads, and with classes to compare with", path="folder"
    )
    device: str = option(
        "auto",
        "where to compute; auto: a CUDA GPU if there is one, else the CPU; or cpu, cuda, cuda:N, mps",
        pattern=DEVICE,
    )
    out: str | None = option(None, "folder for the table (Markdown)", path="new folder")


def check_loader(config: BenchLoaderConfig) -> None:
    """UserError for a clip that cannot be cut out."""
    check_clip(config.clip)


def check_heads(config: BenchHeadsConfig) -> None:
    """UserError for no runs."""
    if not config.runs:
        raise UserError("runs is needed: the run folders, as runs=[runs/a,runs/b]")


def check_sinkhorn(config: BenchSinkhornConfig) -> None:
    """UserError for a problem that the memory cannot hold."""
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
