"""The trainings of the experiments: their options, their runs, and every figure of each."""

import hashlib
import math
import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from avssl.config import DataConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.config.run_folder import checkout
from avssl.core.atomic import read_json, write_json
from avssl.core.errors import UserError
from avssl.train.check_options import check
from experiments.jobs import avssl, device_words, word
from experiments.plan import CORE_SECONDS, TIMES, Arm, Claim, Plan, check_selection
from experiments.selection import candidates
from experiments.videos import Videos, check_videos

METRICS = {"NMI": "nmi", "AMI": "ami", "ARI": "ari", "accuracy": "accuracy"}
HEADS = {"": "chosen", ", best head": "oracle_by_nmi"}

EVALUATED = "evaluation core-seconds"
"""What measuring a training took, for the pilot."""

DETECTORS = {"own boxes": "detector", "true boxes": "detector_true"}
"""The detectors of a run, and their folders in it."""


@dataclass(frozen=True)
class Scale:
    """How much of what the plan says is trained: all of it, or a smoke test."""

    length: float = 1.0
    """Of the epochs or clips, and of the detectors' steps."""
    passes: int | None = None
    """Labelling passes; None: the plan's."""
    train: float = 1.0
    """Share of the training videos."""
    test: float = 1.0
    """Share of the test videos."""


@dataclass(frozen=True)
class Training:
    """One training, wanted by one claim or more: on which videos, with which options, from which seed."""

    videos: Videos
    words: tuple[str, ...]
    seed: int
    start: "Training | None" = None
    """Whose run it starts from."""

    @property
    def name(self) -> str:
        """The name of its run folder."""
        told = re.sub(r"[^\w-]", "-", "_".join(w.rpartition("=")[2] for w in self.words))
        unique = hashlib.sha256(repr(self).encode()).hexdigest()[:10]
        return f"{self.videos.of}_{told[:60]}_seed{self.seed}_{unique}"


Figures = dict[str, float]
"""By "<figure>/<metric>"; the untrained encoders' begin with "untrained, "."""


@dataclass(frozen=True)
class Done:
    """A training that is done: what was found, on which machine, with which commit and under which plan it was trained
    (empty where that is not known)."""

    figures: Figures
    machine: str = ""
    commit: str = ""
    plan: str = ""

    def has(self, wanted: "WantedFigures") -> bool:
        """Whether it has every figure that is wanted."""
        return wanted.figures <= {name.rpartition("/")[0] for name in self.figures}


def numbers(found: dict[str, float | None]) -> Figures:
    """Figures as JSON holds them, which has null for NaN."""
    return {name: math.nan if value is None else value for name, value in found.items()}


def training_of(plan: Plan, scale: Scale, claim: Claim, arm: Arm, of: str, seed: int) -> Training:
    """The training of an arm on a data set."""
    sample = {"train": 80, "test": 30, **claim.sample, **arm.sample}
    sample["train"] = max(2, round(scale.train * sample["train"]))
    sample["test"] = max(2, round(scale.test * sample["test"]))
    options = tuple(sorted(sample.items()))
    videos = Videos(of, options, seed, arm.noisy, tuple(arm.digits), arm.few, arm.joined)
    length = arm.longer * scale.length
    words = [*claim.train, *arm.train]
    if claim.clips:
        words.append(f"optim.clips={max(64, round(length * claim.clips))}")
    else:
        words.append(f"optim.epochs={max(1, round(length * (claim.epochs or plan.epochs)))}")
        if not any(w.startswith("labelling.passes=") for w in words):
            words.append(f"labelling.passes={scale.passes or plan.passes}")
    start = training_of(plan, scale, claim, claim.arms[arm.start], of, seed) if arm.start else None
    return Training(videos, tuple(words), seed, start)


def train_words(job: Training, start: str = "start") -> list[str]:
    """Options of `avssl train`, but where it reads and writes."""
    return [*(w.replace("{start}", f"'{start}'") for w in job.words), f"seed={job.seed}"]


def check_words(plan: Plan, claim: Claim, sets: list[str]) -> None:
    """Raise UserError for wrong words of a claim, and for sides that are not selected alike: before the first training,
    not after an hour."""
    counts: dict[str, int] = {}
    for name, arm in claim.arms.items():
        try:
            for of in sets:
                job = training_of(plan, Scale(), claim, arm, of, plan.first_seed)
                check_videos(job.videos)
            config = _composed(tuple(train_words(replace(job, seed=0))))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        counts[name] = candidates(arm.of, config, plan.starts)
    check_selection(claim, counts)


@cache
def _composed(words: tuple[str, ...]) -> TrainConfig:
    config = compose_config("train", TrainConfig, ["data.root=videos", *words])
    check(config)
    return config


@dataclass
class WantedFigures:
    """What the claims ask of a training."""

    tasks: set[str] = field(default_factory=set)
    untrained: bool = False
    figures: set[str] = field(default_factory=set)
    """The names of those that are needed."""
    steps: int = 600
    """Of detectors."""

    @property
    def evaluated(self) -> set[str]:
        """The tasks of `avssl evaluate`."""
        return self.tasks - {"locate", "detect"}


@dataclass(frozen=True)
class Place:
    """Where and how trainings are run."""

    out: Path
    device: str
    jobs: int
    machine: str
    plan: str
    """Digest of the plan."""
    starts: int
    """Of k-means."""

    def folder(self, job: Training) -> Path:
        """The run folder of a training."""
        return self.out / "runs" / job.name


def train_and_measure(place: Place, job: Training, wanted: WantedFigures, data: tuple[DataConfig, DataConfig]) -> Done:
    """Train, unless that is done, and measure what is wanted; all figures that there are.

    Args:
        place: where.
        job: the training.
        wanted: the figures.
        data: what to train on, and what to evaluate on.
    """
    folder = place.folder(job)
    folder.parent.mkdir(parents=True, exist_ok=True)
    cost, words = folder.with_suffix(".cost.json"), device_words(place.device, place.jobs)
    if not _read(cost):
        begun, made_with = folder.exists(), commit()
        start = str(place.folder(job.start)) if job.start else ""
        spent = avssl("train", [*train_words(job, start), *_where(data[0]), word("out", folder), *words], folder)
        # of a training that was stopped before, the last part alone was timed
        times = dict.fromkeys(TIMES) if begun else {CORE_SECONDS: spent.core_seconds, "seconds": spent.seconds}
        write_json(cost, {**times, "machine": place.machine, "commit": made_with, "plan": place.plan})
    columns = "direction,digit" if dict(job.videos.options).get("direction") else "class"
    probe = [
        word("run", folder), *_where(data[1]), f"columns=[{columns}]", "k=5", "temperature=0", f"seeds={place.starts}",
    ]  # fmt: skip
    for path, tasks in _evaluations(folder, wanted).items():
        if not _holds(_read(path), tasks):
            random = ["random=true"] if path.stem.endswith("_random") else []
            tasks_word = f"tasks=[{','.join(sorted(tasks))}]"
            _add_cost(cost, avssl("evaluate", [*probe, tasks_word, *random, *words], folder).core_seconds)
    if {"locate", "detect"} & wanted.tasks and not _read(folder / "locate" / "locate.json"):
        _add_cost(cost, avssl("locate", [word("run", folder), *words], folder).core_seconds)
    for boxes, name in DETECTORS.items() if "detect" in wanted.tasks else ():
        if not _read(folder / name / "detect.json"):
            true = [word("boxes", Path(data[1].root) / "boxes.csv")] if boxes == "true boxes" else []
            given = [word("run", folder), word("out", folder / name), f"steps={wanted.steps}", f"seed={job.seed}"]
            _add_cost(cost, avssl("detect", [*given, *true, *words], folder).core_seconds)
    done = done_of(place.out, job, wanted)
    assert done is not None
    return done


def _where(data: DataConfig) -> list[str]:
    return [word("data.root", data.root), word("data.index", data.index)]


def _add_cost(path: Path, seconds: float) -> None:
    """Add to what measuring took."""
    found = _read(path)
    write_json(path, {**found, EVALUATED: (found.get(EVALUATED) or 0.0) + seconds})


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
    if not wanted.evaluated:
        return {}
    needed = {folder / "evaluate" / "evaluate.json": wanted.evaluated}
    if wanted.untrained:
        needed[folder / "evaluate" / "evaluate_random.json"] = wanted.evaluated - {"robustness"}
    return needed


def done_of(out: Path, job: Training, wanted: WantedFigures) -> Done | None:
    """A training that is done, with all its figures; None for one that is not."""
    folder = out / "runs" / job.name
    cost = _read(folder.with_suffix(".cost.json"))
    needed = _evaluations(folder, wanted)
    evaluated = {path: _read(path) for path in needed}
    if not cost or not all(_holds(evaluated[path], tasks) for path, tasks in needed.items()):
        return None
    found: dict[str, float | None] = {f"training/{name}": cost.get(name) for name in (*TIMES, EVALUATED)}
    for path, of in evaluated.items():
        start = "untrained, " if path.stem.endswith("_random") else ""
        found |= {start + name: value for name, value in measured(of).items()}
    if {"locate", "detect"} & wanted.tasks:
        located = _read(folder / "locate" / "locate.json")
        detected = {boxes: _read(folder / name / "detect.json") for boxes, name in DETECTORS.items()}
        if not located or ("detect" in wanted.tasks and not all(detected.values())):
            return None
        found |= localised(located, detected)
    return Done(numbers(found), cost.get("machine", ""), cost.get("commit", ""), cost.get("plan", ""))


def localised(located: dict[str, Any], detected: dict[str, dict[str, Any]]) -> Figures:
    """The figures of a `locate.json`, and of the `detect.json` of detectors."""
    found = {}
    for row, of in located["measures"]["rows"].items():
        for key, text in (("ciou", "cIoU"), ("auc", "AUC"), ("ciou_adaptive", "adaptive cIoU")):
            found[f"heat map: {row}/{text}"] = of[key]["mean"]
    for boxes, detect in detected.items():
        if detect:
            found[f"detector: {boxes}/AP at IoU 0.5"] = detect["measures"]["class_ap"]["0.5"]
    return found


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
