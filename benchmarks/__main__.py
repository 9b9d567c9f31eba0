"""`python -m benchmarks <benchmark> [key=value …]`, in a checkout."""

import sys
from pathlib import Path

from avssl.cli import run_commands
from avssl.commands import Command, Program
from benchmarks import options

BENCHMARKS = Program(
    "python -m benchmarks",
    "our code beside the published loops and other packages: the same input for each, in turns",
    {
        "contrast": Command(
            options.BenchContrastConfig,
            "benchmarks.contrast:main",
            "what the general loss costs beside a two-view InfoNCE written by hand",
            "Loss and gradient of preset 1 on random embeddings, and those of the hand-written loss, in turns; prints "
            "the median times and the median of the ratios pair by pair.",
            (
                ("python -m benchmarks contrast", "512 and 2048 videos"),
                ("python -m benchmarks contrast videos=[4096] device=cuda", "a GPU"),
            ),
            check="benchmarks.options:check_contrast",
        ),
        "sinkhorn": Command(
            options.BenchSinkhornConfig,
            "benchmarks.sinkhorn:main_sinkhorn",
            "the labelling's solver beside the published alternation and POT's",
            "The same random problems for each, one after the other in processes of their own: time, passes over the "
            "data, error reached, transport cost of the labels, peak memory.",
            (
                ("python -m benchmarks sinkhorn out=bench", "up to a million videos, with a table and a plot"),
                ("python -m benchmarks sinkhorn sizes=[10000x100]", "a small one"),
            ),
            check="benchmarks.options:check_sinkhorn",
        ),
        "alignment": Command(
            options.BenchAlignmentConfig,
            "benchmarks.sinkhorn:main_alignment",
            "exact alignment of two modalities' clusters beside random swaps",
            "Two noisy soft assignments whose clusters are permuted: time and agreement of each way to pair them.",
            (
                ("python -m benchmarks alignment", "400 clusters"),
                ("python -m benchmarks alignment clusters=50 swaps=10000", "a small one"),
            ),
            check="benchmarks.options:check_alignment",
        ),
        "evaluate": Command(
            options.BenchEvaluateConfig,
            "benchmarks.evaluate:run",
            "retrieval and clustering accuracy beside the published loops",
            "The same features and labels for both, on the CPU; the results must be the same.",
            (
                ("python -m benchmarks evaluate out=bench", "10,000 by 4,000 videos, and 230,000 labels"),
                ("python -m benchmarks evaluate gallery=1000 queries=200 dim=512", "a small one"),
            ),
            check="benchmarks.options:check_evaluate",
        ),
        "heads": Command(
            options.BenchHeadsConfig,
            "benchmarks.heads:run",
            "ways to choose a run's head without classes beside the head that the classes would choose",
            "Transport cost, agreement of the modalities, and stability between two augmented passes: the NMI of the "
            "head that each chooses minus the best head's, for each run and on the average.",
            (("python -m benchmarks heads runs=[runs/a,runs/b]", "two runs"),),
            check="benchmarks.options:check_heads",
        ),
        "features": Command(
            options.BenchFeaturesConfig,
            "benchmarks.features:run",
            "videos an hour of a SeLaVi run on stored features",
            "Makes a store of random features, 1280 and 512 wide, and trains heads and an adapter on it, with all "
            "labelling passes and checkpoints, as `avssl train data.features=…` does.",
            (
                ("python -m benchmarks features out=bench", "100,000 videos"),
                ("python -m benchmarks features videos=2000 epochs=2 passes=2", "a small one"),
            ),
        ),
        "gpu": Command(
            options.BenchGpuConfig,
            "benchmarks.gpu:main",
            "what a GPU does with avssl, on one page",
            "Steps of each objective beside a bare PyTorch loop, memory, kernels, a labelling pass, the solver, "
            "decoding up to the device, waiting, and what `avssl plan` said: ten minutes at most, each part in a "
            "process with a time limit. A part that fails says why.",
            (
                ("python -m benchmarks gpu out=bench", "all of it"),
                ("python -m benchmarks gpu parts=[steps,profile] batch=64", "two parts, with larger batches"),
                ("python -m benchmarks gpu device=cpu quick=true", "try the benchmark itself, without a GPU"),
            ),
            check="benchmarks.options:check_gpu",
        ),
        "loader": Command(
            options.BenchLoaderConfig,
            "benchmarks.loader:main",
            "clips per second of the loader beside the published way, and what a training step waits for them",
            "Files are made for it. Two clips of a video, frames and spectrogram, by each decoder that is installed "
            "and by the ways that others do it, in turns; then training steps of a tiny model, with decoding in this "
            "process, in others and in threads. With soak=50000 it loads that many clips and reports memory use.",
            (
                ("python -m benchmarks loader out=bench", "all of it, some minutes"),
                (
                    "python -m benchmarks loader sources=[h264,prepared] ways=[pyav,published] steps=0",
                    "the comparison alone",
                ),
                (
                    "python -m benchmarks loader sources=[h264,prepared] ways=[pyav] steps=0 profile=true",
                    "FFmpeg's own share of a clip's time",
                ),
                ("python -m benchmarks loader soak=50000", "does memory grow?"),
            ),
            check="benchmarks.options:check_loader",
        ),
        "scale": Command(
            options.BenchScaleConfig,
            "benchmarks.scale:run",
            "time and memory of an index of very many simulated videos, made in parts",
            "Files are shared out to jobs, each writes a table, the tables are merged, and the index is opened as in "
            "a run: rows, an epoch's order, decoding processes. Prints the time and the memory of each.",
            (
                ("python -m benchmarks scale", "a million videos"),
                ("python -m benchmarks scale rows=100000000 parts=256 folder=/scratch", "a hundred million"),
            ),
        ),
        "cluster": Command(
            options.BenchClusterConfig,
            "benchmarks.cluster:run",
            "a plan for many GPUs beside a simulation of the run, event by event",
            "Decoding processes with a spread of clip times and their queues, copies, steps with stragglers, the "
            "exchange of gradients, labelling passes and checkpoints, with the costs of the plan; says where the two "
            "differ, and why.",
            (
                ("python -m benchmarks cluster", "SeLaVi on Kinetics-400, 8 machines of 8 GPUs"),
                ("python -m benchmarks cluster plan=plans/mine", "the plan that `avssl plan out=plans/mine` wrote"),
            ),
        ),
        "step": Command(
            options.BenchStepConfig,
            "benchmarks.step:main",
            "a run's step and labelling pass beside the sum of their bare parts",
            "Trains on files made for it, in one thread. After each step, its parts are made again bare, on the same "
            "data: FFmpeg's calls, augmentation and spectrograms, the model in a plain PyTorch loop, and the solver. "
            "What the run takes beyond them is its overhead.",
            (
                ("python -m benchmarks step out=bench", "a labelling run and a contrastive run, about a minute"),
                ("python -m benchmarks step source=prepared tasks=[gdt] words=[clip=gdt]", "clips of 30 frames"),
            ),
        ),
    },
    Path(__file__).parent / "configs",
    ("`make bench` runs them all at sizes that take some minutes.",),
)


def main(argv: list[str] | None = None) -> int:
    """The exit status, as that of `avssl`."""
    return run_commands(BENCHMARKS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
