"""`avssl reproduce`: the experiments behind the methods' claims, on the sample, and the page of what came out."""

import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown

from .. import __version__
from ..atomic import read_json, write_json, write_text
from ..compose import compose_config
from ..config import DataConfig, IndexConfig, ReproduceConfig, SampleConfig, TrainConfig
from ..cores import available_cores
from ..data.index import index_videos
from ..data.sample import check_options, make_sample
from ..errors import UserError
from ..evaluate.summary import chosen_metrics
from ..intervals import difference, mean_of, verdict
from ..jobs import avssl, claim_folder, device_words, jobs_at_a_time, side_by_side, word
from ..report import markdown_table
from .experiment import Experiment, experiments, read_experiment

METRICS = {"nmi": "NMI", "ami": "AMI", "ari": "ARI", "accuracy": "accuracy"}


@dataclass(frozen=True)
class Training:
    """One training, wanted by one experiment or more: on which sample, with which options, from which seed."""

    sample: tuple[tuple[str, Any], ...]
    words: tuple[str, ...]
    seed: int

    @property
    def data(self) -> str:
        """The name of its videos' folder."""
        parts = [f"{k}-{v}" for k, v in self.sample] or ["plain"]
        return _name("_".join([*parts, f"seed{self.seed}"]))

    @property
    def name(self) -> str:
        """The name of its run folder."""
        words = [re.sub(r"^[\w.]*?(\w+)=", r"\1-", w) for w in self.words] or ["default"]
        return _name("_".join([self.data, *words]))


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]", "-", text)


Figures = dict[Training, dict[str, float]]


def run(config: ReproduceConfig) -> str:
    """Train and compare as configured; writes `reproduce.md` and `reproduce.json` to `out`, and returns the page.

    Goes on where it stopped. Raises UserError for an unknown experiment, a folder that holds trainings of other
    settings, or a training that failed.
    """
    wanted = {name: read_experiment(name) for name in dict.fromkeys(config.experiments or experiments())}
    if not config.seeds:
        raise UserError("seeds=[]: name some, as seeds=[0,1,2]")
    seeds = list(dict.fromkeys(config.seeds))
    for experiment in wanted.values():
        for arm in experiment.arms:  # a wrong word is told now, not after an hour
            compose_config("train", TrainConfig, ["data.root=x", *_words(config, training(config, experiment, arm, 0))])
    console, out = Console(highlight=False), Path(config.out)
    claim_folder(out, "settings.json", {"epochs": config.epochs, "train": config.train, "test": config.test})
    trainings = dict.fromkeys(
        training(config, e, arm, seed) for seed in seeds for e in wanted.values() for arm in e.arms
    )
    jobs = jobs_at_a_time(config.jobs, config.device)
    console.print(f"{len(trainings)} trainings, {jobs} at a time; writing to {out}", soft_wrap=True, markup=False)
    making: dict[str, Lock] = {t.data: Lock() for t in trainings}

    def train(job: Training) -> dict[str, float]:
        with making[job.data]:
            data = _sample(config, job)
        return _train(config, job, data, jobs)

    figures: Figures = side_by_side(train, trainings, jobs)
    text = "\n".join(page(config, wanted, seeds, figures)) + "\n"
    write_text(out / "reproduce.md", text)
    write_json(
        out / "reproduce.json",
        [{"sample": dict(t.sample), "words": t.words, "seed": t.seed, **found} for t, found in figures.items()],
    )
    console.print(Markdown(text))
    console.print(f"page {out / 'reproduce.md'}", soft_wrap=True, markup=False)
    return text


def training(config: ReproduceConfig, experiment: Experiment, arm: str, seed: int) -> Training:
    """The training of an arm."""
    sample = dict(experiment.sample)
    sample |= {k: v for k, v in (("train", config.train), ("test", config.test)) if v}
    return Training(tuple(sorted(sample.items())), (*experiment.words, *experiment.arms[arm]), seed)


def _words(config: ReproduceConfig, job: Training) -> list[str]:
    return ["experiment=sample", f"optim.epochs={config.epochs}", f"seed={job.seed}", *job.words]


def _sample(config: ReproduceConfig, job: Training) -> DataConfig:
    """The training's videos, made and indexed unless they are there."""
    root = Path(config.out) / "samples" / job.data
    sample = compose_config("sample", SampleConfig, [f"{k}={v}" for k, v in job.sample])
    sample.out, sample.seed = str(root), job.seed
    check_options(sample)
    make_sample(sample)
    data = DataConfig(root=str(root), name="sample", index=str(root) + "_index")
    index_videos(IndexConfig(data))
    return data


def _train(config: ReproduceConfig, job: Training, data: DataConfig, jobs: int) -> dict[str, float]:
    """The clustering of the test split by the joint label of the head chosen without labels."""
    folder = Path(config.out) / "runs" / job.name
    folder.parent.mkdir(exist_ok=True)
    done = folder / "clusters" / "clustering.json"
    if not done.is_file():
        device = device_words(config.device, jobs)
        where = [word("data.root", data.root), word("data.index", data.index), word("out", folder)]
        avssl("train", [*_words(config, job), *where, *device], folder)
        avssl("clusters", [word("run", folder), *device, "previews=0"], folder)
    found = read_json(done)
    chosen = chosen_metrics(found[found["reported"]])
    assert chosen is not None  # the sample has classes
    return {name: float(chosen[name]) for name in METRICS}


def page(config: ReproduceConfig, wanted: dict[str, Experiment], seeds: list[int], figures: Figures) -> list[str]:
    """The page, as Markdown: a table, its paired differences and their verdicts for each experiment."""
    command = f"avssl reproduce experiments=[{','.join(wanted)}] seeds=[{','.join(map(str, seeds))}]"
    changed = [f"{k}={getattr(config, k)}" for k in ("epochs", "train", "test") if getattr(config, k) != _default(k)]
    lines = [
        "# The claims, on the sample",
        "",
        f"`{' '.join([command, *changed])}`, avssl {__version__}, "
        f"PyTorch {torch.__version__}, Python {platform.python_version()}, {available_cores()} cores, "
        f"{platform.machine()}.",
        "",
        "Joint label of the head chosen without classes, on the test split, in %; mean ± half of the 95 % interval "
        f"(Student's t) over {len(seeds)} seeds, of the videos and of the training alike. Differences are paired by "
        "seed. A claim holds where the interval of the difference is above the margin, which is zero unless said.",
    ]
    for name, experiment in wanted.items():
        lines += ["", f"## {name}", "", experiment.claim, "", *_table(config, experiment, seeds, figures)]
    return lines


def _default(name: str) -> Any:
    return asdict(ReproduceConfig())[name]


def _table(config: ReproduceConfig, experiment: Experiment, seeds: list[int], figures: Figures) -> list[str]:
    def values(arm: str, metric: str) -> list[float]:
        return [figures[training(config, experiment, arm, seed)][metric] for seed in seeds]

    arms = []
    for arm, words in experiment.arms.items():
        options = " ".join(f"`{w}`" for w in words)
        arms.append([arm, options, *(mean_of(values(arm, m)).percent() for m in METRICS)])
    lines = markdown_table(["arm", "options", *METRICS.values()], arms)
    if not experiment.compare:
        return lines
    pairs = []
    for c in experiment.compare:
        found = {m: difference(values(c.arm, m), values(c.than, m)) for m in METRICS}
        decided = verdict(found["nmi"], c.margin)
        cells = [found[m].percent("+") for m in METRICS]
        pairs.append([f"{c.arm} − {c.than}", *cells, f"{100 * c.margin:g}", f"**{decided}**"])
    return [*lines, "", *markdown_table(["difference", *METRICS.values(), "margin", "verdict by NMI"], pairs)]
