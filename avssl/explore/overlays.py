"""Heat maps and boxes over the previews of the explorer.

`data/locate.js` says which clusters have overlays, and `data/locate_<cluster>.js` holds those of one cluster; the page
loads the latter once they are shown. Each overlay belongs to one stretch of one video, which the page checks: previews
are named by their rank in a cluster, so that a name may come to mean another video.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import UserError
from ..core.safe_paths import below
from .cluster_data import as_base64
from .page_data import VERSION, put, read_overview, taken, write_code
from .previews import FPS, Stretch, read_previews

LOCATE = "locate.js"
MAX_SIDE, MAX_MOMENTS = 64, 500
"""Largest heat maps, and most of them for one preview: a few of 14 × 14 a second take some kB, which a page loads."""


@dataclass
class Overlay:
    """Where the sound is in a preview of T moments.

    Args:
        times: the moments, from the preview's start, s, float [T], ascending.
        maps: heat maps, uint8 [T, h, w], scaled from the video's minimum to its maximum.
        other: the same with the audio of another video, on the same scale; None if there is none.
        boxes: x0, y0, x1, y1 as fractions of the picture, float32 [T, 4]; NaN without a box.
        extent: the part of the picture that the maps cover, x0, y0, x1, y1 as fractions.
        cluster: the cluster of the video; -1 without.
        score: the largest similarity in the maps, in [-1, 1].
        of: what the maps were computed of, from `read_previews`; without it, the name of the preview has to suffice.
    """

    times: np.ndarray
    maps: np.ndarray
    other: np.ndarray | None
    boxes: np.ndarray
    extent: tuple[float, float, float, float]
    cluster: int
    score: float
    of: Stretch | None = None


def write_overlays(explorer: Path, overlays: Mapping[str, Overlay], note: str = "", split: str = "") -> int:
    """Write overlays into the folder of an explorer, in place of earlier ones; its page then offers them.

    Args:
        explorer: the folder, such as `clusters/explorer`.
        overlays: by the preview's name, as `explore.previews` and `explore.clusters.show` name them.
        note: a sentence for the page, such as that the maps are weak.
        split: the only split that has overlays, which the page says; empty: they are of all splits.

    Returns:
        How many overlays the page has; those of previews that are not there, or show something else by now, are
        left out.

    Raises:
        UserError: there is no explorer in the folder, or one of another version.
        ValueError: an overlay has arrays of the wrong shape, type or order.
    """
    about = read_overview(explorer)
    if about.get("version") != VERSION:
        raise UserError(f"another version of avssl wrote the page of clusters in {explorer}: repeat `avssl clusters`")
    data = below(explorer, f"data/{LOCATE}", writing=True).parent
    there = read_previews(explorer / "previews")
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for name, overlay in overlays.items():
        _check(name, overlay)
        if (of := there.get(name)) is not None and overlay.of in (None, of):
            folder, _, place = name.partition("/")
            found[int(folder)][str(int(place))] = _packed(overlay, of)
    for cluster, entries in found.items():
        put(data / _file(cluster), _file(cluster)[:-3], {"previews": entries})
    _put_index(data, str(about.get("key")), found, note, split)
    _remove_others(data, found)
    write_code(explorer)  # a page from before there were overlays
    return sum(map(len, found.values()))


def keep_overlays(explorer: Path, key: str, stretches: Mapping[str, Stretch]) -> set[str]:
    """Remove the overlays of other videos, stretches or models than those that the page is about to show.

    Args:
        explorer: the folder.
        key: of the model and head, as in the overview.
        stretches: what each preview is going to show, by name.

    Returns:
        The names of the files of overlays, all in `data/`.
    """
    data = explorer / "data"
    index = taken(data / LOCATE) or {}
    kept: dict[int, dict[str, Any]] = {}
    clusters = index.get("clusters") if index.get("key") == key and stretches else None
    for cluster in clusters if isinstance(clusters, list) else []:
        stored = (taken(data / _file(cluster)) or {}).get("previews") if isinstance(cluster, int) else None
        entries = {
            place: entry
            for place, entry in (stored.items() if isinstance(stored, dict) else ())
            if (of := stretches.get(f"{cluster:05d}/{place:>07}")) is not None
            and isinstance(entry, dict) and entry.get("stamp") == _stamp(of)
        }  # fmt: skip
        if entries:
            kept[cluster] = entries
            if entries != stored:
                put(data / _file(cluster), _file(cluster)[:-3], {"previews": entries})
    note, split = (text if kept and isinstance(text := index.get(of), str) else "" for of in ("note", "split"))
    _put_index(data, key, kept, note, split)
    _remove_others(data, kept)
    return {LOCATE, *map(_file, kept)}


def _file(cluster: int) -> str:
    return f"locate_{cluster:05d}.js"


def _put_index(data: Path, key: str, found: Mapping[int, dict[str, Any]], note: str, split: str) -> None:
    about = {
        "key": key,
        "note": note,
        "split": split,
        "clusters": sorted(found),
        "maps": sum(map(len, found.values())),
        "compared": any(entry.get("other") is not None for entries in found.values() for entry in entries.values()),
    }
    put(data / LOCATE, "locate", about)


def _remove_others(data: Path, found: Mapping[int, Any]) -> None:
    keep = set(map(_file, found))
    for path in data.glob("locate_*.js"):
        if path.name not in keep:
            with suppress(FileNotFoundError):  # two commands may remove it
                path.unlink()


def _stamp(of: Stretch) -> str:
    return hashlib.sha256(json.dumps(list(of)).encode()).hexdigest()[:16]


def _packed(overlay: Overlay, of: Stretch) -> dict[str, Any]:
    """An overlay as data for the page."""
    boxes = np.clip(np.asarray(overlay.boxes, np.float64), 0, 1)
    drawn = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # False with NaN, or outside the picture
    return {
        "path": of.path,
        "middle": of.start + of.seconds / 2,
        "stamp": _stamp(of),
        "still": int(of.seconds * FPS) // 2 / FPS,  # the moment of the preview's single frame
        "times": np.asarray(overlay.times, np.float64),
        "size": overlay.maps.shape[1:],
        "maps": as_base64(np.ascontiguousarray(overlay.maps)),
        "other": None if overlay.other is None else as_base64(np.ascontiguousarray(overlay.other)),
        "boxes": [box.tolist() if ok else None for box, ok in zip(boxes, drawn, strict=True)],
        "extent": [float(edge) for edge in overlay.extent],
        "cluster": int(overlay.cluster),
        "score": float(overlay.score),
    }


def _check(name: str, overlay: Overlay) -> None:
    """Raise ValueError for an overlay that the page cannot draw."""
    if re.fullmatch(r"\d+/\d+", name) is None:
        raise ValueError(f"{name!r} is no name of a preview")
    times, maps, other = np.asarray(overlay.times), overlay.maps, overlay.other
    moments = times.size
    if times.shape != (moments,) or not 1 <= moments <= MAX_MOMENTS or not np.isfinite(times).all():
        raise ValueError(f"overlay {name}: times must be 1 to {MAX_MOMENTS} numbers, not {times.shape}")
    if (np.diff(times) <= 0).any():
        raise ValueError(f"overlay {name}: times must ascend")
    if maps.dtype != np.uint8 or maps.ndim != 3 or len(maps) != moments or 0 in maps.shape:
        raise ValueError(f"overlay {name}: maps must be uint8 [{moments}, h, w], not {maps.dtype} {maps.shape}")
    if max(maps.shape[1:]) > MAX_SIDE:
        raise ValueError(f"overlay {name}: maps may have at most {MAX_SIDE} × {MAX_SIDE} positions, not {maps.shape}")
    if other is not None and (other.dtype, other.shape) != (maps.dtype, maps.shape):
        raise ValueError(f"overlay {name}: other must be like maps {maps.shape}, not {other.dtype} {other.shape}")
    if np.shape(overlay.boxes) != (moments, 4):
        raise ValueError(f"overlay {name}: boxes must be [{moments}, 4], not {np.shape(overlay.boxes)}")
    x0, y0, x1, y1 = overlay.extent
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(f"overlay {name}: extent {overlay.extent} must be x0 < x1 and y0 < y1 in 0..1")
