"""The clusters of one head as data for the page: what is shown of each cluster, and packed columns of all videos."""

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .assignments import Assignments

CLASSES, NEAREST, COVER = 30, 8, 4
"""For each cluster: classes that are counted apart, nearest clusters, and videos on its card."""

SAME = 5
"""For a cluster of another head: the clusters of the chosen head that hold most of its videos."""


def by_cluster(label: np.ndarray, confidence: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the page.

    Args:
        label: of one head, int [N], -1 for videos that could not be decoded.
        confidence: float [N].
        clusters: K.

    Returns:
        The rows of decodable videos by cluster, the most confident first, int64 [n], and where each cluster begins
        there, int64 [K + 1].
    """
    order = np.lexsort((-confidence, label))
    order = order[np.searchsorted(label[order], 0) :]
    return order, np.searchsorted(label[order], np.arange(clusters + 1))


def different_videos(
    paths: list[str], rows: np.ndarray, number: int, rng: np.random.Generator, candidates: np.ndarray | None = None
) -> dict[str, list[int]]:
    """Positions in `rows` of videos to show: the most confident, the least confident, and random ones.

    Args:
        paths: of all rows.
        rows: of one cluster, the most confident first, int64 [n].
        number: most videos of each kind. No video occurs twice, not even with another window.
        rng: draws the random ones.
        candidates: positions that may be chosen, ascending; None: all.
    """
    positions = np.arange(len(rows)) if candidates is None else candidates
    shuffled = positions[rng.permutation(len(positions))]
    seen: set[str] = set()
    chosen: dict[str, list[int]] = {}
    for kind, some in (("confident", positions), ("least", positions[::-1]), ("random", shuffled)):
        chosen[kind] = _first_unseen(paths, rows, some, number, seen)
    return {"confident": chosen["confident"], "random": sorted(chosen["random"]), "least": chosen["least"]}


def _first_unseen(
    paths: list[str], rows: np.ndarray, positions: Iterable[int], number: int, seen: set[str]
) -> list[int]:
    chosen: list[int] = []
    for place in positions:
        if len(chosen) >= number:
            break
        if (path := paths[rows[place]]) not in seen:
            seen.add(path)
            chosen.append(int(place))
    return chosen


def summary(
    a: Assignments, head: int, rows: np.ndarray, class_ids: np.ndarray, classes: int, shown: dict[str, list[int]]
) -> dict[str, Any]:
    """Sizes, means and classes of one cluster.

    Args:
        a: the assignments.
        head: whose cluster it is.
        rows: of the cluster.
        class_ids: of all rows, int64 [N], -1 if unknown.
        classes: number of classes.
        shown: positions in `rows`, from `different_videos`.
    """
    known_ids = class_ids[rows][class_ids[rows] >= 0]
    counts = np.bincount(known_ids, minlength=classes)
    largest = [int(c) for c in np.lexsort((np.arange(classes), -counts)) if counts[c]]
    video, audio = a.label_video[rows, head], a.label_audio[rows, head]
    both = (video >= 0) & (audio >= 0)
    return {
        "size": len(rows),
        "confidence": {
            name: _mean(getattr(a, f"confidence_{name}")[rows, head]) for name in ("joint", "video", "audio")
        },
        "agreement": _mean((video == audio)[both]),
        "purity": counts.max() / len(known_ids) if len(known_ids) else None,
        "classes": [[c, counts[c]] for c in largest[:CLASSES]],
        "other_classes": counts[largest[CLASSES:]].sum() if classes else 0,
        "cover": shown["confident"][:COVER],
        "shown": shown,
    }


def _mean(values: np.ndarray) -> float | None:
    values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(values.mean()) if len(values) else None


def packed(values: np.ndarray) -> dict[str, Any]:
    """Integers from -1 as base64 of 16 or 32 bits each, little-endian; -1 has all bits set."""
    bits = 16 if int(values.max(initial=0)) < 2**16 - 1 else 32
    return {"bits": bits, "data": as_base64(values.astype(np.int64).astype(f"<u{bits // 8}"))}


def own_folders(paths: Sequence[str]) -> dict[str, str]:
    """The folder of each path that tells it from others of its file name, as `train`, or `train/left` if it takes more.

    If no file name occurs twice, there are none. Else a path of a unique name has the folder at the same depth, so that
    all look alike; it may be empty.
    """
    number = {path: n for path, n in _telling_parts(paths).items() if n > 1}
    if not number:
        return {}
    outermost = {path: path.split("/")[-n] for path, n in number.items()}
    counts = Counter((path.rpartition("/")[2], folder) for path, folder in outermost.items())
    depth = Counter(path.count("/") + 1 - n for path, n in number.items()).most_common(1)[0][0]
    found = {}
    for path in set(paths):
        *folders, name = path.split("/")
        if path not in number:
            found[path] = "".join(folders[depth : depth + 1])
        elif counts[name, outermost[path]] == 1:
            found[path] = outermost[path]
        else:
            found[path] = "/".join(folders[1 - number[path] :])
    return found


def _telling_parts(paths: Sequence[str]) -> dict[str, int]:
    """How many of the last parts of each path no other path ends in."""
    found, left, number = {}, {path: path.split("/") for path in set(paths)}, 0
    while left:
        number += 1
        ends = {path: "/".join(parts[-number:]) for path, parts in left.items()}
        counts = Counter(ends.values())
        for path, end in ends.items():
            if counts[end] == 1 or number >= len(left[path]):
                del left[path]
                found[path] = number
    return found


def as_base64(array: np.ndarray) -> str:
    """The bytes of an array as base64."""
    return base64.b64encode(array.tobytes()).decode()


def columns(
    a: Assignments, head: int, order: np.ndarray, class_ids: np.ndarray, files: np.ndarray | None
) -> dict[str, Any]:
    """Class and confidence (in 255 steps) of all videos in the order of a head's page, for the map.

    Args:
        a, head, order: the assignments, a head, and its order, from `by_cluster`.
        class_ids: int64 [N].
        files: a number for each row's file, int64 [N]; None if each file has one row.
    """
    confidence = a.confidence_joint[order, head]
    return {
        "class": packed(class_ids[order]) if (class_ids >= 0).any() else None,
        "confidence": as_base64(np.round(255 * np.clip(np.nan_to_num(confidence), 0, 1)).astype(np.uint8)),
        "dots": None if files is None else as_base64(np.packbits(_surest(files[order], confidence), bitorder="little")),
    }


def _surest(files: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Which rows are the most confident one of their file: bool [n]."""
    by_file = np.lexsort((-confidence, files))
    first = np.ones(len(files), bool)
    first[1:] = files[by_file][1:] != files[by_file][:-1]
    surest = np.zeros(len(files), bool)
    surest[by_file[first]] = True
    return surest


def other_head(
    a: Assignments,
    head: int,
    chosen_order: np.ndarray,
    chosen_label: np.ndarray,
    places: np.ndarray | None,
    previewed: np.ndarray,
    number: int,
    class_ids: np.ndarray,
    classes: int,
) -> dict[str, Any]:
    """The clusters of a head that was not chosen. Its videos refer to those of the chosen head, which are written once.

    Args:
        a: the assignments.
        head: the head.
        chosen_order: rows in the order of the chosen head, from `by_cluster`.
        chosen_label: labels of the chosen head, int [N].
        places: places of the chosen head's clusters on the map, [K, 2]; None without a map.
        previewed: which rows have a preview, bool [N]: only these are shown.
        number: videos of each kind to show.
        class_ids, classes: classes of the rows, int64 [N], and their number.
    """
    order, bounds = by_cluster(a.label[:, head], a.confidence_joint[:, head], a.clusters)
    position = np.full(len(a.path), -1, np.int64)
    position[chosen_order] = np.arange(len(chosen_order))
    found = []
    for cluster in range(a.clusters):
        rows = order[bounds[cluster] : bounds[cluster + 1]]
        candidates = np.flatnonzero(previewed[rows])
        shown = different_videos(a.path, rows, number, np.random.default_rng([head, cluster]), candidates)
        same = np.bincount(chosen_label[rows], minlength=a.clusters)
        most = [int(c) for c in np.argsort(-same, kind="stable")[:SAME] if same[c]]
        at = None
        if places is not None and len(rows):
            near = places[chosen_label[rows]]
            at = near[~np.isnan(near).any(1)].mean(0) if not np.isnan(near).all() else None
        found.append(
            {
                "id": cluster,
                **summary(a, head, rows, class_ids, classes, shown),
                "same": [[c, same[c] / len(rows)] for c in most],
                "nearest": [],
                "at": at,
                "sound": None,
            }
        )
    return {
        "cluster": found,
        "order": packed(position[order]),
        "video": packed(a.label_video[order, head]),
        "audio": packed(a.label_audio[order, head]),
    }
