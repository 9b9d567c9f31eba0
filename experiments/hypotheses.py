"""What each of GDT's nine compositions learns of the arrow of time, and of the content of video and audio.

The digits of the sample rise or fall, and so does the pitch of their audio. Half of the videos were made in the other
direction and reversed, so only the direction tells a video from a reversed one. Every preset is trained with several
seeds on the same files. Linear and nearest-neighbour probes on the frozen features predict the direction and the digit.
"""

import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markdown import Markdown

from avssl.config import DataConfig, IndexConfig, SampleConfig
from avssl.contrast.composition import PRESETS
from avssl.core.atomic import read_json, write_json, write_text
from avssl.core.errors import UserError
from avssl.core.out_folder import claim_folder
from avssl.core.report import markdown_table
from avssl.core.screen import Console
from avssl.sample.videos import make_sample
from avssl.videos.index import index_videos
from experiments.jobs import avssl, device_words, jobs_at_a_time, run_parallel, word
from experiments.options import HypothesesConfig

COLUMNS = ("direction", "digit")
VIEWS = ("video", "audio", "both", "video embedding", "audio embedding")
"""The encoders' features, both side by side, and the projections of them that the contrast compares."""

UNTRAINED = 0
"""Stands for the encoders before training, among the presets' numbers."""

Scores = dict[tuple[int, int], dict[str, Any]]
"""What `avssl evaluate` found, by (preset, seed)."""


def run(config: HypothesesConfig) -> str:
    """Train and probe as configured; writes `table.md` and `table.json` to `out`, and returns the table.

    Repeating the call resumes it. Raises UserError for an unknown preset, a folder that holds another experiment, or a
    training that failed.
    """
    unknown = [n for n in config.presets if n not in PRESETS]
    if unknown or not config.presets or not config.seeds:
        raise UserError(
            f"presets={unknown or config.presets} seeds={config.seeds}: presets are 1 to 9; name some, and seeds"
        )
    console, out = Console(highlight=False), Path(config.out)
    settings = {k: v for k, v in asdict(config).items() if k not in ("out", "presets", "seeds", "jobs", "device")}
    claim_folder(out, "hypotheses.json", "an experiment", settings)
    # 2.2 s: room for two clips of a second that do not overlap
    sample = SampleConfig(
        out=str(out / "sample"), train=config.train, test=config.test, direction=True, min_seconds=2.2, max_seconds=2.6,
        seed=config.data_seed,
    )  # fmt: skip
    make_sample(sample)
    data = DataConfig(root=sample.out, name="sample", index=str(out / "index"))
    index_videos(IndexConfig(data))
    jobs = jobs_at_a_time(config.jobs, config.device)
    wanted = [(preset, seed) for seed in dict.fromkeys(config.seeds) for preset in dict.fromkeys(config.presets)]
    console.print(f"{len(wanted)} trainings, {jobs} at a time; writing to {out}", soft_wrap=True, markup=False)
    scores: Scores = run_parallel(lambda job: _train_and_probe(config, data, *job, jobs), wanted, jobs)
    for seed in config.seeds:
        untrained = _folder(config, config.presets[0], seed) / "evaluate" / "evaluate_random.json"
        scores[UNTRAINED, seed] = read_json(untrained)
    text = "\n".join(lines(scores, config.presets, config.seeds))
    write_text(out / "table.md", text + "\n")
    write_json(out / "table.json", [{"preset": p, "seed": s, **found} for (p, s), found in sorted(scores.items())])
    console.print(Markdown(text))
    console.print(f"table {out / 'table.md'}", soft_wrap=True, markup=False)
    return text


def _folder(config: HypothesesConfig, preset: int, seed: int) -> Path:
    return Path(config.out) / f"preset_{preset}_seed{seed}"


def _train_and_probe(config: HypothesesConfig, data: DataConfig, preset: int, seed: int, jobs: int) -> dict[str, Any]:
    """One training and its figures, each in a process of its own; with the first preset, the untrained ones too."""
    folder = _folder(config, preset, seed)
    done = folder / "evaluate" / "evaluate.json"
    device = device_words(config.device, jobs)
    train = [
        "experiment=gdt_sample", f"contrast=preset_{preset}", f"seed={seed}", f"optim.epochs={config.epochs}",
        word("data.root", data.root), word("data.index", data.index), word("out", folder),
    ]  # fmt: skip
    probe = [
        word("run", folder), f"columns=[{','.join(COLUMNS)}]", "tasks=[linear,knn,cross_modal]", "k=5", "temperature=0",
    ]  # fmt: skip
    if not done.is_file():
        avssl("train", [*train, *device], folder)
        avssl("evaluate", [*probe, *device], folder)
    if preset == config.presets[0] and not (done.parent / "evaluate_random.json").is_file():
        avssl("evaluate", [*probe, *device, "random=true"], folder)
    return read_json(done)


def lines(scores: Scores, presets: list[int], seeds: list[int]) -> list[str]:
    """The tables, as Markdown: mean and standard deviation over seeds of each figure, in percent."""
    of = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    found = [
        f"Accuracy on the test split in %, {of}. Chance is 50 for the direction and 10 for the digit. All presets are "
        "distinct to the sample and invariant to the modality."
    ]
    for modality in VIEWS:
        found += ["", f"**{modality[0].upper()}{modality[1:]}**", ""]
        probes = [(column, probe) for column in COLUMNS for probe in ("linear", "knn")]
        titles = [f"{c} {'linear' if p == 'linear' else '5-NN'}" for c, p in probes]
        rows = []
        for preset in (UNTRAINED, *presets):
            cells = [_spread([scores[preset, s][p][modality][c] for s in seeds]) for c, p in probes]
            rows.append([*_name(preset), *cells])
        found += markdown_table(["preset", "reversal", "time shift", *titles], rows)
    found += ["", "**Cross-modal retrieval on the test split, digit P@1** (without the video's own other half)", ""]
    rows = []
    for preset in presets:
        pairs = [[scores[preset, s]["cross_modal"]["digit"][f"{d}_others"] for s in seeds] for d in DIRECTIONS]
        rows.append([*_name(preset), *map(_spread, pairs)])
    found += markdown_table(["preset", "reversal", "time shift", "video → audio", "audio → video"], rows)
    return [*found, *margins(scores, presets, seeds)]


DIRECTIONS = ("video_audio", "audio_video")


def margins(scores: Scores, presets: list[int], seeds: list[int]) -> list[str]:
    """By how much the presets with reversal distinct know the direction better than each other kind."""

    def mean(kind: str, seed: int, probe: str, modality: str) -> float:
        of_kind = [p for p in presets if PRESETS[p].get("reversal", "off") == kind]
        return statistics.fmean(scores[p, seed][probe][modality]["direction"] for p in of_kind)

    kinds = {PRESETS[p].get("reversal", "off") for p in presets}
    rows = []
    for other in sorted(kinds - {"distinct"}) if "distinct" in kinds else []:
        for modality in VIEWS:
            cells = [
                _spread([mean("distinct", s, p, modality) - mean(other, s, p, modality) for s in seeds], sign="+")
                for p in ("linear", "knn")
            ]
            rows.append([f"distinct − {other}", modality, *cells])
    if not rows:
        return []
    title = "**Direction: presets distinct to reversal minus the others** (points, mean of each group, paired by seed)"
    return ["", title, "", *markdown_table(["reversal", "features", "linear", "5-NN"], rows)]


def _name(preset: int) -> list[str]:
    if preset == UNTRAINED:
        return ["untrained", "", ""]
    return [str(preset), PRESETS[preset].get("reversal", ""), PRESETS[preset].get("time_shift", "")]


def _spread(values: list[float], sign: str = "") -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):{sign}.1f}{spread}"
