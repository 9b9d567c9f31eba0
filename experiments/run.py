"""The experiments behind the methods' claims, on the sample, and the page of what came out."""

import math
import platform
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from rich.table import Table

from avssl.config import SampleConfig, TrainConfig
from avssl.config.compose import compose_config, nearest
from avssl.core.atomic import write_json, write_text
from avssl.core.cores import available_cores
from avssl.core.device import choose_device
from avssl.core.errors import UserError
from avssl.core.out_folder import claim_folder, folder_lock
from avssl.core.screen import Console
from avssl.core.untrusted import is_number, read_json
from experiments.experiment import Experiment, experiments, read_experiment
from experiments.jobs import jobs_at_a_time, run_parallel
from experiments.options import ReproduceConfig
from experiments.page import page
from experiments.plots import draw
from experiments.trained import (
    FIGURES,
    Done,
    Scale,
    Training,
    WantedFigures,
    done_of,
    make_videos,
    numbers,
    train_and_measure,
    train_words,
    training_of,
)
from experiments.verdicts import Results, claim_verdict, decide

PROFILES: dict[str, tuple[list[int], Scale]] = {
    "quick": ([0, 1], Scale(epochs=3, solves=3, train=0.2, test=0.4)),
    "full": ([0, 1, 2, 3, 4], Scale(epochs=40, solves=16, train=1.0, test=1.0)),
}
"""Seeds and scale of each."""

SEEN = frozenset(range(12))
"""Seeds whose figures were seen while the experiments were still being changed."""

PAGE, NUMBERS, PICTURES = "reproduce.md", "reproduce.json", "reproduce"


def run(config: ReproduceConfig) -> Results:
    """Train and compare as configured; writes `reproduce.md`, its pictures in `reproduce/`, and `reproduce.json` to
    `out`, and returns what was found.

    Repeating the call resumes it. Raises UserError for an unknown experiment, a folder that holds trainings of other
    settings, or a training that failed.
    """
    wanted = {name: read_experiment(name) for name in _names(config)}
    seeds, scale = scale_of(config)
    take_seeds(wanted, config)
    here = machine(choose_device(config.device))
    known = read_known(config.known, scale)
    _check(wanted, scale)
    console, out = Console(highlight=False), Path(config.out)
    claim_folder(out, "settings.json", "an experiment", {"profile": config.profile, **asdict(scale)})
    asked: dict[Training, WantedFigures] = {}
    results = Results(scale, seeds, wanted)
    for seed in results.all_seeds():
        for e in wanted.values():
            for arm in (arm for arm in e.arms.values() if seed in results.seeds_of(arm)):
                found = asked.setdefault(training_of(scale, e, arm, seed), WantedFigures(set()))
                found.tasks |= set(e.tasks)
                found.untrained |= arm.untrained
                found.figures.add(f"{'untrained, ' if arm.untrained else ''}{arm.figure}/")
    if config.report:
        there = {job: _done(out, job, asked[job], known) for job in asked}
        results.done = {job: done for job, done in there.items() if done is not None}
        results.missing = len(asked) - len(results.done)
        if not results.done:
            raise UserError(f"no training in {out} is done yet: give the command without report=true")
    else:
        with folder_lock(out):
            results.done = _train_all(config, scale, asked, known, console, here)
    write(results, config, out)
    table, decided = Table("claim", "verdict"), decide(results)
    for name, e in wanted.items():
        table.add_row(e.title, claim_verdict(decided[name]))
    console.print(table)
    console.print(f"page {out / PAGE}", soft_wrap=True, markup=False)
    return results


def take_seeds(wanted: dict[str, Experiment], config: ReproduceConfig) -> None:
    """Seeds that were added to some arms belong to the full profile alone; fresh seeds test a claim as it stands."""
    for e in wanted.values():
        if config.seeds and not SEEN & {*config.seeds}:
            e.changed = ""
        if config.seeds or config.profile != "full":
            for arm in e.arms.values():
                arm.more_seeds = []


def _train_all(
    config: ReproduceConfig,
    scale: Scale,
    asked: dict[Training, WantedFigures],
    known: dict[Training, Done],
    console: Console,
    here: str,
) -> dict[Training, Done]:
    """What is asked for, several trainings at a time."""
    out = Path(config.out)
    jobs = jobs_at_a_time(config.jobs, config.device)
    console.print(f"{len(asked)} trainings, {jobs} at a time; writing to {out}", soft_wrap=True, markup=False)
    making: dict[str, Lock] = {t.data: Lock() for t in asked}

    def train(job: Training) -> Done:
        done = _done(out, job, asked[job], known)
        if done is not None:
            return done
        with making[job.data]:
            data = make_videos(out, job, 0 if jobs == 1 else 1)
        return train_and_measure(out, scale, job, asked[job], data, config.device, jobs, here)

    return run_parallel(train, asked, jobs)


def _done(out: Path, job: Training, wanted: WantedFigures, known: dict[Training, Done]) -> Done | None:
    """As known, where that has all that is wanted, or as it lies in `out`; None where it is still to do."""
    there = known.get(job)
    return there if there is not None and there.has(wanted) else done_of(out, job, wanted)


def _check(wanted: dict[str, Experiment], scale: Scale) -> None:
    """UserError for a wrong word of an experiment: told now, not after an hour."""
    samples: dict[str, tuple[str, Any]] = {}
    checked: set[Training] = set()  # composing takes time, and many arms are figures of one training
    for name, experiment in wanted.items():
        for arm in experiment.arms.values():
            job = training_of(scale, experiment, arm, 0)
            try:
                if arm.figure not in FIGURES:
                    raise UserError(f"no figure {arm.figure}{nearest(arm.figure, sorted(FIGURES))}")
                if job.data not in samples:
                    compose_config("sample", SampleConfig, [f"{k}={v}" for k, v in job.sample])
                if job not in checked:
                    compose_config("train", TrainConfig, ["data.root=x", *train_words(scale, job)])
                    checked.add(job)
            except UserError as error:
                raise UserError(f"{experiments()[name]}: {error}") from None
            other, sample = samples.setdefault(job.data, (name, job.sample))
            if sample != job.sample:
                raise UserError(
                    f"the experiments {other} and {name} ask for videos of the same kind, but of other numbers of them "
                    "(train, test): they share a folder"
                )


def write(results: Results, config: ReproduceConfig, out: Path) -> None:
    """The page, its pictures, and every figure."""
    pictures = {name: path.relative_to(out) for name, path in draw(results, out / PICTURES).items()}
    write_text(out / PAGE, "\n".join(page(results, command(config), pictures)) + "\n")
    trainings = [{**asdict(t), "sample": dict(t.sample), **asdict(done)} for t, done in results.done.items()]
    decided = decide(results)
    verdicts = {name: claim_verdict(of) for name, of in decided.items()}
    comparisons = {name: [asdict(d) for d in of] for name, of in decided.items()}
    found = {"scale": results.scale, "verdicts": verdicts, "comparisons": comparisons, "trainings": trainings}
    write_json(out / NUMBERS, found)


def machine(device: torch.device) -> str:
    """What computes here, in words."""
    parts = [f"PyTorch {torch.__version__}", f"Python {platform.python_version()}", _processor()]
    parts.append(f"{available_cores()} cores")
    return ", ".join(parts + ([torch.cuda.get_device_name(device)] if device.type == "cuda" else []))


def _processor() -> str:
    """The processor's name, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.machine()


def read_known(files: list[str], scale: Scale) -> dict[Training, Done]:
    """The trainings that `reproduce.json` files hold. Each tells its own epochs; UserError for a file of another scale
    otherwise, or that is none."""
    found: dict[Training, Done] = {}
    for file in files:
        try:
            held = read_json(file)
            theirs, trainings = held["scale"], held["trainings"]
            for t in trainings:
                sample = tuple(sorted(t["sample"].items()))
                job = Training(sample, t["experiment"], tuple(t["words"]), t["seed"], t["epochs"])
                if not all(x is None or is_number(x) for x in t["figures"].values()):
                    raise TypeError("figures are numbers")
                found[job] = Done(numbers(t["figures"]), str(t.get("machine", "")), str(t.get("commit", "")))
            changed = [k for k, v in asdict(scale).items() if k != "epochs" and theirs.get(k) != v]
        except (OSError, UserError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"known={file} is missing, or no reproduce.json of this command") from None
        if changed:
            k = changed[0]
            raise UserError(f"known={file} has trainings with {k}={str(theirs.get(k))[:60]}, not {asdict(scale)[k]}")
    return found


def scale_of(config: ReproduceConfig) -> tuple[list[int], Scale]:
    """The profile's seeds and scale, but for what is asked for."""
    seeds, scale = PROFILES[config.profile]
    changed: dict[str, Any] = {k: getattr(config, k) for k in asdict(scale) if getattr(config, k)}
    if not all(map(math.isfinite, changed.values())):
        raise UserError(f"train={config.train:g} test={config.test:g}: choose shares of the videos, as 0.5")
    return list(dict.fromkeys(config.seeds)) or seeds, Scale(**{**asdict(scale), **changed})


def command(config: ReproduceConfig) -> str:
    """What makes the same page, where its folder holds the same and the known files are named."""
    words = [f"profile={config.profile}"]
    words += [f"{k}=[{','.join(map(str, x))}]" for k in ("experiments", "seeds") if (x := getattr(config, k))]
    words += [f"{k}={x:g}" for k in ("epochs", "solves", "train", "test") if (x := getattr(config, k))]
    words += ["known=[…]"] if config.known else []
    words += ["report=true"] if config.report else []
    return " ".join(["python -m experiments reproduce", *words])


def _names(config: ReproduceConfig) -> list[str]:
    """In the order of the page. UserError for an unknown one."""
    for name in config.experiments:
        read_experiment(name)
    return [name for name in experiments() if name in config.experiments or not config.experiments]
