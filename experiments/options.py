"""The options of the claims and of the hypotheses."""

from dataclasses import dataclass

from avssl.config.option import DEVICE, MAX_SEED, option


@dataclass
class HypothesesConfig:
    """python -m experiments hypotheses"""

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
    device: str = option(
        "auto",
        "where to compute; auto: a CUDA GPU if there is one, else the CPU; or cpu, cuda, cuda:N, mps",
        pattern=DEVICE,
    )


@dataclass
class TransferConfig:
    """python -m experiments transfer"""

    out: str = option("runs/transfer", "folder to write; an experiment that stopped there goes on", path="new folder")
    seeds: list[int] = option([], "seeds of videos and trainings; none is 20, 21, 22", minimum=0, maximum=MAX_SEED)
    train: int = option(80, "training videos per digit of the source", "videos", minimum=2, maximum=10_000)
    few: int = option(20, "training videos per digit of the target, at most `train`", "videos", minimum=2, maximum=1000)
    test: int = option(30, "test videos per digit", "videos", minimum=2, maximum=10_000)
    source_epochs: int = option(20, "passes over the source's videos", "epochs", minimum=1, maximum=100_000)
    epochs: int = option(40, "passes over the target's videos", "epochs", minimum=1, maximum=100_000)
    jobs: int = option(0, "trainings at a time; 0 is one per core on a CPU, one on a GPU", minimum=0, maximum=1024)
    device: str = option(
        "auto",
        "where to compute; auto: a CUDA GPU if there is one, else the CPU; or cpu, cuda, cuda:N, mps",
        pattern=DEVICE,
    )


@dataclass
class ReproduceConfig:
    """python -m experiments reproduce"""

    out: str = option(
        "runs/reproduce_${profile}", "folder to write; experiments that stopped there go on", path="new folder"
    )
    profile: str = option(
        "full", "how much is trained: quick tries out every experiment, full may decide its claim", choices="quick full"
    )
    experiments: list[str] = option([], "experiments of experiments/claims; none is all of them", unique=True)
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
    device: str = option(
        "auto",
        "where to compute; auto: a CUDA GPU if there is one, else the CPU; or cpu, cuda, cuda:N, mps",
        pattern=DEVICE,
    )


def check_reproduce(config: ReproduceConfig) -> None:
    """UserError for an unknown experiment."""
    from experiments.experiment import read_experiment

    for name in config.experiments:
        read_experiment(name)
