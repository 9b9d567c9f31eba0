"""`avssl clusters`: label every video with a trained run, and write tables, results and a browser page."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..clips.dataset import ClipDataset, describe_failures
from ..clips.decode import ClipSpec
from ..clips.stored_clips import StoredClips
from ..config import ClustersConfig, EvaluateConfig, TrainConfig
from ..config.auto import too_few
from ..config.run_folder import read_config
from ..core.atomic import write_json
from ..core.checkpoint_file import digest
from ..core.device import prepare_device, share_cores
from ..core.errors import UserError
from ..core.json_output import prints_json
from ..core.plurals import counted, many
from ..core.screen import Console, one_line
from ..evaluate.feature_shards import process_share
from ..evaluate.head_measures import chosen_head
from ..evaluate.prediction_shards import LabellingPass
from ..evaluate.predictions import Predictions, Wanted
from ..metrics.clustering import ClusteringTable, clustering_table
from ..metrics.floors import raw_kmeans_floors
from ..metrics.head_choice import MEASURES, STABILITY, HeadChoice
from ..runs.model_card import update_card
from ..runs.open import Source, open_source
from ..runs.sign_of_life import step_words
from ..runs.stored import refuse_table, stored_clips
from ..train.collapse import warn
from ..videos.index import read_index, splits, tell_if_changed
from ..videos.splits import find_split, reported_split
from ..videos.storage import Folder, Shards, open_storage
from .assignments import PARQUET, Assignments, read_assignments, write_assignments
from .curves import read_curves
from .explorer import (
    PAGE,
    Explorer,
    chosen_rows,
    preview_name,
    rename,
    write_explorer,
    write_overview,
    write_previews,
)
from .labelled import write_labelled
from .names import DIGEST, Names, read_names
from .names_command import names_command
from .neighbours import places, similarity
from .open_page import open_words
from .preview_status import PreviewStatus
from .previews import Preview, Stretch, make_previews, stretch
from .result import document, known_floors, print_figures, result_of
from .sound_descriptions import describe_previews
from .worth import kept_rows, usable, with_floors, worth_of_labels

EXPLORER = "explorer"

CACHE = "predictions"
"""The folder of labels in progress, below the output folder; removed once everything is written."""


@prints_json(document)
def run(config: ClustersConfig) -> Path:
    """Label the run's videos and write `assignments.parquet` and `.csv`, `clustering.json` and `explorer/index.html`.

    With `names`, the labelled data set is written too, from existing labels if there are any.

    Returns:
        The page.

    Raises:
        UserError: the run has no clusters, the names belong to other clusters, or the index or split is missing.
    """
    console = Console(highlight=False, soft_wrap=True)
    run_folder, out = Path(config.run), Path(config.out)
    names = read_names(config.names) if config.names else Names()
    trained = read_config(run_folder)
    check_clustered(config, trained)
    page = out / EXPLORER / PAGE
    if not (config.names and (out / PARQUET).is_file() and page.is_file()):
        page = label_and_show(config, trained, names, console)
    if config.names:
        apply_names(config, trained, names, console)
    return page


def check_clustered(config: ClustersConfig, trained: TrainConfig) -> None:
    """Raise UserError if the run has no clusters."""
    if not trained.has_clusters:
        raise UserError(
            f"{config.run} has no clusters, because it was trained with {' and '.join(trained.objectives)} alone: "
            f"evaluate its features with avssl evaluate run={config.run}"
        )


def label_and_show(config: ClustersConfig, trained: TrainConfig, names: Names, console: Console) -> Path:
    """Label the videos, write everything but the labelled data set, and return the page."""
    run_folder, out = Path(config.run), Path(config.out)
    source = open_source(EvaluateConfig(run=config.run, trust=config.trust))
    model, step = source.model, source.step
    assert model is not None
    assert step is not None
    device = prepare_device(config.device, fixed_shapes=True)
    config = replace(config, workers=share_cores(device, config.workers, config.threads))
    clusters = model.clusters
    model.to(device)

    choice = chosen_head(source, device, config.workers)
    chosen = choice.head or 0
    weights = digest(model)[:DIGEST]
    names.check(step, chosen, clusters, weights, config.run)
    tell_if_changed(trained.data, source.videos, config.run)
    by_split: dict[str, tuple[pa.Table, Predictions]] = {}
    for split in labelled_splits(config, trained):
        work = labelling_pass(source, trained, config, split, device)
        by_split[split] = work.rows, work.predict(chosen)

    named = "" if out.is_relative_to(run_folder) else f"{run_folder}, "
    console.note(f"{named}{step_words(run_folder, step)}; writing to {out}")
    tables: dict[str, ClusteringTable] = {}
    figures: dict[str, Any] = {"run": str(run_folder), "step": step, "clusters": clusters}
    for split, (rows, predicted) in by_split.items():
        ids = class_ids(rows)
        table = clustering_table(predicted.labels, ids, source.costs, clusters, choice)
        tables[split] = replace(table, files=len(set(rows["path"].to_pylist())))
        figures[split] = tables[split].to_dict()
        before = out / "clustering.json", str(run_folder), split, table, Path(trained.data.index) / f"{split}.parquet"
        if (raw := floors(ids, predicted) if config.floors else known_floors(*before)) is not None:
            figures[split]["floors"] = raw
    reported = reported_split(by_split, trained.data.test_split, trained.data.train_split)
    found = judge(by_split, reported, trained, choice, config, clusters)
    if found is not None:
        ids, kept = class_ids(by_split[reported][0]), usable(by_split[reported][1])[1]
        tables[reported] = with_floors(tables[reported], found, ids, kept)
        figures[reported]["worth"] = found
    assignments = gather(by_split, clusters, str(run_folder), step, chosen, weights)
    parquet, csv = write_assignments(out, assignments)
    write_json(out / "clustering.json", {"reported": reported, **figures})

    raw = figures[reported].get("floors")
    weighted = trained.labelling.modality_weights if "labelling" in trained.objectives else []
    print_figures(config, tables[reported], reported, console, found, weighted, raw)
    collapsed = dict(enumerate(choice.collapsed or []))
    warn(lambda text: console.print(text, markup=False), collapsed, trained.labelling)
    failed = describe_failures(failure for _, p in by_split.values() for failure in p.failures)
    if failed:
        console.print(f"{failed}: label -1", markup=False)
    if config.details:
        for text, path in (("labels", parquet), ("", csv), ("figures", out / "clustering.json")):
            console.print(f"{text:8}{path}", markup=False)
    storage = open_storage(trained.data.root)
    explorer = make_explorer(assignments, trained, tables[reported], reported, source, by_split, names, storage)
    explorer.too_few = few_videos(trained)
    page, missing = show(explorer, config, trained, storage, pa.concat_tables([rows for rows, _ in by_split.values()]))
    if missing:
        why = ", ".join(f"{count} {reason}" for reason, count in Counter(missing.values()).most_common(3))
        console.print(f"{len(missing)} previews could not be made: {why}", markup=False)
    confidence = by_split[reported][1].confidence["joint"][:, chosen]
    result = result_of(tables[reported], reported, raw, confidence)
    write_json(out / "clustering.json", {"reported": reported, "result": asdict(result), **figures})
    if out == run_folder / "clusters":
        update_card(run_folder)
    if process_share()[1] == 1:  # others may still read the files
        shutil.rmtree(out / CACHE, ignore_errors=True)
    if advice := unsaid(explorer.too_few, trained.auto_reasons):
        console.print(advice, markup=False)
    console.print(result.line(open_words(run_folder, page)), markup=False)
    return page


def labelled_splits(config: ClustersConfig, trained: TrainConfig) -> list[str]:
    """The splits to label."""
    return [config.split] if config.split else splits(trained.data.index)


def labelling_pass(
    source: Source, trained: TrainConfig, config: ClustersConfig, split: str, device: torch.device
) -> LabellingPass:
    """The pass that labels a split of the run's index. Nothing is computed yet."""
    model = source.model
    assert model is not None
    rows = read_index(trained.data.index, split)
    names = list(model.encoders)
    dataset: ClipDataset | StoredClips | None = None
    if not config.floors:
        dataset = stored_clips(source, rows, names)
    if dataset is None:
        refuse_table(source, "cluster raw inputs (floors=true)")
        decoded = None if config.floors else names
        dataset = ClipDataset(rows, trained.data.root, trained.clip, trained.seed, modalities=decoded)
    wanted = Wanted(raw=config.floors, unit=True, kept=kept_rows(rows.num_rows, trained.seed))
    cache = Path(config.out) / CACHE
    return LabellingPass(model, rows, dataset, trained.clip, device, trained.precision, cache, wanted, config.workers)


def unsaid(advice: str, reasons: Sequence[str]) -> str:
    """Advice, unless it is among the reasons that `avssl train` gave for its choices, and so was printed there."""
    return "" if any(advice in reason for reason in reasons) else advice


def few_videos(trained: TrainConfig) -> str:
    """That the training split has too few videos, in words; empty if it has enough."""
    train = find_split(splits(trained.data.index), trained.data.train_split)
    if train is None:
        return ""
    paths = read_index(trained.data.index, train)["path"].to_pylist()
    return too_few(len(paths), len(set(paths)))


def judge(
    by_split: dict[str, tuple[pa.Table, Predictions]],
    reported: str,
    trained: TrainConfig,
    choice: HeadChoice,
    config: ClustersConfig,
    clusters: int,
) -> dict[str, Any] | None:
    """Measures of the chosen head's labels of the reported split, and of k-means fitted to the training split."""
    train = find_split([*by_split], trained.data.train_split)
    rows, predicted = by_split[reported]
    head = choice.head or 0
    stability = choice.values[head] if choice.by == STABILITY and choice.values is not None else None
    return worth_of_labels(
        predicted, by_split[train or reported][1], class_ids(rows), head, clusters, stability,
        trained.seed,
    )  # fmt: skip


def apply_names(config: ClustersConfig, trained: TrainConfig, names: Names, console: Console) -> None:
    """Write the labelled data set, and the names into the page."""
    out = Path(config.out)
    assignments = read_assignments(out)
    names.check(
        assignments.step, assignments.chosen_head or 0, assignments.clusters, assignments.model, assignments.run
    )
    labelled = sorted({split for split in assignments.split if split is not None})
    if config.split and config.split not in labelled:
        raise UserError(
            f"split={config.split}: {out / PARQUET} has labels of {', '.join(labelled) or 'no split'}; give one of "
            "them, or label every split first with the same command without names= and split="
        )
    storage = open_storage(trained.data.root)
    done = write_labelled(
        Path(config.labelled), assignments, names, storage, config.links, config.min_confidence, config.only_named,
        config.split,
    )  # fmt: skip
    rename(out / EXPLORER, names)
    console.print(f"{counted(done.rows, done.files)} in {many(len(done.counts), 'cluster')}:", markup=False)
    for title, count in done.counts.most_common(20):
        console.print(f"  {count:6}  {one_line(title)}", markup=False)
    if len(done.counts) > 20:
        console.print(f"  … and {len(done.counts) - 20} more")
    for why, count in done.left_out.items():
        console.print(f"left out: {count} {why}", markup=False)
    console.print(f"labelled {done.folder / 'labelled.parquet'}, .csv", markup=False)
    if done.tree is not None:
        console.print(f"links    {done.tree}/{{split}}/{{name}}/{{video}}", markup=False)
    elif config.links != "none":
        console.print("no links: the videos are in tar shards")


def class_ids(rows: pa.Table) -> np.ndarray | None:
    """Classes of an index's rows as int64 [N], -1 if unknown; None if no row has a class."""
    names = rows["class"].to_pylist()
    order = {name: i for i, name in enumerate(sorted({n for n in names if n is not None}))}
    return np.array([-1 if n is None else order[n] for n in names]) if order else None


def floors(ids: np.ndarray | None, predicted: Predictions) -> dict[str, float] | None:
    """NMI of k-means on raw inputs; None for rows without classes. `ids` are classes int64 [N], from `class_ids`."""
    if ids is None or predicted.raw_pixels is None or predicted.raw_spectrograms is None:
        return None
    decoded = predicted.labels["joint"][:, 0] >= 0
    classified = ids[decoded] >= 0
    return raw_kmeans_floors(
        predicted.raw_pixels[classified], predicted.raw_spectrograms[classified], ids[decoded][classified]
    )


def gather(
    by_split: dict[str, tuple[pa.Table, Predictions]], clusters: int, run: str, step: int, chosen: int, weights: str
) -> Assignments:
    """The assignments of all splits, in the order of `by_split`."""

    def column(name: str) -> list[Any]:
        return [value for rows, _ in by_split.values() for value in rows[name].to_pylist()]

    def stacked(kind: str, evidence: str) -> np.ndarray:
        absent = -1 if kind == "labels" else np.nan
        parts = [getattr(p, kind) for _, p in by_split.values()]
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
        model=weights,
    )


def make_explorer(
    assignments: Assignments,
    trained: TrainConfig,
    table: ClusteringTable,
    reported: str,
    source: Source,
    by_split: dict[str, tuple[pa.Table, Predictions]],
    names: Names,
    storage: Folder | Shards,
) -> Explorer:
    """The explorer of the head chosen without classes."""
    head = assignments.chosen_head or 0
    by = f", chosen without classes, by {MEASURES[table.chosen_by]}" if table.chosen_by else ""
    notes = [f"head {head} of {assignments.heads}{by}"] if assignments.heads > 1 else []
    if table.has_classes:
        notes.append(f"figures of the split “{reported}”")
    marginals = source.marginals
    means = cluster_means([p for _, p in by_split.values()])
    return Explorer(
        assignments,
        head,
        trained.data.name,
        table=table,
        marginal=None if marginals is None else marginals[head],
        similarity=None if means is None else similarity(means),
        places=None if means is None else places(means, trained.seed),
        names=names,
        notes=notes,
        url=link_to(assignments, storage),
        seconds=np.concatenate([rows["window_seconds"].to_numpy() for rows, _ in by_split.values()]),
    )


def cluster_means(predictions: list[Predictions]) -> np.ndarray | None:
    """Mean features by cluster, float64 [K, D], NaN for empty clusters; None if no video could be decoded."""
    sums, counts = ([x for p in predictions if (x := getattr(p, name)) is not None] for name in ("sums", "counts"))
    if not sums:
        return None
    count = np.sum(counts, 0)[:, None]
    return np.divide(np.sum(sums, 0), count, out=np.full_like(sums[0], np.nan), where=count > 0)


def link_to(assignments: Assignments, storage: Folder | Shards) -> Callable[[int], str | None]:
    """A function from a row of the assignments to a link to its file, or to None for a video in a shard."""
    root = storage.root.resolve()
    if not isinstance(storage, Folder):
        return lambda row: None

    def url(row: int) -> str:
        start = assignments.window_start[row]
        return (root / assignments.path[row]).as_uri() + (f"#t={start:g}" if start > 0 else "")

    return url


def show(
    explorer: Explorer, config: ClustersConfig, trained: TrainConfig, storage: Folder | Shards, rows: pa.Table
) -> tuple[Path, dict[str, str]]:
    """Write the explorer and its previews.

    Args:
        explorer: what to show.
        config, trained: the options of the command and of the run.
        storage: where the videos are.
        rows: rows of the index, in the order of the assignments.

    Returns:
        The page, and for each missing preview the reason, by name.
    """
    folder, a = Path(config.out) / EXPLORER, explorer.assignments
    shown = [chosen_rows(explorer, cluster, config.previews, trained.seed) for cluster in range(a.clusters)]
    clip_seconds = ClipSpec.of(trained.clip).seconds
    lengths, has_audio = rows["window_seconds"].to_numpy(), rows["audio_rate"].to_numpy() > 0
    sizes, changed = rows["size"].to_numpy(), rows["mtime_ns"].to_numpy()
    explorer.curves, explorer.command = read_curves(Path(config.run)), names_command(config.run, config.out)
    wanted, stretches, positions = {}, {}, {}
    for cluster, kinds in enumerate(shown):
        for place in {place for kind in kinds.values() for place in kind}:
            row, name = int(explorer.rows(cluster)[place]), preview_name(cluster, place)
            start, seconds = stretch(float(a.window_start[row]), float(lengths[row]), clip_seconds)
            target = str(folder / "previews" / name)
            wanted[name] = Preview(storage.locate(a.path[row]), start, seconds, bool(has_audio[row]), target)
            stretches[name] = Stretch(a.path[row], int(sizes[row]), int(changed[row]), start, seconds)
            positions[name] = int(explorer.bounds[cluster]) + place
    silent = {name for name, preview in wanted.items() if not preview.sound}
    status = PreviewStatus(positions, silent, lambda state: write_previews(folder, state))
    page = write_explorer(folder, explorer, shown, status.state(), stretches)
    stamps = {name: list(of[:3]) for name, of in stretches.items()}
    missing = make_previews(folder / "previews", wanted, stamps, max(1, config.workers), status)
    audible = {name: preview for name, preview in wanted.items() if preview.sound and name not in missing}
    previews = []
    for cluster, kinds in enumerate(shown):
        names = [preview_name(cluster, place) for place in kinds["confident"]]
        previews.append([Path(audible[name].target).with_suffix(".mp4") for name in names if name in audible])
    explorer.sounds = describe_previews(previews, config.workers)
    write_overview(folder, explorer, shown)
    status.write(finished=True)
    return page, missing
