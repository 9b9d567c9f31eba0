"""The experiments behind the methods' claims, as `plan.yaml` says, and the page of what came out."""

import platform
from dataclasses import asdict
from pathlib import Path
from threading import Lock

import torch
from rich.table import Table

from avssl.config import DataConfig
from avssl.core.atomic import write_json, write_text
from avssl.core.cores import available_cores
from avssl.core.device import choose_device
from avssl.core.errors import UserError
from avssl.core.out_folder import claim_folder, folder_lock
from avssl.core.screen import Console
from avssl.core.untrusted import is_number, read_json
from experiments.jobs import jobs_at_a_time, run_parallel
from experiments.options import ReproduceConfig, check_claims
from experiments.page import page
from experiments.plan import PLAN, Plan, read_plan
from experiments.plots import draw
from experiments.provenance import changed_claims, check_same, freeze, frozen_plan, plan_digest, plan_history
from experiments.trained import (
    Done,
    Place,
    Scale,
    Training,
    WantedFigures,
    check_words,
    commit,
    done_of,
    numbers,
    train_and_measure,
)
from experiments.verdicts import Results, by_set, claim_verdict, decide
from experiments.videos import make_videos

QUICK = Scale(length=0.075, passes=3, train=0.2, test=0.4)
"""A smoke test of everything."""

QUICK_SEEDS = [0, 1]

PAGE, NUMBERS, PICTURES = "reproduce.md", "reproduce.json", "reproduce"

Asked = dict[Training, WantedFigures]


def run(config: ReproduceConfig) -> Results:
    """Train and compare as planned; writes `reproduce.md`, its pictures in `reproduce/`, and `reproduce.json` to `out`,
    and returns what was found.

    Repeating the call resumes it. Raises UserError for an unknown claim, trainings of several commits or machines in
    what decides, or a training that failed.
    """
    check_claims(config)
    plan, out = read_plan(), Path(config.out)
    frozen = frozen_plan(out, plan)
    results = planned(config, plan, frozen)
    for name in results.claims:
        try:
            check_words(plan, plan.claims[name], results.sets(name))
        except UserError as error:
            raise UserError(f"{PLAN.name}: {name}: {error}") from None
    known = read_known(config.known)
    claim_folder(out, "settings.json", "an experiment", {"of": "reproduce"})
    here = machine(choose_device(config.device))
    asked = asked_of(results)
    results.done = {job.name: done for job in asked if (done := _done(out, job, asked[job], known)) is not None}
    results.missing = len(asked) - len(results.done)
    check_sources(config, results, Done({}, here, commit(), plan_digest(out)))
    if config.report:
        if not results.done:
            raise UserError(f"no training in {out} is done yet: give the command without report=true")
    else:
        with folder_lock(out):
            if results.exploratory.keys() < {*results.claims}:
                freeze(out)
            train_all(config, plan, asked, known, here, results)
    write(results, config, out)
    show(results, out)
    return results


def planned(config: ReproduceConfig, plan: Plan, frozen: Plan) -> Results:
    """What the command looks at, and which of it decides nothing."""
    names = [
        name for name in plan.claims
        if name in config.claims or (not config.claims and name not in plan.not_decidable)
    ]  # fmt: skip
    quick = config.profile == "quick"
    seeds = config.seeds or (QUICK_SEEDS if quick else [])
    exploratory = changed_claims(plan, frozen)
    why = "a smoke test" if quick else "other seeds than the plan's" if seeds else ""
    why = why or ("as asked for" if config.exploratory else "")
    exploratory |= dict.fromkeys(plan.not_decidable, "the pilot says that it cannot be decided here")
    exploratory |= {name: why for name in names if why}
    return Results(
        plan, QUICK if quick else Scale(), names, {n: seeds or plan.seeds_of(plan.claims[n]) for n in names},
        bool(config.voices), {name: reason for name, reason in exploratory.items() if name in names},
        family=sum(1 for _ in frozen.deciding(bool(config.voices))),
    )  # fmt: skip


def check_sources(config: ReproduceConfig, results: Results, here: Done) -> None:
    """Raise UserError where what decides is not of one commit, machine and plan; `here` is what is yet to be done."""
    for name in results.claims:
        if name not in results.exploratory:
            complete = config.report or {t.name for t in jobs_of(results, name)} <= results.done.keys()
            check_same(name, [*results.of_claim(name), *([] if complete else [here])])


def jobs_of(results: Results, name: str) -> list[Training]:
    """The trainings of a claim, those that others start from first."""
    claim = results.claim(name)
    found = [
        results.training(name, arm, of, seed)
        for seed in results.seeds[name] for of in results.sets(name) for arm in claim.arms.values()
    ]  # fmt: skip
    return list(dict.fromkeys(sorted(found, key=lambda job: job.start is not None)))


def asked_of(results: Results) -> Asked:
    """The trainings of all claims, and what is wanted of each."""
    asked: Asked = {}
    for name in results.claims:
        claim = results.claim(name)
        for arm_name, arm in claim.arms.items():
            figures = {claim.figure(arm, select) for select in claim.selections(arm_name)}
            for of in results.sets(name):
                for seed in results.seeds[name]:
                    found = asked.setdefault(results.training(name, arm, of, seed), WantedFigures())
                    found.tasks |= {*claim.tasks}
                    found.untrained |= arm.untrained
                    found.figures |= figures
                    found.steps = max(20, round(results.scale.length * claim.steps))
    return asked


def train_all(
    config: ReproduceConfig, plan: Plan, asked: Asked, known: dict[str, Done], here: str, results: Results
) -> None:
    """What is asked for, several trainings at a time; the results get it."""
    out, console = Path(config.out), Console(highlight=False)
    jobs = jobs_at_a_time(config.jobs, config.device)
    place = Place(out, config.device, jobs, here, plan_digest(out), plan.starts)
    console.print(f"{len(asked)} trainings, {jobs} at a time; writing to {out}", soft_wrap=True, markup=False)
    making: dict[str, Lock] = {job.videos.whole.name: Lock() for job in asked}

    def train(job: Training) -> Done:
        done = _done(out, job, asked[job], known)
        if done is not None:
            return done
        with making[job.videos.whole.name]:
            data: tuple[DataConfig, DataConfig] = make_videos(out, job.videos, config.voices, 0 if jobs == 1 else 1)
        return train_and_measure(place, job, asked[job], data)

    for first in (True, False):  # what others start from comes first
        part = [job for job in asked if (job.start is None) == first]
        if part:
            results.done |= {job.name: done for job, done in run_parallel(train, part, jobs).items()}
    results.missing = len(asked) - len(results.done)


def _done(out: Path, job: Training, wanted: WantedFigures, known: dict[str, Done]) -> Done | None:
    """As known, where that has all that is wanted, or as it lies in `out`; None where it is still to do."""
    there = known.get(job.name)
    return there if there is not None and there.has(wanted) else done_of(out, job, wanted)


def write(results: Results, config: ReproduceConfig, out: Path) -> None:
    """The page, its pictures, and every figure."""
    pictures = {name: path.relative_to(out) for name, path in draw(results, out / PICTURES).items()}
    lines = page(results, command(config), pictures, plan_history(), plan_digest(out))
    write_text(out / PAGE, "\n".join(lines) + "\n")
    decided = decide(results)
    verdicts = {name: by_set(decided, name) for name in results.claims if name not in results.exploratory}
    trainings = {name: asdict(done) for name, done in sorted(results.done.items())}
    found = {"plan": plan_digest(out), "verdicts": verdicts, "comparisons": decided, "trainings": trainings}
    write_json(out / NUMBERS, found)


def show(results: Results, out: Path) -> None:
    """The verdicts, and where the page is."""
    console, table, decided = Console(highlight=False), Table("claim", "verdict"), decide(results)
    for name in results.claims:
        exploratory = name in results.exploratory
        told = "exploratory" if exploratory else claim_verdict(by_set(decided, name))
        table.add_row(results.claim(name).title, told)
    console.print(table)
    console.print(f"page {out / PAGE}", soft_wrap=True, markup=False)


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


def read_known(files: list[str]) -> dict[str, Done]:
    """The trainings that `reproduce.json` files hold, by name. UserError for a file that is none."""
    found: dict[str, Done] = {}
    for file in files:
        try:
            for name, held in read_json(file)["trainings"].items():
                if not all(x is None or is_number(x) for x in held["figures"].values()):
                    raise TypeError("figures are numbers")
                told = [str(held.get(key, "")) for key in ("machine", "commit", "plan")]
                found[name] = Done(numbers(held["figures"]), *told)
        except (OSError, UserError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"known={file} is missing, or no reproduce.json of this command") from None
    return found


def command(config: ReproduceConfig) -> str:
    """What makes the same page, where its folder holds the same and the known files are named."""
    words = [f"profile={config.profile}"] if config.profile != "full" else []
    words += [f"{k}=[{','.join(map(str, x))}]" for k in ("claims", "seeds") if (x := getattr(config, k))]
    words += ["voices=…"] if config.voices else []
    words += ["exploratory=true"] if config.exploratory else []
    words += ["known=[…]"] if config.known else []
    words += ["report=true"] if config.report else []
    return " ".join(["python -m experiments reproduce", *words])
