"""What every objective learns of the digit and of the direction, beside encoders that were not trained.

All methods see the same videos of the sample as often, with the same encoders, clips, optimiser and batch. What is
measured, with which seeds and clips, and when a method counts as better than untrained encoders was fixed before the
first run: see `COMMON`, `METHODS`, the defaults of the options, and `objectives_page.better`.
"""

import json
import os
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.csv as csv
from rich.markdown import Markdown

from avssl.config import DataConfig, IndexConfig, SampleConfig, TrainConfig
from avssl.config.compose import compose_config, nearest
from avssl.core.atomic import read_json, write_json, write_text
from avssl.core.errors import UserError
from avssl.core.out_folder import claim_folder, folder_lock
from avssl.core.screen import Console
from avssl.core.untrusted import is_number
from avssl.sample.videos import make_sample
from avssl.videos.index import index_videos
from experiments.jobs import avssl, device_words, jobs_at_a_time, run_parallel, word
from experiments.objectives_page import COLUMNS, FALLING, REFERENCE, UNTRAINED, Found, page
from experiments.options import ObjectivesConfig
from experiments.trained import commit, measured

BATCH = 32

COMMON = ("experiment=tiny", f"optim.batch={BATCH}")
"""Of every method: the encoders, the clips and the optimiser."""

CLUSTERS = ("labelling.clusters=10", "labelling.heads=6", "labelling.passes=16")

METHODS: dict[str, tuple[str, ...]] = {
    UNTRAINED: ("task=gdt", "contrast=preset_1"),
    REFERENCE: ("objective=simclr",),
    "gdt": ("task=gdt", "contrast=preset_1"),
    "gdt, reversal distinct": ("task=gdt", "contrast=preset_2"),
    "gdt, reversal invariant": ("task=gdt", "contrast=preset_3"),
    "sela": ("task=selavi", "labelling=sela_video", *CLUSTERS),
    "selavi": ("task=selavi", *CLUSTERS),
    "deepcluster": ("task=selavi", "labelling=deepcluster", *CLUSTERS),
    "xdc": ("task=selavi", "labelling=xdc", *CLUSTERS),
    **{
        name: (f"objective={name}",)
        for name in (
            "simclr_av", "rotation", "arrow", "pace", "context", "order", "sync", "npid", "moco", "pcl", "swav", "dino",
            "jepa",
        )
    },
    FALLING: ("objective=arrow",),
    "contrast + labelling + rotation": (
        "task=none", "contrast=preset_1", "loss.contrast=1", "loss.labelling=1", "loss.rotation=0.1", *CLUSTERS,
    ),
}  # fmt: skip
"""Options of each, beside `COMMON`."""


def run(config: ObjectivesConfig) -> str:
    """Train and probe as configured; writes `objectives.md` and `objectives.json` to `out`, and returns the page.

    Repeating the call resumes it: a run that is measured is not trained again. Raises UserError for an unknown method,
    a folder that holds another experiment, or a training that failed.
    """
    methods, seeds = chosen(config.methods), config.seeds
    words = {name: train_words(name, config.clips) for name in methods}
    for name, given in words.items():
        check(name, given)
    console, out = Console(highlight=False), Path(config.out)
    settings = {k: v for k, v in asdict(config).items() if k in ("clips", "train", "test")}
    claim_folder(out, "settings.json", "an experiment", settings)
    with folder_lock(out):
        data = make_videos(config, out)
        jobs = jobs_at_a_time(config.jobs, config.device)
        wanted = [(name, seed) for seed in seeds for name in methods]
        console.print(f"{len(wanted)} runs, {jobs} at a time; writing to {out}", soft_wrap=True, markup=False)
        device = device_words(config.device, jobs)
        found: Found = run_parallel(
            lambda job: train_and_measure(out, *job, words[job[0]], data, device), wanted, jobs
        )  # fmt: skip
    text = "\n".join(page(found, methods, seeds, command(config), settings)) + "\n"
    write_text(out / "objectives.md", text)
    write_json(out / "objectives.json", [{"method": m, "seed": s, **of} for (m, s), of in found.items()])
    console.print(Markdown(text))
    console.print(f"page {out / 'objectives.md'}", soft_wrap=True, markup=False)
    return text


def chosen(names: list[str]) -> list[str]:
    """The methods to run, in the order of the page: those named and what they are compared with; all for no names."""
    for name in names:
        if name not in METHODS:
            raise UserError(f"methods={name} is not one of {', '.join(METHODS)}{nearest(name, list(METHODS))}")
    return [name for name in METHODS if name in (*names, UNTRAINED, REFERENCE) or not names]


def train_words(name: str, clips: int) -> list[str]:
    """Options of `avssl train` for a method, but where it reads and writes, and its seed."""
    return [*COMMON, *METHODS[name], f"optim.clips={BATCH if name == UNTRAINED else clips}"]


def check(name: str, words: list[str]) -> None:
    """Raise UserError for a method whose options are not valid."""
    try:
        compose_config("train", TrainConfig, ["data.root=videos", *words])
    except UserError as error:
        raise UserError(f"the method {name}: {error}") from None


def make_videos(config: ObjectivesConfig, out: Path) -> DataConfig:
    """The videos of all runs, made and indexed unless they are there: three clips long, as `order` needs."""
    sample = SampleConfig(
        out=str(out / "sample"), train=config.train, test=config.test, direction=True, min_seconds=3.1, max_seconds=3.5
    )
    make_sample(sample)
    data = DataConfig(root=sample.out, name="sample", index=str(out / "index"))
    index_videos(IndexConfig(data))
    index_videos(IndexConfig(falling(data)))
    return data


def falling(data: DataConfig) -> DataConfig:
    """The training videos that fall, linked to a folder of their own."""
    root = Path(data.root)
    part = root.parent / "falling"
    table = csv.read_csv(root / "labels.csv").select(["path", "split", "direction"]).to_pylist()
    for video in table:
        if (video["split"], video["direction"]) == ("train", "falls") and not (there := part / video["path"]).exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            os.link(root / video["path"], there)
    return DataConfig(root=str(part), name="falling", index=str(root.parent / "index_falling"))


def train_and_measure(
    out: Path, name: str, seed: int, words: list[str], data: DataConfig, device: list[str]
) -> dict[str, Any]:
    """One run and its figures: accuracies, NMI and seconds of a step; read where they are there already."""
    folder = out / "runs" / f"{name.replace(' + ', '_').replace(', ', '_').replace(' ', '_')}_seed{seed}"
    figures = folder.with_suffix(".json")
    if figures.is_file():
        done = read_json(figures)
        if done["words"] != words:
            raise UserError(f"{folder} was trained with {' '.join(done['words'])}: remove it and {figures}")
        return done
    folder.parent.mkdir(exist_ok=True)
    trained_on = falling(data) if name == FALLING else data
    where = [word("data.root", trained_on.root), word("data.index", trained_on.index), word("out", folder)]
    made_with = commit()
    avssl("train", [*words, f"seed={seed}", *where, *device], folder)
    random = ["random=true"] if name == UNTRAINED else []
    probe = [
        word("run", folder), word("data.root", data.root), word("data.index", data.index),
        f"columns=[{','.join(COLUMNS)}]", "tasks=[linear,knn,clustering]", "k=5", "temperature=0", "seeds=1",
    ]  # fmt: skip
    avssl("evaluate", [*probe, *random, *device], folder)
    evaluated = read_json(folder / "evaluate" / f"evaluate{'_random' if random else ''}.json")
    found: dict[str, Any] = {"words": words, "commit": made_with, "figures": scores(evaluated, bool(random))}
    found["step_seconds"] = None if random else step_seconds(folder)
    write_json(figures, found)
    return found


def scores(evaluated: dict[str, Any], random: bool) -> dict[str, float]:
    """The accuracies, by "<view>/<column>, <probe>", and the NMI of the labels, where there are any."""
    found = measured(evaluated)
    kept = {name.removeprefix("features, "): x for name, x in found.items() if name.startswith("features, ")}
    kept = {name: x for name, x in kept.items() if name.split("/")[0] in ("video", "audio")}
    nmi = [found[f"{evidence}/NMI"] for evidence in ("joint", "video", "audio") if f"{evidence}/NMI" in found]
    return kept | ({"NMI": nmi[0]} if nmi and not random else {})


def step_seconds(folder: Path, batch: int = BATCH) -> float:
    """The median seconds of a step, over the lines of metrics.jsonl but the first, which has the start in it."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rates = [line["videos_per_second"] for line in lines if line["kind"] == "train"]
    rates = [rate for rate in rates[1:] or rates if is_number(rate) and rate > 0]
    return batch / statistics.median(rates)


def command(config: ObjectivesConfig) -> str:
    """What makes the same page."""
    default = ObjectivesConfig()
    changed = {k: x for k, x in asdict(config).items() if k not in ("out", "device") and x != getattr(default, k)}
    words = [f"{k}=[{','.join(map(str, x))}]" if isinstance(x, list) else f"{k}={x}" for k, x in changed.items()]
    return " ".join(["python -m experiments objectives", *words])
