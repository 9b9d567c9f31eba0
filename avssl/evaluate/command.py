"""`avssl evaluate`: what a run's frozen features are good for."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from ..atomic import write_json
from ..config import EvaluateConfig, TrainConfig
from ..data.clips import ClipDataset
from ..data.index import read_index, splits
from ..errors import UserError
from ..models import TwoStream
from ..train.checkpoint import load_checkpoint
from ..train.device import choose_device, share_cores
from ..train.run_folder import CHECKPOINT, read_config
from ..train.task import build_model
from .attributes import read_attributes
from .features import Features, extract_features
from .probe import linear_probe, nearest_neighbours
from .retrieval import cross_modal

PROBES = ("linear", "knn")


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate as configured, print the figures, write them to `<out>/evaluate.json`, and return them.

    Raises UserError for a folder that is no run, an index without the run's two splits, or labels that are missing.
    """
    console = Console(highlight=False)
    if not config.columns:
        raise UserError("columns=[]: name the labels to evaluate against, as columns=[class]")
    folder = Path(config.run)
    trained = read_config(folder)
    device = choose_device(config.device)
    share_cores(device, config.workers)
    model, step = load_run(folder, trained, config.random)
    model.to(device)
    table = config.labels or Path(trained.data.root) / "labels.csv"
    there = splits(trained.data.index)
    parts: dict[str, tuple[Features, dict[str, np.ndarray]]] = {}
    for role, split in (("train", trained.data.train_split), ("test", trained.data.test_split)):
        if split not in there:
            raise UserError(
                f"the index {trained.data.index} has no split {split} (it has {', '.join(there)}): evaluation fits on "
                f"one split and tests on another; arrange the videos as {{split}}/{{class}}/{{video}}"
            )
        if role == "train" and config.task == "cross_modal":
            continue
        rows = read_index(trained.data.index, split)
        parts[role] = extract(model, rows, trained, config, device, table)

    figures: dict[str, Any] = {"run": str(folder), "step": step, "columns": config.columns, "k": config.k}
    figures["videos"] = {role: len(features.rows) for role, (features, _) in parts.items()}
    for probe in PROBES:
        if config.task in ("all", probe):
            figures[probe] = probe_all(probe, *parts["train"], *parts["test"], config.k)
    if config.task in ("all", "cross_modal"):
        figures["cross_modal"] = retrieve(*parts["test"], config.columns)
        if figures["cross_modal"] is None and config.task == "cross_modal":
            raise UserError(f"{folder} has no embedding of both modalities: train with task=gdt or task=both")
    name = "evaluate_random.json" if config.random else "evaluate.json"
    write_json(Path(config.out) / name, figures)
    show(figures, console)
    failed = sum(len(features.failures) for features, _ in parts.values())
    if failed:
        console.print(f"{failed} videos could not be decoded and are left out")
    console.print(f"figures {Path(config.out) / name}", soft_wrap=True, markup=False)
    return figures


def load_run(folder: Path, trained: TrainConfig, random: bool = False) -> tuple[TwoStream, int]:
    """The model of a run and its step; with `random`, the one that its training began with. On the CPU."""
    torch.manual_seed(trained.seed)
    model = build_model(trained)
    if random:
        return model, 0
    state = load_checkpoint(folder / CHECKPOINT)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError:
        raise UserError(f"{folder / CHECKPOINT} is not of the model in {folder / 'config.yaml'}: train anew") from None
    return model, int(state["step"])


def extract(
    model: TwoStream,
    rows: pa.Table,
    trained: TrainConfig,
    config: EvaluateConfig,
    device: torch.device,
    table: str | Path,
) -> tuple[Features, dict[str, np.ndarray]]:
    """Features of a split's videos that decoded, and their labels by column."""
    labels = read_attributes(rows, config.columns, table)
    dataset = ClipDataset(rows, trained.data.root, trained.clip, trained.seed)
    features = extract_features(model, dataset, trained.clip, device, trained.precision, config.workers)
    return features, {name: values[features.rows] for name, values in labels.items()}


def probe_all(
    probe: str,
    train: Features,
    train_labels: dict[str, np.ndarray],
    test: Features,
    test_labels: dict[str, np.ndarray],
    k: int,
) -> dict[str, dict[str, float]]:
    """Accuracy by modality and column. Videos without a label count for nothing."""
    found: dict[str, dict[str, float]] = {}
    test_views = test.views()
    for modality, x in train.views().items():
        found[modality] = {}
        for column, y in train_labels.items():
            known, asked = y != "", test_labels[column] != ""
            check_labels(column, y[known])
            check_labels(column, test_labels[column][asked])
            pair = x[known], y[known], test_views[modality][asked], test_labels[column][asked]
            found[modality][column] = linear_probe(*pair) if probe == "linear" else nearest_neighbours(*pair, k)
    return found


def retrieve(test: Features, labels: dict[str, np.ndarray], columns: list[str]) -> dict[str, dict[str, float]] | None:
    """Cross-modal precision at 1 by column; None for a model without an embedding of both modalities.

    Videos without a label are neither queries nor in the gallery.
    """
    if len(test.embedded) < 2:
        return None
    found = {}
    for column in columns:
        known = labels[column] != ""
        check_labels(column, labels[column][known])
        found[column] = cross_modal(test.embedded["video"][known], test.embedded["audio"][known], labels[column][known])
    return found


def check_labels(column: str, labels: np.ndarray) -> None:
    """UserError where there is nothing to tell apart."""
    if len(set(labels)) < 2:
        raise UserError(
            f"columns={column}: the videos of a split have fewer than two labels; arrange them in class folders, or "
            f"give a table of labels with their paths (labels=…)"
        )


def show(figures: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    probes = [probe for probe in PROBES if probe in figures]
    if probes:
        grid = Table(box=box.SIMPLE_HEAD, show_edge=False, title="accuracy on the test split, %", title_justify="left")
        grid.add_column("features")
        for column in figures["columns"]:
            for probe in probes:
                grid.add_column(
                    f"{column}\n{'linear' if probe == 'linear' else str(figures['k']) + '-NN'}", justify="right"
                )
        for modality in figures[probes[0]]:
            cells = [figures[p][modality][c] for c in figures["columns"] for p in probes]
            grid.add_row(modality, *(f"{100 * value:.1f}" for value in cells))
        console.print(grid)
    if figures.get("cross_modal"):
        for column, found in figures["cross_modal"].items():
            for name, text in (("video_audio", "video → audio"), ("audio_video", "audio → video")):
                console.print(
                    f"{text}, {column} P@1 {100 * found[name]:.1f} % (own other half left out: "
                    f"{100 * found[name + '_others']:.1f} %; finds its own: {100 * found[name + '_instance']:.1f} %)"
                )
    elif "cross_modal" in figures:
        console.print("no cross-modal retrieval: the run has no embedding of both modalities (task=gdt or task=both)")
