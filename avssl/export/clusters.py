"""`avssl clusters`: what a trained run makes of every video, as tables, figures and a page."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from ..atomic import write_json
from ..config import ClustersConfig, TrainConfig
from ..data.clips import ClipDataset
from ..data.decode import ClipSpec, read_clips
from ..data.index import read_index, splits
from ..data.storage import open_storage
from ..errors import ClipError, UserError
from ..evaluate.clustering import ClusteringTable, clustering_table
from ..evaluate.floors import raw_kmeans_floors
from ..evaluate.predict import Predictions, predict
from ..evaluate.table import print_table
from ..train.checkpoints import load_run_state
from ..train.device import choose_device, share_cores
from ..train.run_folder import read_config
from ..train.task import build_model
from .assignments import Assignments, write_assignments
from .page import Page, make_cards, write_page

THUMBNAIL = 96  # px, short side
THUMBNAIL_FRAMES = 4


def run(config: ClustersConfig) -> Path:
    """Label the run's videos and write `assignments.parquet` and `.csv`, `clustering.json` and `clusters.html`.

    Returns the page. Raises UserError for a folder that is no run, or an index or split that is missing.
    """
    console = Console(highlight=False)
    run_folder, out = Path(config.run), Path(config.out)
    trained = read_config(run_folder)
    if trained.task == "gdt":
        raise UserError(
            f"{run_folder} has no clusters (task=gdt): see what it learnt with avssl evaluate run={run_folder}"
        )
    state = load_run_state(run_folder)
    device = choose_device(config.device)
    share_cores(device, config.workers, config.threads)
    lab = trained.labelling
    model = build_model(trained).to(device)
    model.load_state_dict(state["model"])

    costs = state["labeller"]["costs"].numpy()
    found: dict[str, tuple[pa.Table, Predictions]] = {}
    for split in [config.split] if config.split else splits(trained.data.index):
        rows = read_index(trained.data.index, split)
        modalities = None if config.floors else list(model.encoders)
        dataset = ClipDataset(rows, trained.data.root, trained.clip, trained.seed, modalities=modalities)
        found[split] = (
            rows,
            predict(model, dataset, trained.clip, device, trained.precision, config.workers, raw=config.floors),
        )

    # read_index's rows are in the order of the splits, and so is all that follows
    tables: dict[str, ClusteringTable] = {}
    figures: dict[str, Any] = {"run": str(run_folder), "step": state["step"], "clusters": lab.clusters}
    for split, (rows, predicted) in found.items():
        ids = class_ids(rows)
        tables[split] = clustering_table(predicted.labels, ids, costs, lab.clusters)
        figures[split] = tables[split].to_dict()
        if config.floors:
            figures[split]["floors"] = floors(ids, predicted)
    reported = trained.data.test_split if trained.data.test_split in found else next(iter(found))
    chosen = tables[reported].chosen_head or 0
    assignments = gather(found, lab.clusters, str(run_folder), state["step"], chosen)
    parquet, csv = write_assignments(out, assignments)
    write_json(out / "clustering.json", {"reported": reported, **figures})
    page = write_page(out / "clusters.html", make_page(assignments, trained, tables[reported], reported, config, state))

    console.print(f"\n{reported}: {found[reported][0].num_rows} videos, {lab.clusters} clusters", markup=False)
    print_table(tables[reported], console)
    if config.floors and (f := figures[reported]["floors"]):
        console.print(
            f"k-means without learning, NMI: raw pixels {f['pixels']:.3f}, raw spectrograms {f['log_mel']:.3f}, "
            f"both {f['both']:.3f}",
        )
    failed = sum(len(p.failures) for _, p in found.values())
    if failed:
        console.print(f"{failed} videos could not be decoded; their label is -1")
    for text, path in (("labels", parquet), ("", csv), ("figures", out / "clustering.json"), ("open", page)):
        console.print(f"{text:8}{path}", soft_wrap=True, markup=False)
    return page


def class_ids(rows: pa.Table) -> np.ndarray | None:
    """Classes of an index's rows as int64 [N], -1 where not known; None where no row has one."""
    names = rows["class"].to_pylist()
    order = {name: i for i, name in enumerate(sorted({n for n in names if n is not None}))}
    return np.array([-1 if n is None else order[n] for n in names]) if order else None


def floors(ids: np.ndarray | None, predicted: Predictions) -> dict[str, float] | None:
    """NMI of k-means on raw inputs; None for rows without classes. `ids` int64 [N], as `class_ids` gives them."""
    if ids is None or predicted.raw_pixels is None or predicted.raw_spectrograms is None:
        return None
    decoded = predicted.labels["joint"][:, 0] >= 0
    known = ids[decoded] >= 0
    return raw_kmeans_floors(predicted.raw_pixels[known], predicted.raw_spectrograms[known], ids[decoded][known])


def gather(
    found: dict[str, tuple[pa.Table, Predictions]], clusters: int, run: str, step: int, chosen: int
) -> Assignments:
    """The assignments of all splits, one after the other."""

    def column(name: str) -> list[Any]:
        return [value for rows, _ in found.values() for value in rows[name].to_pylist()]

    def stacked(kind: str, evidence: str) -> np.ndarray:
        absent = -1 if kind == "labels" else np.nan
        parts = [getattr(p, kind) for _, p in found.values()]
        return np.concatenate([part.get(evidence, np.full_like(part["joint"], absent)) for part in parts])

    return Assignments(
        path=column("path"),
        split=column("split"),
        classes=column("class"),
        window_start=np.array(column("window_start")),
        label=stacked("labels", "joint"),
        label_video=stacked("labels", "video"),
        label_audio=stacked("labels", "audio"),
        confidence_joint=stacked("confidence", "joint"),
        confidence_video=stacked("confidence", "video"),
        confidence_audio=stacked("confidence", "audio"),
        clusters=clusters,
        run=run,
        step=step,
        chosen_head=chosen,
    )


def make_page(
    assignments: Assignments,
    trained: TrainConfig,
    table: ClusteringTable,
    reported: str,
    config: ClustersConfig,
    state: dict[str, Any],
) -> Page:
    """The page of the head chosen without labels."""
    root = Path(trained.data.root).resolve()
    storage = open_storage(root, trained.data.storage)
    seconds = trained.clip.frames / trained.clip.fps
    spec = ClipSpec(THUMBNAIL_FRAMES, THUMBNAIL_FRAMES / seconds, trained.clip.audio_rate, 0.0)

    def frames(row: int) -> np.ndarray | None:
        try:
            return read_clips(storage.locate(assignments.path[row]), [assignments.window_start[row]], spec, THUMBNAIL)[
                0
            ].frames
        except ClipError:
            return None

    head = assignments.chosen_head or 0
    notes = [f"head {head} of {assignments.heads}, chosen by transport cost"] if assignments.heads > 1 else []
    if table.has_classes:
        notes.append(f"figures of the split “{reported}”")
    return Page(
        run=str(config.run),
        data=trained.data.name,
        clusters=assignments.clusters,
        cards=make_cards(assignments, head, config.thumbnails, frames, root),
        table=table if table.has_classes else None,
        marginal=asked[head].numpy() if (asked := state["labeller"].get("marginals")) is not None else None,
        undecodable=int(assignments.undecodable.sum()),
        notes=notes,
    )
