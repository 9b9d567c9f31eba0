"""Does a start help? Encoders trained on digits 0 to 4 of the sample start on digits 5 to 9, with few videos of each.

What is measured, by how much it has to differ and with which seeds was fixed before any training: see `SEEDS`,
`MARGIN` and `ARMS`. The figure of a training is the NMI of its joint labels of held-out videos, of the head that is
chosen without classes.
"""

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markdown import Markdown

from avssl.config import DataConfig, IndexConfig, SampleConfig
from avssl.core.atomic import write_json, write_text
from avssl.core.out_folder import claim_folder
from avssl.core.report import markdown_table
from avssl.core.screen import Console
from avssl.core.untrusted import read_json
from avssl.metrics.intervals import mean_of
from avssl.runs.summary import chosen_metrics
from avssl.sample.videos import make_sample
from avssl.videos.index import index_videos
from experiments.jobs import avssl, device_words, jobs_at_a_time, run_parallel, word
from experiments.options import TransferConfig
from experiments.significance import holm, paired_p, verdict

SEEDS = (20, 21, 22)
"""Of the videos and of the trainings. No training with them was seen while the experiment was written."""

MARGIN = 0.05
"""How much higher the mean NMI of an arm has to be than that of `SCRATCH`, tested by a paired t-test over the seeds,
Holm-adjusted for the arms."""

SCRATCH = "from scratch"

ARMS: dict[str, list[str]] = {
    SCRATCH: [],
    "started": ["model.init={source}"],
    "started, frozen": ["model.init={source}", "model.freeze=[video,audio]"],
    "started, probe then finetune": [
        "model.init={source}", "optim.encoder_start=0.2", "optim.encoder_lr=0.1", "optim.layer_decay=0.75",
    ],
}  # fmt: skip
"""Options beside `experiment=selavi_sample` with K = 5; the same steps for each."""

Scores = dict[tuple[str, int], float]
"""NMI by arm and seed."""


def run(config: TransferConfig) -> str:
    """Train and compare as configured; writes `transfer.md` and `transfer.json` to `out`, and returns the table.

    Repeating the call resumes it. Raises UserError for a folder that holds another experiment, or a training that
    failed.
    """
    console, out = Console(highlight=False), Path(config.out)
    settings = {k: v for k, v in asdict(config).items() if k not in ("out", "seeds", "jobs", "device")}
    claim_folder(out, "settings.json", "an experiment", settings)
    seeds = list(dict.fromkeys(config.seeds)) or [*SEEDS]
    jobs = jobs_at_a_time(config.jobs, config.device)
    data = {seed: make_halves(config, out, seed) for seed in seeds}
    run_parallel(lambda seed: _train(config, out, "source", seed, data[seed][0], jobs), seeds, jobs)
    wanted = [(arm, seed) for seed in seeds for arm in ARMS]
    scores: Scores = run_parallel(lambda job: _train(config, out, *job, data[job[1]][1], jobs), wanted, jobs)
    text = "\n".join(lines(scores, seeds, config)) + "\n"
    write_text(out / "transfer.md", text)
    write_json(out / "transfer.json", [{"arm": arm, "seed": seed, "nmi": x} for (arm, seed), x in scores.items()])
    console.print(Markdown(text))
    console.print(f"page {out / 'transfer.md'}", soft_wrap=True, markup=False)
    return text


def make_halves(config: TransferConfig, out: Path, seed: int) -> tuple[DataConfig, DataConfig]:
    """The indexed videos of digits 0 to 4, and those of 5 to 9 with `few` training videos of each."""
    folder = out / f"videos_seed{seed}"
    made = SampleConfig(out=str(folder / "all"), train=config.train, test=config.test, seed=seed)
    make_sample(made)
    halves = []
    for name, digits, most in (("source", range(5), config.train), ("target", range(5, 10), config.few)):
        root = folder / name
        for split in ("train", "test"):
            for digit in digits:
                files = sorted((folder / "all" / split / f"digit_{digit}").glob("*.mp4"))
                for file in files[:most] if split == "train" else files:
                    _link(file, root / split / file.parent.name / file.name)
        data = DataConfig(root=str(root), name=name, index=str(folder / f"{name}_index"))
        index_videos(IndexConfig(data, workers=1))
        halves.append(data)
    return halves[0], halves[1]


def _link(file: Path, to: Path) -> None:
    """The same file at another place; a copy where the file system has no links."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.exists():
        try:
            os.link(file, to)
        except OSError:
            shutil.copyfile(file, to)


def _train(config: TransferConfig, out: Path, arm: str, seed: int, data: DataConfig, jobs: int) -> float:
    """One training and its NMI, each command in a process of its own."""
    folder = out / f"{arm.replace(', ', '_').replace(' ', '_')}_seed{seed}"
    figures = folder / "clusters" / "clustering.json"
    epochs = config.source_epochs if arm == "source" else config.epochs
    source = out / f"source_seed{seed}"
    words = [
        "experiment=selavi_sample", "labelling.clusters=5", f"optim.epochs={epochs}", f"seed={seed}",
        word("data.root", data.root), word("data.index", data.index), word("out", folder),
        *(option.format(source=f"'{source}'") for option in ARMS.get(arm, [])),
    ]  # fmt: skip
    if not figures.is_file():
        device = device_words(config.device, jobs)
        avssl("train", [*words, *device], folder)
        avssl("clusters", [word("run", folder), "previews=0", *device], folder)
    found = read_json(figures)
    metrics: Any = chosen_metrics(found[found["reported"]])
    return float(metrics["nmi"])


def lines(scores: Scores, seeds: list[int], config: TransferConfig) -> list[str]:
    """The tables, as Markdown: the NMI of each arm, and the paired differences with their verdicts."""
    arms = [arm for arm in ARMS if arm != SCRATCH]
    differences = {arm: [scores[arm, seed] - scores[SCRATCH, seed] for seed in seeds] for arm in arms}
    adjusted = holm([paired_p(differences[arm], MARGIN) for arm in arms])
    rows = [
        [arm, *(f"{100 * scores[arm, seed]:.1f}" for seed in seeds), mean_of([scores[arm, s] for s in seeds]).percent()]
        for arm in ARMS
    ]
    compared = [
        [arm, mean_of(differences[arm]).percent("+"), f"{p:.3f}", verdict(mean_of(differences[arm]).value, p, MARGIN)]
        for arm, p in zip(arms, adjusted, strict=True)
    ]
    title = (
        f"NMI in % of held-out joint labels on digits 5 to 9, with {config.few} training videos of each; the encoders "
        f"that are started were trained on digits 0 to 4, {config.train} videos of each. ± is a 95 % interval over "
        f"{len(seeds)} seeds."
    )
    claim = f"Is the mean higher than from scratch by more than {100 * MARGIN:g} points? Paired by seed, p by Holm."
    return [
        title, "", *markdown_table(["arm", *(f"seed {seed}" for seed in seeds), "mean"], rows), "",
        claim, "", *markdown_table(["arm", "difference", "p", "verdict"], compared),
    ]  # fmt: skip
