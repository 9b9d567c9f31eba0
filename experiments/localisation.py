"""Where the sound is, and a detector that nobody labelled: on the sample, with a silent digit beside one that sounds.

What is measured, with which seeds and clips, and what would count as reached was fixed before the first run: see
`ARMS`, the defaults of the options, and `localisation_page`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pc
import pyarrow.parquet as pq
from rich.markdown import Markdown

from avssl.config import DataConfig, IndexConfig, SampleConfig, TrainConfig
from avssl.config.compose import compose_config, nearest
from avssl.config.run_folder import read_config
from avssl.core.atomic import read_json, write_json, write_text
from avssl.core.errors import UserError
from avssl.core.out_folder import claim_folder, folder_lock
from avssl.core.screen import Console
from avssl.locate.silent_objects import PARQUET as SILENT
from avssl.locate.tables import PARQUET as LOCATED
from avssl.sample.videos import make_sample
from avssl.train.check_options import check
from avssl.videos.box_annotations import BOXES
from avssl.videos.index import index_videos
from experiments.jobs import avssl, device_words, jobs_at_a_time, run_parallel, word
from experiments.localisation_page import ALONE, JOINT, OWN_CLASSES, OWN_CLUSTERS, TRUE_CLASSES, WEAK, Found, page
from experiments.objectives import step_seconds
from experiments.options import LocalisationConfig
from experiments.trained import commit

CLUSTERS = ("labelling.clusters=10", "labelling.heads=6")

ARMS: dict[str, tuple[str, ...]] = {
    JOINT: ("objective=localisation_labels", *CLUSTERS),
    ALONE: ("objective=localisation",),
    "LVS": ("objective=lvs", "localisation.temperature=0.07"),
    WEAK: ("objective=localisation", "loss.localisation=0", "loss.contrast=1"),
}
"""Options of `avssl train` for each arm. All see the same videos as often, with the same encoders and clips."""

DETECTORS = {OWN_CLUSTERS: "detector", OWN_CLASSES: "detector_classes", TRUE_CLASSES: "detector_true"}
"""The detectors that are trained from the first arm, and their folders."""


def run(config: LocalisationConfig) -> str:
    """Train, locate, detect and measure as configured; writes `localisation.md` and `.json` to `out`, and returns the
    page.

    Repeating the call resumes it. Raises UserError for an unknown arm, a folder that holds another experiment, or a
    command that failed.
    """
    arms = chosen(config.arms)
    for name in arms:
        words = train_words(name, config.clips, config.precision)
        check(compose_config("train", TrainConfig, ["data.root=videos", *words]))
    console, out = Console(highlight=False), Path(config.out)
    settings = {k: v for k, v in asdict(config).items() if k in ("clips", "train", "test", "steps", "precision")}
    claim_folder(out, "settings.json", "an experiment", settings)
    with folder_lock(out):
        data = make_videos(config, out)
        jobs = jobs_at_a_time(config.jobs, config.device)
        wanted = [(name, seed) for seed in config.seeds for name in arms]
        console.print(f"{len(wanted)} runs, {jobs} at a time; writing to {out}", soft_wrap=True, markup=False)
        device = device_words(config.device, jobs)
        found: Found = run_parallel(lambda job: train_and_measure(out, *job, config, data, device), wanted, jobs)
    text = "\n".join(page(found, arms, config.seeds, command(config), settings)) + "\n"
    write_text(out / "localisation.md", text)
    write_json(out / "localisation.json", [{"arm": arm, "seed": s, **of} for (arm, s), of in found.items()])
    console.print(Markdown(text))
    console.print(f"page {out / 'localisation.md'}", soft_wrap=True, markup=False)
    return text


def chosen(names: list[str]) -> list[str]:
    """The arms to train, in the order of the page; all for no names."""
    for name in names:
        if name not in ARMS:
            raise UserError(f"arms={name} is not one of {', '.join(ARMS)}{nearest(name, list(ARMS))}")
    return [name for name in ARMS if name in names or not names]


def train_words(name: str, clips: int, precision: str) -> list[str]:
    """Options of `avssl train` for an arm, but where it reads and writes, and its seed."""
    # a mirrored digit is none, and with mirrored frames the encoders learn much later
    words = ["experiment=tiny_localisation", "clip.flip=false", f"optim.clips={clips}", f"precision={precision}"]
    return [*ARMS[name], *words]


def make_videos(config: LocalisationConfig, out: Path) -> DataConfig:
    """The videos of all runs, made and indexed unless they are there."""
    sample = SampleConfig(out=str(out / "sample"), train=config.train, test=config.test, distractors=1)
    make_sample(sample)
    data = DataConfig(root=sample.out, name="sample", index=str(out / "index"))
    index_videos(IndexConfig(data))
    return data


def train_and_measure(
    out: Path, name: str, seed: int, config: LocalisationConfig, data: DataConfig, device: list[str]
) -> dict[str, Any]:
    """One run and its figures; read where they are there already."""
    folder = out / "runs" / f"{name.replace(', ', '_').replace(' ', '_')}_seed{seed}"
    figures, words = folder.with_suffix(".json"), train_words(name, config.clips, config.precision)
    if figures.is_file():
        done = read_json(figures)
        if done["words"] != words:
            raise UserError(f"{folder} was trained with {' '.join(done['words'])}: remove it and {figures}")
        return done
    folder.parent.mkdir(exist_ok=True)
    where = [word("data.root", data.root), word("data.index", data.index), word("out", folder)]
    spent = avssl("train", [*words, f"seed={seed}", *where, *device], folder)
    if not (folder / "locate" / "locate.json").is_file():  # again, a box may differ by a pixel from what was trained on
        avssl("locate", [word("run", folder), *device], folder)
    located = read_json(folder / "locate" / "locate.json")["measures"]
    found: dict[str, Any] = {"words": words, "commit": commit(), "located": located, "train_seconds": spent.seconds}
    found["step_seconds"] = step_seconds(folder, read_config(folder).optim.batch)
    if name == JOINT:
        found["detected"] = {of: detected(folder, of, seed, config, data, device) for of in DETECTORS}
    write_json(figures, found)
    return found


def detected(
    folder: Path, of: str, seed: int, config: LocalisationConfig, data: DataConfig, device: list[str]
) -> dict[str, Any]:
    """The figures of a detector that is trained from a run."""
    out, boxes = folder / DETECTORS[of], []
    if of == OWN_CLASSES:
        boxes = [word("boxes", with_true_classes(folder, Path(data.root)))]
    elif of == TRUE_CLASSES:
        boxes = [word("boxes", Path(data.root) / BOXES)]
    words = [word("run", folder), word("out", out), f"steps={config.steps}", f"seed={seed}", *boxes]
    avssl("detect", [*words, *device], folder)
    return read_json(out / "detect.json")["measures"]


def with_true_classes(folder: Path, root: Path) -> Path:
    """The boxes of a run with the true class of the digit that sounds, and its silent objects with that of the other
    digit, in the form of the sample's boxes.csv."""
    true = pc.read_csv(root / BOXES).group_by(["path", "sounding", "class"]).aggregate([])
    columns = ["path", "time", "x0", "y0", "x1", "y1"]
    found = []
    for name, sounding in ((LOCATED, 1), (SILENT, 0)):
        classes = true.filter(pa.compute.equal(true["sounding"], sounding)).select(["path", "class"])
        boxes = pq.read_table(folder / "locate" / name, columns=columns)
        found.append(boxes.join(classes, "path", join_type="inner").select([*columns, "class"]))
    path = folder / "own_boxes.csv"
    order = [(name, "ascending") for name in (*columns, "class")]
    pc.write_csv(pa.concat_tables(found).sort_by(order), path)
    return path


def command(config: LocalisationConfig) -> str:
    """What makes the same page."""
    default = LocalisationConfig()
    changed = {k: x for k, x in asdict(config).items() if k not in ("out", "device") and x != getattr(default, k)}
    words = [f"{k}={json.dumps(x)}" if isinstance(x, list) else f"{k}={x}" for k, x in changed.items()]
    return " ".join(["python -m experiments localisation", *words])
