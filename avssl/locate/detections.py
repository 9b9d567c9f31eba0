"""Objects that a detector finds in pictures and videos: tables, COCO and a sheet of pictures."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageDraw

from ..core.atomic import atomic_path, write_text
from ..core.errors import ClipError
from ..core.printable import one_line
from ..core.progress import track
from ..core.tables import table_writer
from ..explore.names import Names
from .detector import Detector
from .frame_reader import as_tensors
from .media_frames import Media, Shown, read_media
from .tables import moment_name

PARQUET, COCO, SHEET = "detections.parquet", "detections.coco.json", "pictures.jpg"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("time", pa.float64()),
        *((name, pa.float32()) for name in ("x0", "y0", "x1", "y1", "score")),
        ("cluster", pa.int32()),
        ("name", pa.string()),
    ]
)
"""A row is an object: `time` in s (none for a picture), corners as fractions of the picture."""

SHOWN, SIDE = 24, 240
"""Pictures on the sheet, at most one of each file, and their size, px."""

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#808000", "#000075")


@dataclass
class Found:
    """The objects in a picture: x0, y0, x1, y1 as fractions, float32 [n, 4], scores [n] and categories int64 [n]."""

    boxes: np.ndarray
    scores: np.ndarray
    categories: np.ndarray

    def above(self, score: float) -> "Found":
        """The objects of at least this score."""
        kept = self.scores >= score
        return Found(self.boxes[kept], self.scores[kept], self.categories[kept])


@dataclass
class Report:
    """What was found.

    Args:
        files, pictures, objects: numbers of files that could be read, of their pictures or frames, and of objects.
        failures: the reason for each file that could not be read.
        by_name: objects by the name of their cluster.
        rejected: objects of rejected clusters, which are not in the tables.
    """

    files: int = 0
    pictures: int = 0
    objects: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    by_name: Counter[str] = field(default_factory=Counter)
    rejected: int = 0


@torch.no_grad()
def find_objects(detector: Detector, pictures: Sequence[np.ndarray], device: torch.device) -> list[Found]:
    """The objects in pictures uint8 [h, w, 3], each by falling score."""
    found = []
    for picture, output in zip(pictures, detector.model(as_tensors(list(pictures), device)), strict=True):
        height, width = picture.shape[:2]
        scale = np.array([width, height, width, height], np.float32)
        values = [output[name].cpu().numpy() for name in ("boxes", "scores", "labels")]
        order = np.argsort(-values[1], kind="stable")
        order = order[values[2][order] > 0]  # FCOS also scores the background
        boxes, scores, labels = (x[order] for x in values)
        found.append(Found((boxes / scale).clip(0, 1), scores, labels.astype(np.int64) - 1))
    return found


def detect_in(
    detector: Detector, media: Sequence[Media], names: Names | None, min_score: float, batch: int,
    device: torch.device, out: Path,
) -> Report:  # fmt: skip
    """Find objects in files, and write `detections.parquet`, `detections.coco.json` and `pictures.jpg`.

    Args:
        detector: the detector, on the device.
        media: the files; one that cannot be read affects no other.
        names: the user's names, merges and rejections; None: the detector's own titles.
        min_score: least score of an object.
        batch: pictures at a time.
        device: where to compute.
        out: the folder.
    """
    report, sheet = Report(), _Sheet()
    images: list[dict[str, Any]] = []
    with table_writer(out / PARQUET, SCHEMA) as add, _annotations(out / COCO, detector, names, images) as annotate:
        for shown in _batches(track(media, "finding objects", len(media)), detector.side, batch, report):
            for picture, found in zip(shown, find_objects(detector, [x.pixels for x in shown], device), strict=True):
                rows = list(_rows(picture, found.above(min_score), detector, names, report))
                images.append(_image(len(images) + 1, picture))
                for row in rows:
                    add(row)
                    annotate(images[-1], row)
                sheet.add(picture, rows)
        report.pictures, report.objects = len(images), report.by_name.total()
    sheet.write(out / SHEET)
    return report


def _batches(media: Iterator[Media], side: int, batch: int, report: Report) -> Iterator[list[Shown]]:
    waiting: list[Shown] = []
    for item in media:
        try:
            for shown in read_media(item, side):
                waiting.append(shown)
                if len(waiting) == batch:
                    yield waiting
                    waiting = []
            report.files += 1
        except ClipError as error:
            report.failures[item.name] = str(error)
    if waiting:
        yield waiting


def _rows(
    picture: Shown, found: Found, detector: Detector, names: Names | None, report: Report
) -> Iterator[dict[str, Any]]:
    for box, score, category in zip(found.boxes.tolist(), found.scores, found.categories, strict=True):
        cluster, name = detector.categories[category], detector.titles[category]
        if names is not None:
            if names.rejected(cluster):
                report.rejected += 1
                continue
            cluster, name = names.target(cluster), names.title(cluster)
        report.by_name[name] += 1
        yield {
            "path": picture.path, "time": None if np.isnan(picture.time) else round(picture.time, 6),
            **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)), "score": float(score), "cluster": cluster,
            "name": name,
        }  # fmt: skip


def _image(number: int, shown: Shown) -> dict[str, Any]:
    still = bool(np.isnan(shown.time))
    name = shown.path if still else moment_name(shown.path, shown.time)
    size = {"width": shown.width, "height": shown.height}
    return {"id": number, "file_name": name, **size} | ({} if still else {"video": shown.path, "time": shown.time})


@contextmanager
def _annotations(
    path: Path, detector: Detector, names: Names | None, images: list[dict[str, Any]]
) -> Iterator[Callable[[dict[str, Any], dict[str, Any]], None]]:
    """A context that writes COCO's file, and yields a function of an image and of a row of the table.

    `images` is written at the end of the block.
    """
    titles = dict(zip(detector.categories, detector.titles, strict=True))
    if names is not None:
        titles = {names.target(k): names.title(k) for k in titles if not names.rejected(k)}
    categories = [{"id": k, "name": name, "supercategory": "cluster"} for k, name in sorted(titles.items())]
    count = 0
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')

        def add(image: dict[str, Any], row: dict[str, Any]) -> None:
            nonlocal count
            width, height = image["width"], image["height"]
            x, y, right, bottom = row["x0"] * width, row["y0"] * height, row["x1"] * width, row["y1"] * height
            box = [round(v, 3) for v in (x, y, right - x, bottom - y)]
            file.write(",\n" if count else "\n")
            count += 1
            entry = {
                "id": count, "image_id": image["id"], "category_id": row["cluster"], "bbox": box,
                "area": round(box[2] * box[3], 3), "iscrowd": 0, "score": round(row["score"], 6),
            }  # fmt: skip
            file.write(json.dumps(entry))

        yield add
        rest = {"images": images, "categories": categories}
        file.write("\n],\n" + json.dumps(rest, ensure_ascii=False)[1:] + "\n")


class _Sheet:
    """Pictures with their boxes, for looking: at most one of each file."""

    def __init__(self) -> None:
        self.pictures: list[Image.Image] = []
        self.paths: set[str] = set()

    def add(self, shown: Shown, rows: list[dict[str, Any]]) -> None:
        if shown.path in self.paths or not rows or len(self.pictures) == SHOWN:
            return
        self.paths.add(shown.path)
        image = Image.fromarray(shown.pixels)
        scale = SIDE / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        draw = ImageDraw.Draw(image)
        for row in reversed(rows):
            colour = COLOURS[row["cluster"] % len(COLOURS)]
            x0, y0, x1, y1 = (row[n] * s for n, s in zip(("x0", "y0", "x1", "y1"), image.size * 2, strict=True))
            draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
            text = f"{_plain(row['name'])} {100 * row['score']:.0f} %"
            at = (x0 + 3, y0 + 2)
            draw.rectangle(draw.textbbox(at, text), fill=colour)
            draw.text(at, text, fill="white")
        self.pictures.append(image)

    def write(self, path: Path) -> None:
        """Write the sheet; without an object there is none."""
        if not self.pictures:
            path.unlink(missing_ok=True)
            return
        columns = min(6, len(self.pictures))
        rows = -(-len(self.pictures) // columns)
        sheet = Image.new("RGB", (columns * (SIDE + 4), rows * (SIDE + 4)), "#222222")
        for number, image in enumerate(self.pictures):
            row, column = divmod(number, columns)
            sheet.paste(image, (column * (SIDE + 4) + 2, row * (SIDE + 4) + 2))
        with atomic_path(path) as part:
            sheet.save(part, "JPEG", quality=85)


def _plain(name: str) -> str:
    """A name that every font can draw."""
    return name[:24].encode("ascii", "replace").decode()


def write_failures(path: Path, failures: dict[str, str]) -> None:
    """Write the files that could not be read, one a line with the reason; remove the list if there are none."""
    if failures:
        write_text(path, "".join(f"{one_line(name)}\t{one_line(why)}\n" for name, why in failures.items()))
    else:
        path.unlink(missing_ok=True)
