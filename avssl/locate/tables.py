"""The files of boxes: `boxes.parquet`, and `boxes.coco.json` for programs that read COCO."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from ..core.atomic import atomic_path, naming
from ..core.tables import block_writer
from .located import Located
from .tracks import link

PARQUET, COCO = "boxes.parquet", "boxes.coco.json"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("split", pa.string()),
        ("window_start", pa.float64()),
        ("clip", pa.int32()),
        ("time", pa.float64()),
        ("x0", pa.float32()),
        ("y0", pa.float32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("score", pa.float32()),
        ("cluster", pa.int32()),
        ("confidence", pa.float32()),
        ("track", pa.int32()),
    ]
)
"""A row is a box at a moment: `time` in s, corners as fractions of the whole picture, cluster -1 without clusters."""

VIDEOS = 4096
"""Videos whose boxes are written at once."""

ONLY = "object"
"""The category of boxes without a cluster."""


def write_boxes(path: Path, parts: Sequence[Located], about: dict[str, Any]) -> int:
    """Write `boxes.parquet`, in the order of the indexes, and return the number of tracks.

    Args:
        path: the file.
        parts: the splits.
        about: the run, its step, the digest of its weights and the number of clusters; the schema's metadata has them
            as JSON under "avssl".
    """
    tracks: dict[str, int] = {}
    with block_writer(path, SCHEMA.with_metadata({"avssl": json.dumps(about)})) as write:
        for part in parts:
            for start in range(0, len(part.rows), VIDEOS):
                write(_block(part, start, min(start + VIDEOS, len(part.rows)), tracks))
    return sum(tracks.values())


def boxes_table(part: Located, titles: Sequence[str]) -> pa.Table:
    """The rows of `boxes.parquet` of one split, without its name, and with the title of each box's cluster, `name`."""
    rows = _block(part, 0, len(part.rows), {}).drop_columns(["split"])
    clusters = rows["cluster"].to_pylist()
    return rows.append_column("name", pa.array([titles[k] if k >= 0 else None for k in clusters], pa.string()))


def _block(part: Located, start: int, stop: int, tracks: dict[str, int]) -> pa.Table:
    rows, clips, moments = np.nonzero(part.found[start:stop])
    rows += start
    at = rows, clips, moments
    numbers = np.full(part.score[start:stop].shape, -1, np.int32)
    paths = part.rows["path"].slice(start, stop - start).to_pylist()
    for row in np.unique(rows):
        path = paths[row - start]
        for clip in range(part.boxes.shape[1]):
            found = part.found[row, clip]
            boxes = [part.boxes[row, clip, [m]] if found[m] else np.empty((0, 4)) for m in range(len(found))]
            linked = link(boxes, tracks.get(path, 0))
            numbers[row - start, clip, found] = np.concatenate(linked)
            tracks[path] = max(tracks.get(path, 0), int(numbers[row - start, clip].max(initial=-1)) + 1)
    values: dict[str, Any] = {
        "path": part.rows["path"].take(pa.array(rows)),
        "split": pa.array([part.split] * len(rows), pa.string()),
        "window_start": part.rows["window_start"].take(pa.array(rows)),
        "clip": clips.astype(np.int32),
        "time": part.times[at],
        **{name: part.boxes[at][:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))},
        "score": part.score[at],
        "cluster": part.label[rows, clips],
        "confidence": pa.array(part.confidence[rows, clips], from_pandas=True),
        "track": numbers[rows - start, clips, moments],
    }
    columns = [pa.chunked_array(x) if isinstance(x, pa.ChunkedArray) else pa.array(x) for x in values.values()]
    return pa.table(columns, names=list(values)).cast(SCHEMA)


def write_coco(path: Path, parts: Sequence[Located], names: dict[int, str], about: dict[str, Any]) -> None:
    """Write the boxes as COCO: an image for each moment of a clip that can be heard, and an annotation for its box.

    The name of an image is the path of its video with the moment, as a media fragment: `a/b.mp4#t=1.25`.

    Args:
        path: the file.
        parts: the splits.
        names: the title of each cluster; empty for a run without clusters.
        about: the description of the run.
    """
    categories = [{"id": k, "name": name, "supercategory": "cluster"} for k, name in names.items()]
    categories = categories or [{"id": 0, "name": ONLY, "supercategory": "cluster"}]
    with atomic_path(path) as temporary, naming(path), temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps(about, ensure_ascii=False)},\n"images": [')
        _write_items(file, _images(parts))
        file.write('],\n"annotations": [')
        _write_items(file, _annotations(parts))
        file.write('],\n"categories": ')
        file.write(f"{json.dumps(categories, ensure_ascii=False)}}}\n")


def _write_items(file: TextIO, items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        file.write(json.dumps(item, ensure_ascii=False))


def _moments(parts: Sequence[Located]) -> Iterator[tuple[int, Located, tuple[int, int, int], int, int]]:
    """The number of each image from 1, its split, its row, clip and moment, and its width and height, px."""
    number = 0
    for part in parts:
        widths, heights = (part.rows[name].to_numpy() for name in ("width", "height"))
        heard = part.decoded[:, None] & ~part.silent
        for row, clip in np.argwhere(heard).tolist():
            for moment in range(part.boxes.shape[2]):
                number += 1
                yield number, part, (row, clip, moment), int(widths[row]), int(heights[row])


def moment_name(path: str, time: float) -> str:
    """A moment of a video as a media fragment, to the ms: `a/b.mp4#t=1.25`."""
    return f"{path}#t={f'{time:.3f}'.rstrip('0').rstrip('.')}"


def _images(parts: Sequence[Located]) -> Iterator[dict[str, Any]]:
    for number, part, (row, clip, moment), width, height in _moments(parts):
        path, time = part.rows["path"][row].as_py(), round(float(part.times[row, clip, moment]), 3)
        size = {"width": width, "height": height}
        yield {"id": number, "file_name": moment_name(path, time), **size, "video": path, "time": time}


def _annotations(parts: Sequence[Located]) -> Iterator[dict[str, Any]]:
    count = 0
    for number, part, at, width, height in _moments(parts):
        x0, y0, x1, y1 = part.boxes[at].tolist()
        if x0 == x0:  # NaN without a box
            count += 1
            box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
            yield {
                "id": count,
                "image_id": number,
                "category_id": max(0, int(part.label[at[:2]])),
                "bbox": [round(x, 3) for x in box],
                "area": round(box[2] * box[3], 3),
                "iscrowd": 0,
                "score": round(float(part.score[at]), 6),
            }
