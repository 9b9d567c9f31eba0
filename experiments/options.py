"""The options of the experiments."""

from dataclasses import dataclass
from typing import Any

from avssl.config.option import MAX_SEED, device_option, option


def jobs_option() -> Any:
    """The option of the trainings that run beside each other."""
    return option(0, "runs at a time; 0: one per core on a CPU, one on a GPU", minimum=0, maximum=1024)


@dataclass
class HypothesesConfig:
    """python -m experiments hypotheses"""

    out: str = option(
        "runs/hypotheses", "folder to write; an interrupted experiment in it is resumed", path="new folder"
    )
    presets: list[int] = option(
        [1, 2, 3, 4, 5, 6, 7, 8, 9], "hypotheses of GDT to train", minimum=1, maximum=9, unique=True
    )
    seeds: list[int] = option([0, 1, 2], "random seeds of the runs", minimum=0, maximum=MAX_SEED, unique=True)
    data_seed: int = option(0, "random seed of the sample's videos", minimum=0, maximum=MAX_SEED)
    train: int = option(80, "training videos per class", "videos", minimum=2, maximum=10_000)
    test: int = option(30, "test videos per class", "videos", minimum=2, maximum=10_000)
    epochs: int = option(20, "passes over the training videos", "epochs", minimum=1, maximum=100_000)
    jobs: int = jobs_option()
    device: str = device_option()


@dataclass
class ObjectivesConfig:
    """python -m experiments objectives"""

    out: str = option(
        "runs/objectives", "folder to write; an interrupted experiment in it is resumed", path="new folder"
    )
    methods: list[str] = option(
        [],
        "methods to train, such as rotation,moco; untrained and simclr are always with them; empty: all",
        unique=True,
    )
    seeds: list[int] = option([0, 1, 2], "random seeds of the runs", minimum=0, maximum=MAX_SEED, unique=True)
    clips: int = option(
        8_000, "clips that each run sees, one per video and batch", "clips", minimum=32, maximum=1_000_000_000
    )
    train: int = option(40, "training videos per class", "videos", minimum=2, maximum=10_000)
    test: int = option(30, "test videos per class", "videos", minimum=2, maximum=10_000)
    jobs: int = jobs_option()
    device: str = device_option()


@dataclass
class LocalisationConfig:
    """python -m experiments localisation"""

    out: str = option(
        "runs/localisation", "folder to write; an interrupted experiment in it is resumed", path="new folder"
    )
    arms: list[str] = option([], "arms to train, such as LVS; empty: all", unique=True)
    seeds: list[int] = option([0, 1, 2], "random seeds of the runs", minimum=0, maximum=MAX_SEED, unique=True)
    clips: int = option(
        96_000, "clips that each run sees, one per video and batch", "clips", minimum=32, maximum=1_000_000_000
    )
    steps: int = option(1000, "training steps of each detector", "steps", minimum=1, maximum=1_000_000)
    precision: str = option(
        "auto",
        "number format of the encoders, as in avssl train; bfloat16 takes half of the time on processors that compute "
        "in it",
        choices="auto float32 bfloat16",
    )
    train: int = option(240, "training videos per class", "videos", minimum=2, maximum=10_000)
    test: int = option(30, "test videos per class", "videos", minimum=2, maximum=10_000)
    jobs: int = jobs_option()
    device: str = device_option()


@dataclass
class TransferConfig:
    """python -m experiments transfer"""

    out: str = option("runs/transfer", "folder to write; an interrupted experiment in it is resumed", path="new folder")
    seeds: list[int] = option([], "random seeds of videos and runs; empty: 20, 21, 22", minimum=0, maximum=MAX_SEED)
    train: int = option(80, "training videos per digit of the source", "videos", minimum=2, maximum=10_000)
    few: int = option(20, "training videos per digit of the target, at most `train`", "videos", minimum=2, maximum=1000)
    test: int = option(30, "test videos per digit", "videos", minimum=2, maximum=10_000)
    source_epochs: int = option(20, "passes over the source's videos", "epochs", minimum=1, maximum=100_000)
    epochs: int = option(40, "passes over the target's videos", "epochs", minimum=1, maximum=100_000)
    jobs: int = jobs_option()
    device: str = device_option()


@dataclass
class ReproduceConfig:
    """python -m experiments reproduce"""

    out: str = option(
        "runs/reproduce_${profile}", "folder to write; interrupted experiments in it are resumed", path="new folder"
    )
    profile: str = option(
        "full",
        "amount of training. full: as experiments/plan.yaml says; quick: a smoke test of every claim, exploratory",
        choices="quick full",
    )
    claims: list[str] = option(
        [], "claims of experiments/plan.yaml; empty: all but those that the pilot says cannot be decided", unique=True
    )
    seeds: list[int] = option(
        [],
        "random seeds of the videos and of the runs; empty: the plan's. With others, all is exploratory",
        minimum=0,
        maximum=MAX_SEED,
        unique=True,
    )
    voices: str = option(
        "", "folder of <digit>_<voice>.wav files, to decide claims on the sample with real voices too", path="folder"
    )
    exploratory: bool = option(
        False, "decide nothing, so that trainings of several commits, machines or plans may be shown together"
    )
    report: bool = option(False, "only write the page of the results so far, without training")
    known: list[str] = option(
        [],
        "reproduce.json files, for example from other machines, whose results are not trained again",
        path="file",
    )
    jobs: int = jobs_option()
    device: str = device_option()


@dataclass
class PilotConfig:
    """python -m experiments pilot"""

    out: str = option("runs/pilot", "folder to write; an interrupted pilot in it is resumed", path="new folder")
    claims: list[str] = option([], "claims of experiments/plan.yaml; empty: all", unique=True)
    seeds: list[int] = option(
        [],
        "random seeds of the pilot; empty: pilot_seeds of the plan. Seeds that decide are refused",
        minimum=0,
        maximum=MAX_SEED,
        unique=True,
    )
    profile: str = option(
        "full", "amount of training. full: as the plan says; quick: to try the command out", choices="quick full"
    )
    voices: str = option("", "folder of <digit>_<voice>.wav files, as in reproduce", path="folder")
    report: bool = option(False, "only write the table of the results so far, without training")
    known: list[str] = option([], "reproduce.json or pilot.json files of trainings that are done", path="file")
    jobs: int = jobs_option()
    device: str = device_option()


@dataclass
class TypefacesConfig:
    """python -m experiments typefaces"""

    out: str = option("typefaces", "folder for the videos", path="new folder")
    seed: int = option(0, "random seed: the same seed makes the same videos", minimum=0, maximum=MAX_SEED)
    train: int = option(80, "training videos per class", "videos", minimum=1, maximum=10_000)
    test: int = option(30, "test videos per class", "videos", minimum=0, maximum=10_000)
    noisy: bool = option(False, "drown the words in noise, so that audio is the weak modality")
    workers: int = option(0, "processes that write videos; 0: one per core", minimum=0, maximum=1024)


def check_claims(config: ReproduceConfig | PilotConfig) -> None:
    """Raise UserError for a plan that is none, or an unknown claim."""
    from avssl.config.compose import nearest
    from avssl.core.errors import UserError
    from experiments.plan import PLAN, read_plan

    known = read_plan().claims
    for name in config.claims:
        if name not in known:
            raise UserError(f"claims={name} is not in {PLAN.name}{nearest(name, list(known))} ({', '.join(known)})")
