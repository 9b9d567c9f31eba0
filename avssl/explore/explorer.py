"""The explorer: a folder with a page that shows the clusters in a browser. It needs no server and no network.

The data are scripts that call `avssl.put(name, value)`: browsers let a page from the file system load only scripts.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..core.atomic import plain, write_text
from ..core.errors import UserError
from ..core.safe_paths import below
from ..core.untrusted import parse_json, read_text
from ..metrics.clustering import ClusteringTable
from .assignments import Assignments
from .names import Names
from .sound_descriptions import SoundDescription
from .table import table_notes, table_rows

VERSION = 1
ROWS = 2000
"""Videos in a script of a cluster's videos."""
CLASSES, NEAREST, COVER = 30, 8, 4
"""For each cluster: classes that are counted apart, nearest clusters, and videos on its card."""
MAX_BYTES = 64 << 20
"""Size limit of the overview, which has some kB per cluster."""
PAGE, OVERVIEW = "index.html", "data/overview.js"


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
    order: np.ndarray = field(init=False)  # int64 [n]: decodable rows by cluster, the most confident first
    bounds: np.ndarray = field(init=False)  # int64 [K + 1] into `order`

    def __post_init__(self) -> None:
        label = self.assignments.label[:, self.head]
        order = np.lexsort((-self.assignments.confidence_joint[:, self.head], label))
        self.order = order[np.searchsorted(label[order], 0) :]
        self.bounds = np.searchsorted(label[self.order], np.arange(self.assignments.clusters + 1))

    def rows(self, cluster: int) -> np.ndarray:
        """Rows of the assignments in a cluster, the most confident first."""
        return self.order[self.bounds[cluster] : self.bounds[cluster + 1]]


def chosen_rows(explorer: Explorer, cluster: int, number: int, seed: int = 0) -> dict[str, list[int]]:
    """Positions in `Explorer.rows` of the videos to show: the most confident, random ones, the least confident.

    There are at most `number` of each kind, and no video occurs twice, not even with another window.
    """
    rows, path = explorer.rows(cluster), explorer.assignments.path
    rest = np.random.default_rng([seed, cluster]).permutation(len(rows)).tolist()
    seen: set[str] = set()
    chosen: dict[str, list[int]] = {}
    for kind, candidates in (
        ("confident", range(len(rows))),
        ("least", range(len(rows) - 1, -1, -1)),
        ("random", rest),
    ):
        chosen[kind] = []
        for place in candidates:
            if len(chosen[kind]) >= number:
                break
            if path[rows[place]] not in seen:
                seen.add(path[rows[place]])
                chosen[kind].append(int(place))
    return {"confident": chosen["confident"], "random": sorted(chosen["random"]), "least": chosen["least"]}


def preview_name(cluster: int, place: int) -> str:
    """The name of a preview below `previews/`, without extension: numbers only, so no file name gets into a URL."""
    return f"{cluster:05d}/{place:07d}"


def write_explorer(folder: Path, explorer: Explorer, shown: Sequence[dict[str, list[int]]]) -> Path:
    """Write the page, its data and its code, and return the page. `make_previews` writes the previews.

    Args:
        folder: the folder to write to; data of clusters that no longer exist are removed from it.
        explorer: the clusters.
        shown: the videos to show of each cluster, as from `chosen_rows`.
    """
    below(folder, OVERVIEW, writing=True)  # a link there must not lead the removal elsewhere
    class_ids, splits = explorer.assignments.class_ids()[0], _splits(explorer)
    written = {Path(OVERVIEW).name}
    for cluster in range(explorer.assignments.clusters):
        written |= _write_shards(folder, explorer, cluster, class_ids, splits)
    write_overview(folder, explorer, shown)
    for stale in (folder / "data").glob("*.js"):
        if stale.name not in written:
            stale.unlink()
    for asset in sorted((files("avssl.explore") / "page").iterdir(), key=lambda asset: asset.name):
        write_text(folder / asset.name, asset.read_text("utf-8"))
    return folder / PAGE


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
    _put(folder / OVERVIEW, "overview", about)


def _splits(explorer: Explorer) -> list[str]:
    return sorted({split for split in explorer.assignments.split if split is not None})


def rename(folder: Path, names: Names) -> None:
    """Write names into an existing explorer. Raises UserError if there is none in `folder`."""
    path = folder / OVERVIEW
    try:
        text = read_text(path, MAX_BYTES)
        about = parse_json(text[text.index(",") + 1 : text.rindex(")")], MAX_BYTES // 4)
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict):
        raise UserError(f"no explorer in {folder}: run `avssl clusters` without names first")
    _put(path, "overview", {**about, "names": names.to_dict()})


def _put(path: Path, name: str, value: Any) -> None:
    text = json.dumps(plain(value, digits=5), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    # file names may not be valid Unicode
    write_text(path, f'avssl.put("{name}",{text});\n'.encode("utf-8", "replace").decode("utf-8"))


def _about(explorer: Explorer) -> dict[str, Any]:
    a, table = explorer.assignments, explorer.table
    headings, rows = table_rows(table) if table is not None else ([], [])
    marginal = explorer.marginal
    return {
        "version": VERSION,
        "run": a.run,
        "data": explorer.data,
        "step": a.step,
        "head": explorer.head,
        "heads": a.heads,
        "notes": explorer.notes,
        "key": hashlib.sha256(f"{a.run}\0{a.step}\0{explorer.head}".encode("utf-8", "replace")).hexdigest()[:16],
        "videos": len(explorer.order),
        "files": len({a.path[row] for row in explorer.order}),
        "clusters": a.clusters,
        "undecodable": int((a.label[:, explorer.head] < 0).sum()),
        "marginal": None if marginal is None else np.sort(np.asarray(marginal, float))[::-1],
        "table": None if table is None else {"headings": headings, "rows": rows, "notes": table_notes(table)},
    }


def _cluster(
    explorer: Explorer, cluster: int, class_ids: np.ndarray, classes: int, shown: dict[str, list[int]]
) -> dict[str, Any]:
    a, head, rows = explorer.assignments, explorer.head, explorer.rows(cluster)
    known_ids = class_ids[rows][class_ids[rows] >= 0]
    counts = np.bincount(known_ids, minlength=classes)
    largest = [int(c) for c in np.lexsort((np.arange(classes), -counts)) if counts[c]]
    video, audio = a.label_video[rows, head], a.label_audio[rows, head]
    both = (video >= 0) & (audio >= 0)
    similar = np.full(a.clusters, np.nan) if explorer.similarity is None else explorer.similarity[cluster].copy()
    similar[cluster] = np.nan
    nearest = [int(c) for c in np.argsort(-similar, kind="stable")[:NEAREST] if similar[c] == similar[c]]
    place = None if explorer.places is None or np.isnan(explorer.places[cluster]).any() else explorer.places[cluster]
    return {
        "id": cluster,
        "size": len(rows),
        "shards": -(-len(rows) // ROWS),
        "confidence": {
            name: _mean(getattr(a, f"confidence_{name}")[rows, head]) for name in ("joint", "video", "audio")
        },
        "agreement": _mean((video == audio)[both]),
        "purity": counts.max() / len(known_ids) if len(known_ids) else None,
        "classes": [[c, counts[c]] for c in largest[:CLASSES]],
        "other_classes": counts[largest[CLASSES:]].sum() if classes else 0,
        "nearest": [[c, float(similar[c])] for c in nearest],
        "at": place,
        "cover": shown["confident"][:COVER],
        "sound": None if (sound := explorer.sounds.get(cluster)) is None else sound.to_dict(),
        "shown": shown,
    }


def _mean(values: np.ndarray) -> float | None:
    values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(values.mean()) if len(values) else None


def _write_shards(folder: Path, explorer: Explorer, cluster: int, class_ids: np.ndarray, splits: list[str]) -> set[str]:
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
            "confidence": a.confidence_joint[part, head].astype(float),
            "video": a.label_video[part, head],
            "audio": a.label_audio[part, head],
            "url": [explorer.url(row) for row in part],
        }
        _put(folder / "data" / f"{name}.js", name, value)
        names.add(f"{name}.js")
    return names
