"""`avssl clusters`: what a trained run makes of every video, as tables, figures and a page."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..clips.dataset import ClipDataset, describe_failures
from ..clips.decode import ClipSpec
from ..config import ClustersConfig, EvaluateConfig, TrainConfig
from ..config.run_folder import read_config
from ..core.atomic import write_json
from ..core.device import choose_device, share_cores
from ..core.errors import UserError
from ..core.plurals import counted, many
from ..core.screen import Console, one_line
from ..evaluate.head_measures import chosen_head
from ..evaluate.predictions import Predictions, predict
from ..metrics.clustering import ClusteringTable, clustering_table
from ..metrics.floors import raw_kmeans_floors
from ..metrics.head_choice import MEASURES
from ..runs.open import Source, open_source
from ..train.collapse import warn
from ..videos.index import read_index, splits, tell_if_changed
from ..videos.splits import reported_split
from ..videos.storage import Folder, Shards, open_storage
from .assignments import PARQUET, Assignments, read_assignments, write_assignments
from .explorer import PAGE, Explorer, chosen_rows, preview_name, rename, write_explorer, write_overview
from .labelled import write_labelled
from .names import Names, read_names
from .neighbours import places, similarity
from .previews import Preview, make_previews, stretch
from .sound_descriptions import describe_previews
from .table import print_table

EXPLORER = "explorer"


def run(config: ClustersConfig) -> Path:
    """Label the run's videos and write `assignments.parquet` and `.csv`, `clustering.json` and `explorer/index.html`;
    with `names`, the labelled data set too, of labels that are there if there are some.

    Returns the page. Raises UserError for a folder that is no run, names of other clusters, or an index or split that
    is missing.
    """
    console = Console(highlight=False, soft_wrap=True)
    run_folder, out = Path(config.run), Path(config.out)
    names = read_names(config.names) if config.names else Names()
    trained = read_config(run_folder)
    if "labelling" not in trained.objectives:
        raise UserError(
            f"{run_folder} has no clusters (task=gdt): see what it learnt with avssl evaluate run={run_folder}"
        )
    page = out / EXPLORER / PAGE
    if not (config.names and (out / PARQUET).is_file() and page.is_file()):
        page = label_and_show(config, trained, names, console)
    if config.names:
        apply_names(config, trained, names, console)
    return page


def label_and_show(config: ClustersConfig, trained: TrainConfig, names: Names, console: Console) -> Path:
    """Label, and write all but the labelled data set; returns the page."""
    run_folder, out = Path(config.run), Path(config.out)
    source = open_source(EvaluateConfig(run=config.run))
    model, step = source.model, source.step
    assert model is not None
    assert step is not None
    device = choose_device(config.device)
    share_cores(device, config.workers, config.threads)
    lab = trained.labelling
    model.to(device)

    choice = chosen_head(source, device, config.workers)
    chosen = choice.head or 0
    names.check(step, chosen, lab.clusters)
    tell_if_changed(trained.data, source.videos, config.run)
    found: dict[str, tuple[pa.Table, Predictions]] = {}
    for split in [config.split] if config.split else splits(trained.data.index):
        rows = read_index(trained.data.index, split)
        modalities = None if config.floors else list(model.encoders)
        dataset = ClipDataset(rows, trained.data.root, trained.clip, trained.seed, modalities=modalities)
        predicted = predict(
            model, dataset, trained.clip, device, trained.precision, config.workers, raw=config.floors, summed=chosen
        )
        found[split] = rows, predicted

    # read_index's rows are in the order of the splits, and so is all that follows
    tables: dict[str, ClusteringTable] = {}
    figures: dict[str, Any] = {"run": str(run_folder), "step": step, "clusters": lab.clusters}
    for split, (rows, predicted) in found.items():
        ids = class_ids(rows)
        table = clustering_table(predicted.labels, ids, source.costs, lab.clusters, choice)
        tables[split] = replace(table, files=len(set(rows["path"].to_pylist())))
        figures[split] = tables[split].to_dict()
        if config.floors:
            figures[split]["floors"] = floors(ids, predicted)
    reported = reported_split(found, trained.data.test_split, trained.data.train_split)
    assignments = gather(found, lab.clusters, str(run_folder), step, chosen)
    parquet, csv = write_assignments(out, assignments)
    write_json(out / "clustering.json", {"reported": reported, **figures})

    console.print()
    print_table(tables[reported], console, reported)
    warn(lambda text: console.print(text, markup=False), dict(enumerate(choice.collapsed or [])), lab)
    if config.floors and (f := figures[reported]["floors"]):
        console.print(
            f"k-means without learning, NMI: raw pixels {100 * f['pixels']:.1f} %, raw spectrograms "
            f"{100 * f['log_mel']:.1f} %, both {100 * f['both']:.1f} %",
        )
    failed = describe_failures(failure for _, p in found.values() for failure in p.failures)
    if failed:
        console.print(f"{failed}: label -1", markup=False)
    for text, path in (("labels", parquet), ("", csv), ("figures", out / "clustering.json")):
        console.print(f"{text:8}{path}", markup=False)
    storage = open_storage(trained.data.root)
    explorer = make_explorer(assignments, trained, tables[reported], reported, source, found, names, storage)
    page, missing = show(explorer, config, trained, storage, pa.concat_tables([rows for rows, _ in found.values()]))
    if missing:
        why = ", ".join(f"{count} {reason}" for reason, count in Counter(missing.values()).most_common(3))
        console.print(f"{len(missing)} previews could not be made: {why}", markup=False)
    console.print(f"open    {page}", markup=False)
    return page


def apply_names(config: ClustersConfig, trained: TrainConfig, names: Names, console: Console) -> None:
    """Write the labelled data set, and the names into the page."""
    out = Path(config.out)
    assignments = read_assignments(out)
    names.check(assignments.step, assignments.chosen_head or 0, assignments.clusters)
    there = sorted({split for split in assignments.split if split is not None})
    if config.split and config.split not in there:
        raise UserError(
            f"split={config.split}: {out / PARQUET} has labels of {', '.join(there) or 'no split'}; give one of them, "
            "or label every split first: the same command without names= and split="
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
        console.print("no links: the videos are members of tar shards")


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


def make_explorer(
    assignments: Assignments,
    trained: TrainConfig,
    table: ClusteringTable,
    reported: str,
    source: Source,
    found: dict[str, tuple[pa.Table, Predictions]],
    names: Names,
    storage: Folder | Shards,
) -> Explorer:
    """The explorer of the head chosen without labels."""
    head = assignments.chosen_head or 0
    by = f", chosen without classes, by {MEASURES[table.chosen_by]}" if table.chosen_by else ""
    notes = [f"head {head} of {assignments.heads}{by}"] if assignments.heads > 1 else []
    if table.has_classes:
        notes.append(f"figures of the split “{reported}”")
    asked = source.marginals
    means = cluster_means([p for _, p in found.values()])
    return Explorer(
        assignments,
        head,
        trained.data.name,
        table=table,
        marginal=None if asked is None else asked[head],
        similarity=None if means is None else similarity(means),
        places=None if means is None else places(means, trained.seed),
        names=names,
        notes=notes,
        url=link_to(assignments, storage),
    )


def cluster_means(predictions: list[Predictions]) -> np.ndarray | None:
    """Float64 [K, D]: mean features by cluster, NaN for empty ones; None where no video could be decoded."""
    sums, counts = ([x for p in predictions if (x := getattr(p, name)) is not None] for name in ("sums", "counts"))
    if not sums:
        return None
    count = np.sum(counts, 0)[:, None]
    return np.divide(np.sum(sums, 0), count, out=np.full_like(sums[0], np.nan), where=count > 0)


def link_to(assignments: Assignments, storage: Folder | Shards) -> Callable[[int], str | None]:
    """Links to the videos' files; None for members of shards."""
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
    """Write the explorer and its previews; the page, and why previews are missing. `rows`: of the index, in the order
    of the assignments."""
    folder, a = Path(config.out) / EXPLORER, explorer.assignments
    shown = [chosen_rows(explorer, cluster, config.previews, trained.seed) for cluster in range(a.clusters)]
    clip_seconds = ClipSpec.of(trained.clip).seconds
    lengths, sound = rows["window_seconds"].to_numpy(), rows["audio_rate"].to_numpy() > 0
    sizes, changed = rows["size"].to_numpy(), rows["mtime_ns"].to_numpy()
    wanted, stamps = {}, {}
    for cluster, kinds in enumerate(shown):
        for place in {place for kind in kinds.values() for place in kind}:
            row, name = int(explorer.rows(cluster)[place]), preview_name(cluster, place)
            start, seconds = stretch(float(a.window_start[row]), float(lengths[row]), clip_seconds)
            target = str(folder / "previews" / name)
            wanted[name] = Preview(storage.locate(a.path[row]), start, seconds, bool(sound[row]), target)
            stamps[name] = [a.path[row], int(sizes[row]), int(changed[row])]
    page = write_explorer(folder, explorer, shown)
    missing = make_previews(folder / "previews", wanted, stamps, max(1, config.workers))
    heard = {name: preview for name, preview in wanted.items() if preview.sound and name not in missing}
    previews = []
    for cluster, kinds in enumerate(shown):
        names = [preview_name(cluster, place) for place in kinds["confident"]]
        previews.append([Path(heard[name].target).with_suffix(".mp4") for name in names if name in heard])
    explorer.sounds = describe_previews(previews, config.workers)
    write_overview(folder, explorer, shown)
    return page, missing
