"""The explorer: a folder with a page that shows the clusters in a browser. It needs no server and no network.

The data are scripts that call `avssl.put(name, value)`, because a page from the file system can load only scripts.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.safe_paths import below
from ..metrics.clustering import ClusteringTable
from .assignments import Assignments
from .cluster_data import NEAREST, as_base64, by_cluster, columns, different_videos, other_head, own_folders, summary
from .names import Names
from .overlays import keep_overlays
from .page_data import OVERVIEW, PAGE, VERSION, put, read_overview, write_code
from .previews import Stretch
from .sound_descriptions import SoundDescription
from .table import table_notes, table_rows

ROWS = 2000
"""Videos per script of a cluster's videos."""
MAX_PAIRS = 2000
"""Most clusters whose similarity to all others is written, for clusters that are merged: 5 MB."""
PREVIEWS = "data/previews.js"

__all__ = [
    "PAGE", "Explorer", "chosen_rows", "preview_name", "rename", "write_explorer", "write_overview", "write_previews",
]  # fmt: skip


@dataclass
class Explorer:
    """The clusters of one head, as the explorer shows them."""

    assignments: Assignments
    head: int
    data: str
    table: ClusteringTable | None = None
    marginal: np.ndarray | None = None  # [K], sums to 1: the target sizes, in any order
    similarity: np.ndarray | None = None  # [K, K] in 0..1, NaN for empty clusters
    places: np.ndarray | None = None  # [K, 2] in 0..1, NaN for empty clusters: the map
    names: Names = field(default_factory=Names)
    notes: list[str] = field(default_factory=list)
    sounds: dict[int, SoundDescription] = field(default_factory=dict)  # by cluster, of clusters with audio previews
    url: Callable[[int], str | None] = lambda row: None  # a row of the assignments → a link to its video
    seconds: np.ndarray | None = None  # float [N], lengths of the windows
    curves: dict[str, Any] | None = None  # of the training, from `read_curves`
    too_few: str = ""  # that the videos are too few
    command: str = ""  # the command that applies the names that the page downloads
    order: np.ndarray = field(init=False)  # int64 [n]: decodable rows by cluster, the most confident first
    bounds: np.ndarray = field(init=False)  # int64 [K + 1] into `order`

    def __post_init__(self) -> None:
        a = self.assignments
        label, confidence = a.label[:, self.head], a.confidence_joint[:, self.head]
        self.order, self.bounds = by_cluster(label, confidence, a.clusters)

    def rows(self, cluster: int) -> np.ndarray:
        """Rows of the assignments in a cluster, the most confident first."""
        return self.order[self.bounds[cluster] : self.bounds[cluster + 1]]


def chosen_rows(explorer: Explorer, cluster: int, number: int, seed: int = 0) -> dict[str, list[int]]:
    """Positions in `Explorer.rows` of the videos to show: the most confident, random ones, and the least confident.

    There are at most `number` of each kind. No video occurs twice, not even with another window.
    """
    rng = np.random.default_rng([seed, cluster])
    return different_videos(explorer.assignments.path, explorer.rows(cluster), number, rng)


def preview_name(cluster: int, place: int) -> str:
    """The name of a preview below `previews/`, without extension: only numbers, so that URLs contain no file names."""
    return f"{cluster:05d}/{place:07d}"


def write_explorer(
    folder: Path,
    explorer: Explorer,
    shown: Sequence[dict[str, list[int]]],
    previews: dict[str, Any] | None = None,
    stretches: Mapping[str, Stretch] | None = None,
) -> Path:
    """Write the page, its data and its code, and return the page. `make_previews` writes the previews.

    Args:
        folder: the folder to write to; data of clusters that no longer exist are removed from it.
        explorer: the clusters.
        shown: the videos to show of each cluster, from `chosen_rows`.
        previews: which previews exist, from `PreviewStatus.state`; None: all of them.
        stretches: what each preview shows, by name. Overlays of these stretches by the same model stay; None: none do.
    """
    below(folder, OVERVIEW, writing=True)  # a link there must not lead the removal elsewhere
    overlays = keep_overlays(folder, _key(explorer), stretches or {})  # before their previews get other videos
    class_ids, splits = explorer.assignments.class_ids()[0], _splits(explorer)
    folders = own_folders(explorer.assignments.path)
    written = {Path(OVERVIEW).name, *overlays}
    for cluster in range(explorer.assignments.clusters):
        written |= _write_shards(folder, explorer, cluster, class_ids, splits, folders)
    written |= _write_heads(folder, explorer, class_ids, shown)
    written |= _write_similarity(folder, explorer.similarity)
    put(folder / "data" / "curves.js", "curves", explorer.curves or {})
    write_previews(folder, previews or {"finished": True, "failed": [], "silent": []})
    written |= {"curves.js", Path(PREVIEWS).name}
    write_overview(folder, explorer, shown)
    for stale in (folder / "data").glob("*.js"):
        if stale.name not in written:
            stale.unlink()
    return write_code(folder)


def write_overview(folder: Path, explorer: Explorer, shown: Sequence[dict[str, list[int]]]) -> None:
    """Write the data of all clusters; call it again when `explorer` has changed. Arguments as for `write_explorer`."""
    class_ids, classes = explorer.assignments.class_ids()
    about = {
        **_about(explorer),
        "classes": classes,
        "splits": _splits(explorer),
        "cluster": [
            _cluster(explorer, cluster, class_ids, len(classes), shown[cluster])
            for cluster in range(explorer.assignments.clusters)
        ],
        "names": explorer.names.to_dict(),
    }
    put(folder / OVERVIEW, "overview", about)


def write_previews(folder: Path, state: dict[str, Any]) -> None:
    """Write which previews exist, in the form of `PreviewStatus.state`. The page rereads it while some are missing."""
    put(folder / PREVIEWS, "previews", state)


def _write_heads(
    folder: Path, explorer: Explorer, class_ids: np.ndarray, shown: Sequence[dict[str, list[int]]]
) -> set[str]:
    """Write a script for each head: the map's columns, and for a head that was not chosen, its clusters and order."""
    a, classes = explorer.assignments, int(class_ids.max(initial=-1)) + 1
    files = None if _files(explorer) == len(explorer.order) else np.unique(np.asarray(a.path), return_inverse=True)[1]
    previewed = np.zeros(len(a.path), bool)
    for cluster, kinds in enumerate(shown):
        previewed[explorer.rows(cluster)[[place for kind in kinds.values() for place in kind]]] = True
    number = max((len(places) for kinds in shown for places in kinds.values()), default=0)
    names = set()
    for head in range(a.heads):
        order, _ = by_cluster(a.label[:, head], a.confidence_joint[:, head], a.clusters)
        value = columns(a, head, order, class_ids, files)
        if head != explorer.head:
            value |= other_head(
                a, head, explorer.order, a.label[:, explorer.head], explorer.places, previewed, number, class_ids,
                classes,
            )  # fmt: skip
        names.add(f"head_{head}.js")
        put(folder / "data" / f"head_{head}.js", f"head_{head}", value)
    return names


def _write_similarity(folder: Path, similarity: np.ndarray | None) -> set[str]:
    """Write the similarity of each pair of clusters in 250 steps, 255 if it is unknown."""
    if similarity is None or len(similarity) > MAX_PAIRS:
        return set()
    steps = np.where(np.isnan(similarity), 255, np.round(250 * np.nan_to_num(similarity))).astype(np.uint8)
    put(folder / "data" / "similar.js", "similar", {"data": as_base64(steps)})
    return {"similar.js"}


def _files(explorer: Explorer) -> int:
    return len({explorer.assignments.path[row] for row in explorer.order})


def _splits(explorer: Explorer) -> list[str]:
    return sorted({split for split in explorer.assignments.split if split is not None})


def rename(folder: Path, names: Names) -> None:
    """Write names into an existing explorer. Raises UserError if there is none in `folder`."""
    put(folder / OVERVIEW, "overview", {**read_overview(folder), "names": names.to_dict()})


def _key(explorer: Explorer) -> str:
    """The name under which a browser keeps the user's names: that of these clusters alone."""
    a = explorer.assignments
    text = f"{a.run}\0{a.step}\0{explorer.head}\0{a.model}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _about(explorer: Explorer) -> dict[str, Any]:
    a, table = explorer.assignments, explorer.table
    headings, rows = table_rows(table) if table is not None else ([], [])
    marginal = explorer.marginal
    return {
        "version": VERSION,
        "run": a.run,
        "data": explorer.data,
        "step": a.step,
        "model": a.model,
        "head": explorer.head,
        "heads": a.heads,
        "notes": explorer.notes,
        "too_few": explorer.too_few,
        "command": explorer.command,
        "curves": explorer.curves is not None,
        "pairs": explorer.similarity is not None and a.clusters <= MAX_PAIRS,
        "key": _key(explorer),
        "videos": len(explorer.order),
        "files": _files(explorer),
        "clusters": a.clusters,
        "undecodable": int((a.label[:, explorer.head] < 0).sum()),
        "marginal": None if marginal is None else np.sort(np.asarray(marginal, float))[::-1],
        "table": None if table is None else {"headings": headings, "rows": rows, "notes": table_notes(table)},
    }


def _cluster(
    explorer: Explorer, cluster: int, class_ids: np.ndarray, classes: int, shown: dict[str, list[int]]
) -> dict[str, Any]:
    a, rows = explorer.assignments, explorer.rows(cluster)
    similar = np.full(a.clusters, np.nan) if explorer.similarity is None else explorer.similarity[cluster].copy()
    similar[cluster] = np.nan
    nearest = [int(c) for c in np.argsort(-similar, kind="stable")[:NEAREST] if similar[c] == similar[c]]
    place = None if explorer.places is None or np.isnan(explorer.places[cluster]).any() else explorer.places[cluster]
    return {
        "id": cluster,
        "shards": -(-len(rows) // ROWS),
        **summary(a, explorer.head, rows, class_ids, classes, shown),
        "nearest": [[c, float(similar[c])] for c in nearest],
        "at": place,
        "sound": None if (sound := explorer.sounds.get(cluster)) is None else sound.to_dict(),
    }


def _write_shards(
    folder: Path, explorer: Explorer, cluster: int, class_ids: np.ndarray, splits: list[str], folders: dict[str, str]
) -> set[str]:
    a, head, rows = explorer.assignments, explorer.head, explorer.rows(cluster)
    place = {split: i for i, split in enumerate(splits)}
    names = set()
    for number, start in enumerate(range(0, len(rows), ROWS)):
        part = rows[start : start + ROWS]
        name = f"cluster_{cluster:05d}_{number}"
        value = {
            "path": [a.path[row] for row in part],
            "class": class_ids[part],
            "split": [-1 if (split := a.split[row]) is None else place[split] for row in part],
            "start": a.window_start[part],
            **({"folder": [folders[a.path[row]] for row in part]} if folders else {}),
            **({} if explorer.seconds is None else {"end": a.window_start[part] + explorer.seconds[part]}),
            "confidence": a.confidence_joint[part, head].astype(float),
            "video": a.label_video[part, head],
            "audio": a.label_audio[part, head],
            "url": [explorer.url(row) for row in part],
        }
        put(folder / "data" / f"{name}.js", name, value)
        names.add(f"{name}.js")
    return names
