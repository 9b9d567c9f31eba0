"""The heat maps and boxes of the previews on the page of clusters."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..explore.overlays import Overlay
from ..explore.previews import Stretch, read_previews
from .boxes import largest_boxes
from .heat_pass import HeatPass
from .located import moment_times
from .picture import crop_extents, to_picture
from .prior import with_prior

FLAT = 1e-6
"""A video whose maps differ by less is the same everywhere."""


def shown_previews(explorer: Path, rows: pa.Table) -> tuple[dict[str, Stretch], pa.Table]:
    """The previews of an explorer whose videos are among the rows of the index, unchanged and with audio.

    Args:
        explorer: its folder.
        rows: the rows of all splits.

    Returns:
        The previews by name, and in their order a row for each, whose window is what the preview shows.
    """
    columns = (rows[name].to_pylist() for name in ("path", "size", "mtime_ns"))
    by_file: dict[tuple[str, int, int], int] = {}
    for row, key in enumerate(zip(*columns, strict=True)):
        by_file.setdefault(key, row)
    previews = sorted(read_previews(explorer / "previews").items())
    found = {name: shown for name, shown in previews if shown[:3] in by_file}
    taken = rows.take(pa.array([by_file[shown[:3]] for shown in found.values()], pa.int64()))
    for column, values in (
        ("window_start", [float(shown.start) for shown in found.values()]),
        ("window_seconds", [float(shown.seconds) for shown in found.values()]),
    ):
        taken = taken.set_column(taken.column_names.index(column), column, pa.array(values, pa.float64()))
    return found, taken


def clips_of(rows: pa.Table, clip_seconds: float) -> int:
    """The number of clips of each preview, so that their moments cover it in time."""
    longest = max(rows["window_seconds"].to_pylist(), default=clip_seconds)
    return max(1, math.ceil(longest / clip_seconds - 1e-6))


def overlays_of(work: HeatPass, previews: Mapping[str, Stretch], beta: float, weight: float) -> dict[str, Overlay]:
    """The overlays of previews.

    Args:
        work: a pass over the rows of `shown_previews`.
        previews: these previews.
        beta, weight: as in `locate_split`.
    """
    extents = crop_extents(work.rows["width"].to_numpy(), work.rows["height"].to_numpy(), work.config)
    begin = work.rows["window_start"].to_numpy()
    place = np.argsort(work.order)
    overlays: dict[str, Overlay] = {}
    names = list(previews)
    for rows, arrays in work.read():
        for i, row in enumerate(rows.tolist()):
            if not arrays["silent"][i].all():
                starts = np.array(work.dataset.evaluation_starts(int(place[row]))) - begin[row]
                overlay = _overlay(arrays, i, starts, extents[row], work, beta, weight)
                overlays[names[row]] = replace(overlay, of=previews[names[row]])
    return {name: overlays[name] for name in names if name in overlays}


def _overlay(
    arrays: dict[str, np.ndarray], i: int, starts: np.ndarray, extent: np.ndarray, work: HeatPass, beta: float,
    weight: float,
) -> Overlay:  # fmt: skip
    heat, prior = arrays["heat"][i], arrays["prior"][i] if "prior" in arrays else None
    times = moment_times(starts, heat.shape[1], work.config).reshape(-1)
    times, first = np.unique(np.maximum(times, 0).round(4), return_index=True)

    def flat(maps: np.ndarray) -> np.ndarray:
        return maps.reshape(-1, *maps.shape[2:])[first]

    final, raw = flat(with_prior(heat, prior, weight)), flat(heat)
    boxes = largest_boxes(final, beta, work.config.crop, raw).corners
    boxes[flat(np.broadcast_to(arrays["silent"][i][:, None, None, None], (*heat.shape[:2], 1, 1)))[:, 0, 0]] = np.nan
    other = flat(with_prior(arrays["other"][i], prior, weight))
    low, high = float(final.min()), float(final.max())

    def bytes_of(maps: np.ndarray) -> np.ndarray:
        return (np.clip((maps - low) / max(high - low, FLAT), 0, 1) * 255).round().astype(np.uint8)

    label = arrays["label"][i]
    return Overlay(
        times, bytes_of(final), bytes_of(other) if np.isfinite(other).all() else None,
        to_picture(boxes, extent).astype(np.float32), tuple(extent.tolist()), int(label[len(label) // 2]),
        float(raw.max()),
    )  # fmt: skip
