"""The trainings of the experiments: their videos, their runs, and every figure of each."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avssl.config import DataConfig, IndexConfig, SampleConfig
from avssl.config.compose import compose_config
from avssl.config.run_folder import checkout
from avssl.core.atomic import read_json, write_json
from avssl.core.errors import UserError
from avssl.evaluate.robustness import CORRUPTIONS
from avssl.sample.plan import check_options
from avssl.sample.videos import make_sample
from avssl.videos.index import index_videos
from experiments.experiment import Arm, Experiment
from experiments.jobs import avssl, device_words, word

METRICS = {"NMI": "nmi", "AMI": "ami", "ARI": "ari", "accuracy": "accuracy"}
HEADS = {"": "chosen", ", best head": "oracle_by_nmi"}
CORE_SECONDS = "core-seconds"
TIMES = (CORE_SECONDS, "seconds")
"""Metrics of a training, of no figure: no shares."""
EVIDENCE = ("joint", "video", "audio")
FIGURES = {
    *(f"{evidence}{heads}" for evidence in EVIDENCE for heads in (*HEADS, ", all heads")),
    *(f"{damage}: {evidence}" for damage in CORRUPTIONS for evidence in EVIDENCE),
    *(f"{of}, {view}" for of in ("k-means", "features") for view in ("both", "video", "audio")),
    *(f"k-means, {view}, lowest inertia" for view in ("both", "video", "audio")),
    "embedding",
}
"""What an arm may be measured by: see `measured`."""


@dataclass(frozen=True)
class Scale:
    """How much each training is given: a profile, or what is asked for beside it."""

    epochs: int
    solves: int
    train: float
    """Share of the experiment's training videos."""
    test: float
    """Share of its test videos."""


@dataclass(frozen=True)
class Training:
    """One training, wanted by one experiment or more: on which sample, with which options, from which seed."""

    sample: tuple[tuple[str, Any], ...]
    experiment: str
    words: tuple[str, ...]
    seed: int
    epochs: int

    @property
    def data(self) -> str:
        """The name of its videos' folder."""
        parts = [f"{k}-{v}" for k, v in self.sample if k not in ("train", "test")] or ["plain"]
        return _name("_".join([*parts, f"seed{self.seed}"]))

    @property
    def name(self) -> str:
        """The name of its run folder."""
        words = [re.sub(r"^[\w.]*?(\w+)=", r"\1-", w) for w in self.words] or ["default"]
        return _name("_".join([self.data, self.experiment, *words, f"epochs-{self.epochs}"]))


def _name(text: str) -> str:
    return re.sub(r"[^\w-]", "-", text)  # no dots: what is beside a folder has its name and a suffix


Figures = dict[str, float]
"""By "<figure>/<metric>"; the untrained encoders' begin with "untrained, "."""


@dataclass(frozen=True)
class Done:
    """A training that is done: what was found, on which machine and with which commit it was trained (empty where that
    is not known)."""

    figures: Figures
    machine: str = ""
    commit: str = ""

    def has(self, wanted: "WantedFigures") -> bool:
        """Whether it has every figure that is wanted."""
        return all(any(name.startswith(start) for name in self.figures) for start in wanted.figures)


def numbers(found: dict[str, float | None]) -> Figures:
    """Figures as JSON holds them, which has null for NaN."""
    return {name: math.nan if value is None else value for name, value in found.items()}


def training_of(scale: Scale, experiment: Experiment, arm: Arm, seed: int) -> Training:
    """The training of an arm."""
    default = SampleConfig()
    sample = {"train": default.train, "test": default.test, **experiment.sample, **arm.sample}
    sample["train"] = max(2, round(scale.train * sample["train"]))
    sample["test"] = max(2, round(scale.test * sample["test"]))
    epochs = max(1, round(arm.longer * scale.epochs))
    return Training(tuple(sorted(sample.items())), arm.experiment, tuple(arm.train), seed, epochs)


def train_words(scale: Scale, job: Training) -> list[str]:
    """Options of `avssl train`, but where it reads and writes."""
    given = [f"optim.epochs={job.epochs}", f"labelling.passes={scale.solves}", f"seed={job.seed}"]
    return [f"experiment={job.experiment}", *given, *job.words]


def make_videos(out: Path, job: Training, workers: int) -> DataConfig:
    """The training's videos, made and indexed unless they are there."""
    root = out / "samples" / job.data
    sample = compose_config("sample", SampleConfig, [f"{k}={v}" for k, v in job.sample])
    sample.out, sample.seed, sample.workers = str(root), job.seed, workers
    check_options(sample)
    make_sample(sample)
    data = DataConfig(root=str(root), name="sample", index=str(root) + "_index")
    index_videos(IndexConfig(data, workers=workers))
    return data


@dataclass
class WantedFigures:
    """What the experiments ask of a training."""

    tasks: set[str]
    untrained: bool = False
    figures: set[str] = field(default_factory=set)
    """How the names of those that are needed begin."""


def train_and_measure(
    out: Path,
    scale: Scale,
    job: Training,
    wanted: WantedFigures,
    data: DataConfig,
    device: str,
    jobs: int,
    machine: str,
) -> Done:
    """Train, unless that is done, and measure what is wanted; all figures that there are."""
    folder = out / "runs" / job.name
    folder.parent.mkdir(exist_ok=True)
    cost, words = folder.with_suffix(".cost.json"), device_words(device, jobs)
    if not _read(cost):
        begun, made_with = folder.exists(), commit()
        where = [word("data.root", data.root), word("data.index", data.index), word("out", folder)]
        spent = avssl("train", [*train_words(scale, job), *where, *words], folder)
        # of a training that was stopped before, the last part alone was timed
        times = dict.fromkeys(TIMES) if begun else {CORE_SECONDS: spent.core_seconds, "seconds": spent.seconds}
        write_json(cost, {**times, "machine": machine, "commit": made_with})
    columns = "direction,digit" if dict(job.sample).get("direction") else "class"
    probe = [word("run", folder), f"columns=[{columns}]", "k=5", "temperature=0", *words]
    for path, tasks in _evaluations(folder, wanted).items():
        if not _holds(_read(path), tasks):
            random = ["random=true"] if path.stem.endswith("_random") else []
            avssl("evaluate", [*probe, f"tasks=[{','.join(sorted(tasks))}]", *random], folder)
    done = done_of(out, job, wanted)
    assert done is not None
    return done


def commit() -> str:
    """Of the code that runs, shortened, and whether that was changed; empty outside a checkout."""
    made = checkout()
    return f"{made['commit'][:10]}{' with changes' if made['changed'] else ''}" if made else ""


def _read(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where it is missing or damaged: it is made again."""
    try:
        return read_json(path)
    except UserError:
        return {}


def _holds(evaluated: dict[str, Any], tasks: set[str]) -> bool:
    return {"columns", *tasks} <= evaluated.keys()


def _evaluations(folder: Path, wanted: WantedFigures) -> dict[Path, set[str]]:
    """The files of `avssl evaluate` in a run folder that are needed, and of which tasks."""
    needed = {folder / "evaluate" / "evaluate.json": wanted.tasks}
    if wanted.untrained:
        needed[folder / "evaluate" / "evaluate_random.json"] = wanted.tasks - {"robustness"}
    return needed


def done_of(out: Path, job: Training, wanted: WantedFigures) -> Done | None:
    """A training that is done, with all its figures; None for one that is not."""
    folder = out / "runs" / job.name
    cost = _read(folder.with_suffix(".cost.json"))
    needed = _evaluations(folder, wanted)
    evaluated = {path: _read(path) for path in needed}
    if not cost or not all(_holds(evaluated[path], tasks) for path, tasks in needed.items()):
        return None
    found: dict[str, float | None] = {f"training/{name}": cost.get(name) for name in TIMES}
    for path, of in evaluated.items():
        start = "untrained, " if path.stem.endswith("_random") else ""
        found |= {start + name: value for name, value in measured(of).items()}
    return Done(numbers(found), cost.get("machine", ""), cost.get("commit", ""))


def measured(evaluated: dict[str, Any]) -> Figures:
    """The figures of an `evaluate.json`, of the first column for clusters and of each for probes."""
    first, found = evaluated["columns"][0], {}
    clustering = (evaluated.get("clustering") or {}).get(first, {"kmeans": {}})
    for evidence, of in clustering.get("labels", {}).get("evidence", {}).items():
        for name, key in HEADS.items():
            for metric, short in METRICS.items():
                if of[key] is not None:
                    found[f"{evidence}{name}/{metric}"] = of[key]["metrics"][short]
        for metric, short in METRICS.items():
            found[f"{evidence}, all heads/{metric}"] = of["mean"][short]
    for view, of in clustering["kmeans"].items():
        for metric, short in METRICS.items():
            found[f"k-means, {view}/{metric}"] = of[short]["mean"]
            if "lowest_inertia" in of[short]:  # evaluations before it was recorded have the mean alone
                found[f"k-means, {view}, lowest inertia/{metric}"] = of[short]["lowest_inertia"]
    for damage, by_evidence in (evaluated.get("robustness") or {}).get(first, {}).items():
        for evidence, metrics in by_evidence.items():
            for metric, short in METRICS.items():
                found[f"{damage}: {evidence}/{metric}"] = metrics[short]
    for task, text in (("knn", "5-NN"), ("linear", "linear")):
        for view, by_column in (evaluated.get(task) or {}).items():
            for column, accuracy in by_column.items():
                found[f"features, {view}/{column}, {text}"] = accuracy
    for column, of in (evaluated.get("cross_modal") or {}).items():
        for direction, text in (("video_audio", "video → audio"), ("audio_video", "audio → video")):
            found[f"embedding/{column}, {text}"] = of[f"{direction}_others"]
    return found
