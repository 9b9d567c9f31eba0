"""The labelled data set of named clusters: tables, and a folder of links per name."""

import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..core.atomic import HEX, atomic_path, stale_paths
from ..core.csv_cells import quoted_table
from ..core.errors import UserError
from ..core.safe_paths import below
from ..core.screen import BIDI
from ..videos.storage import Folder, Shards
from .assignments import Assignments
from .names import Names

PARQUET, CSV, TREE = "labelled.parquet", "labelled.csv", "videos"
REFUSED = rf'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029{BIDI}]'
"""Characters that file systems do not allow in names, or that disguise a name."""

MARK = ".made_by_avssl"
"""The file that marks a folder as written by this command, so that it may be replaced."""


@dataclass
class LabelledDataSet:
    """The result of an export."""

    folder: Path
    counts: Counter = field(default_factory=Counter)
    """Number of videos, or of windows, by name."""
    left_out: Counter = field(default_factory=Counter)
    """Number of videos, or of windows, that were left out, by reason."""
    tree: Path | None = None
    rows: int = 0
    """Number of videos, or of windows."""
    files: int = 0
    """Number of video files."""


def write_labelled(
    folder: Path,
    assignments: Assignments,
    names: Names,
    storage: Folder | Shards,
    links: str = "symbolic",
    min_confidence: float = 0.0,
    only_named: bool = False,
    split: str = "",
) -> LabelledDataSet:
    """Write `labelled.parquet`, `labelled.csv` and `videos/{split}/{name}/{file}` to `folder`.

    The labels are those of the chosen head, after merging; an unnamed cluster is called `cluster_007`. The new folder
    replaces the old one once it is complete. Each window of a file becomes a separate link, with the window's start in
    its name.

    Args:
        folder: the folder to write.
        assignments: the labels.
        names: names, merges and rejections of clusters; videos of rejected clusters are left out.
        storage: where the videos are; videos in shards get no links.
        links: symbolic, hard, copy or none.
        min_confidence: leave out videos with a lower confidence.
        only_named: leave out videos of unnamed clusters.
        split: leave out videos of other splits; empty: keep all splits.

    Raises:
        UserError: the file system does not support such links, a video is missing, or `videos` in `folder` contains
            other files or the videos themselves.
    """
    linked = isinstance(storage, Folder) and links != "none"
    if linked:
        _refuse_others(folder / TREE, storage.root)
    head = assignments.chosen_head or 0
    label, confidence = assignments.label[:, head], assignments.confidence_joint[:, head]
    done = LabelledDataSet(folder)
    kept, targets, titles = [], [], []
    for row, cluster in enumerate(label.tolist()):
        why = (
            "of other splits" if split and assignments.split[row] != split
            else "could not be decoded" if cluster < 0
            else "of rejected clusters" if names.rejected(cluster)
            else "of unnamed clusters" if only_named and names.name(cluster) is None
            else f"with a confidence below {min_confidence:g}" if confidence[row] < min_confidence
            else None
        )  # fmt: skip
        if why is not None:
            done.left_out[why] += 1
            continue
        kept.append(row)
        targets.append(names.target(cluster))
        titles.append(names.title(cluster))
    done.counts.update(titles)
    done.rows, done.files = len(kept), len({assignments.path[row] for row in kept})
    _write_tables(folder, assignments, kept, targets, titles, head)
    if linked:
        assert isinstance(storage, Folder)
        done.tree = folder / TREE
        _write_tree(done.tree, assignments, kept, titles, storage, links)
    return done


def _refuse_others(tree: Path, root: Path) -> None:
    if root.resolve().is_relative_to(tree.resolve()):
        raise UserError(f"{tree} contains the videos themselves: choose another folder with labelled=…")
    if tree.exists() and not (tree / MARK).is_file() and (not tree.is_dir() or any(tree.iterdir())):
        raise UserError(f"{tree} exists, but `avssl clusters` did not write it: choose another folder with labelled=…")


def _write_tables(
    folder: Path, a: Assignments, kept: list[int], targets: list[int], titles: list[str], head: int
) -> None:
    video, audio = a.label_video[kept, head], a.label_audio[kept, head]
    agree = pa.array(video == audio, pa.bool_(), mask=(video < 0) | (audio < 0))
    table = pa.table(
        {
            "path": pa.array([a.path[row] for row in kept], pa.string()),
            "split": pa.array([a.split[row] for row in kept], pa.string()),
            "class": pa.array([a.classes[row] for row in kept], pa.string()),
            "window_start": a.window_start[kept],
            "label": pa.array(targets, pa.int32()),
            "name": pa.array(titles, pa.string()),
            "confidence": a.confidence_joint[kept, head],
            "agree": agree,
        }
    )
    with atomic_path(folder / PARQUET) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
    with atomic_path(folder / CSV) as temporary:
        pyarrow.csv.write_csv(quoted_table(table), temporary)


def _write_tree(tree: Path, a: Assignments, kept: list[int], titles: list[str], storage: Folder, links: str) -> None:
    folders = folder_names(dict.fromkeys(titles))
    splits = folder_names(dict.fromkeys(a.split[row] or "all" for row in kept))
    windows = Counter(a.path[row] for row in kept)
    used: set[str] = set()
    new = tree.with_name(f".{tree.name}.{uuid4().hex[:12]}")
    try:
        for row, title in zip(kept, titles, strict=True):
            path = Path(a.path[row])
            stem = path.stem if windows[a.path[row]] == 1 else f"{path.stem}_{a.window_start[row]:g}s"
            where = f"{splits[a.split[row] or 'all']}/{folders[title]}"
            name = f"{where}/{stem}{path.suffix}"
            if name.casefold() in used:  # by a file with the same name from another folder
                stem = "__".join([*path.parent.parts, stem])
                name, number = f"{where}/{stem}{path.suffix}", 2
                while name.casefold() in used:
                    name, number = f"{where}/{stem}_{number}{path.suffix}", number + 1
            used.add(name.casefold())
            _link(Path(storage.locate(a.path[row])), below(new, name, writing=True), links)
        new.mkdir(exist_ok=True)
        (new / MARK).write_text("avssl clusters names=… made this folder, and replaces it\n")
        old = tree.with_name(f".{tree.name}.{uuid4().hex[:12]}")
        if tree.exists():
            os.replace(tree, old)
        os.replace(new, tree)
        shutil.rmtree(old, ignore_errors=True)
        for stale in stale_paths(tree.parent, f".{tree.name}.{HEX}"):
            shutil.rmtree(stale, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _link(source: Path, target: Path, links: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()
    try:
        if links == "symbolic":
            target.symlink_to(source)
        elif links == "hard":
            os.link(source, target)
        else:
            shutil.copy2(source, target)
    except OSError as error:
        fix = "links=copy or links=none" if links != "copy" else "links=none"
        raise UserError(f"cannot link {source} to {target} ({error.strerror}): try {fix}") from None


def folder_names(titles: dict[str, None]) -> dict[str, str]:
    """A folder name for each title: without characters of `REFUSED`, and unique even if case is ignored."""
    folders: dict[str, str] = {}
    used: set[str] = set()
    for title in titles:
        plain = re.sub(REFUSED, "_", title.encode("utf-8", "replace").decode()).strip(" .")
        plain = plain.encode()[:120].decode("utf-8", "ignore") or "_"
        name, number = plain, 2
        while name.casefold() in used:
            name, number = f"{plain}_{number}", number + 1
        used.add(name.casefold())
        folders[title] = name
    return folders
