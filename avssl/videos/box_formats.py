"""Readers of files of true boxes. Each returns the boxes of a file in one form, or raises a UserError in one line."""

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from ..core.csv_cells import unquoted
from ..core.errors import UserError
from ..core.text import read_cells, shown
from ..core.untrusted import check_file, field, kind_of, parse_json, read_text
from ..metrics.heat_maps import truth_map
from .true_boxes import Annotations, BoxCollector, TrueBoxes, box_list

MAX_JSON, MAX_CSV, MAX_XML = 64 << 20, 1 << 30, 1 << 16
"""Largest files, bytes."""

MAX_VALUES = 4_000_000
"""Most values in a JSON file."""

SAMPLE_COLUMNS = {"path", "x0", "y0", "x1", "y1"}
SLAVC_COLUMNS = {"video", "audio", "label"}
SIDES = "x0", "y0", "x1", "y1"

PIXELS = 224
"""The size of a picture in the boxes of AVSBench, IS3 and VPO."""

FLICKR_PIXELS = 256


def read_csv(path: Path) -> Annotations:
    """The sample's boxes.csv or SLAVC's file of negatives, by its columns."""
    check_file(path, MAX_CSV)
    rows = read_cells(path, blanks=False)
    header = [cell.lower() for cell in next(rows, (0, []))[1]]
    if header and len(set(header)) != len(header):
        raise UserError(f"{path} has a column twice")
    if set(header) >= SAMPLE_COLUMNS:
        return _sample(path, header, rows)
    if set(header) >= SLAVC_COLUMNS:
        return _slavc(path, header, rows)
    raise UserError(
        f"{path} has the columns {shown(','.join(header))}: true boxes need path, time, x0, y0, x1, y1 (and, as the "
        "sample's boxes.csv, sounding and class), or SLAVC's video, audio, label"
    )


def _records(
    path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in rows:
        if len(cells) != len(header):
            raise UserError(f"{path}, line {number}: {len(cells)} cells, but the first line has {len(header)}")
        yield number, dict(zip(header, cells, strict=True))


def _sample(path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]]) -> Annotations:
    """Rows of a box of a moment. A row without x0 … y1 is a moment without boxes."""
    boxes = BoxCollector()
    shared: dict[str, str] = {}  # saves memory: equal paths and classes share one string
    for number, row in _records(path, header, rows):
        name, class_name = (
            shared.setdefault(text, unquoted(text)) for text in (row["path"], row.get("class") or row.get("digit", ""))
        )
        time, sounding = _number(row.get("time", "")), row.get("sounding", "1").lower()
        if not name or (row.get("time") and not math.isfinite(time)):
            raise UserError(f"{path}, line {number}: a path and a time in seconds are needed")
        if sounding not in ("0", "1", "true", "false"):
            raise UserError(f"{path}, line {number}: sounding is {shown(sounding)!r}, but must be 0 or 1")
        when = None if math.isnan(time) else time
        sides = [row[side] for side in SIDES]
        if not any(sides):
            boxes.picture(name, when)
        else:
            heard = sounding in ("1", "true")
            boxes.add([_number(side) for side in sides], 1, name, when, "", class_name, heard)
    return boxes.result("sample")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _slavc(path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]]) -> Annotations:
    """Rows of a picture, the video whose audio is heard, and `sounding` or `non-sounding`.

    The boxes of the pictures that sound are those of a VGG-SS or Flickr-SoundNet file in the same folder.
    """
    sounding: list[str] = []
    negatives = BoxCollector()
    for number, row in _records(path, header, rows):
        label, video, audio = row["label"].lower(), unquoted(row["video"]), unquoted(row["audio"])
        if label not in ("sounding", "non-sounding") or not video:
            raise UserError(
                f"{path}, line {number}: '{shown(','.join(row.values()))}' is not a video, its audio, and sounding or "
                "non-sounding"
            )
        if label == "sounding":
            sounding.append(video)
        else:
            negatives.picture(video, source="" if audio in ("", video) else audio)
    result = negatives.result("slavc")
    positives = _beside(path)
    if positives is None:
        if sounding:
            result.dropped["sounding pictures without boxes (put vggss.json into the folder of the file)"] = len(
                sounding
            )
        return result
    truth = positives.truth
    if sounding:  # else all pictures of the other file sound
        listed = set(sounding)
        truth = [boxes for boxes in truth if boxes.path in listed]
        if lacking := len(listed - {boxes.path for boxes in truth}):
            result.dropped["sounding pictures that have no boxes"] = lacking
    return Annotations(
        "slavc", [*_with_masks(truth, positives.form), *result.truth], positives.dropped | result.dropped
    )


def _with_masks(truth: list[TrueBoxes], form: str) -> list[TrueBoxes]:
    """Boxes of several annotators with their consensus as the mask, because the form no longer says so."""
    if form == "flickr":
        for boxes in truth:
            boxes.mask = truth_map(boxes, form=form)
    return truth


def _beside(path: Path) -> Annotations | None:
    """The boxes of VGG-SS or of Flickr-SoundNet beside the file of their negatives; None without any."""
    if path.name.lower().startswith("flickr"):
        folder = xml_folder(path.parent)
        return read_xml_folder(folder) if folder else None
    for other in sorted(path.parent.glob("*.json")):
        try:
            found = read_json_boxes(other)
        except UserError:
            continue
        if found.form == "vggss":
            return found
    return None


def read_json_boxes(path: Path) -> Annotations:
    """VGG-SS, AVSBench, IS3 or VPO, by the fields of its entries."""
    try:
        entries = parse_json(read_text(path, MAX_JSON), MAX_VALUES, finite=False)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} must be a list of annotations, not {kind_of(entries) if entries != [] else 'empty'}")
    first = entries[0] if isinstance(entries[0], dict) else {}
    if "bbox" in first:
        return _vggss(path, entries)
    if "gt_box" in first:
        return _pixel_boxes(path, entries)
    raise UserError(f"{path}: its entries have neither bbox (VGG-SS) nor gt_box (AVSBench, IS3, VPO)")


def _vggss(path: Path, entries: list[Any]) -> Annotations:
    """Entries with `file` (YouTube id and start, s), `class`, and `bbox`, a list of boxes as fractions."""
    boxes = BoxCollector()
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        name, found = field(entry, "file", str, where), field(entry, "bbox", list, where)
        class_name = field(entry, "class", str, where) if "class" in entry else ""
        boxes.picture(name)
        for box in box_list(found) if found else []:
            boxes.add(box, 1, name, class_name=class_name)
    return boxes.result("vggss")


def _pixel_boxes(path: Path, entries: list[Any]) -> Annotations:
    """Entries with `image`, `audio`, and `gt_box`, one box or several of a picture of 224 × 224.

    Pictures of AVSBench are `<video>/<video>_<n>.png`, of its n-th second; of the others the name ends in the class.
    Four zeros mean that nothing sounds.
    """
    boxes, form = BoxCollector(), "is3"
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        image, found = PurePosixPath(field(entry, "image", str, where)), field(entry, "gt_box", list, where)
        audio = PurePosixPath(field(entry, "audio", str, where)).stem if "audio" in entry else ""
        parent, time = image.parent, None
        second = re.fullmatch(re.escape(parent.name) + r"(?:\.\w+)?_(\d{1,6})", image.stem) if parent.name else None
        if second:
            form, name, time = "avsbench", str(parent), max(0.0, int(second[1]) - 0.5)
            class_name = parent.parent.name if parent.parent.parent.name in ("train", "val", "test") else ""
        else:
            name, last = str(image), image.stem.rpartition("_")[2]
            class_name = "" if last.isdecimal() or last == image.stem else last
        source = "" if audio in ("", PurePosixPath(name).name, image.stem) else audio
        boxes.picture(name, time, source)
        for box in box_list(found):
            if box not in ([], [0, 0, 0, 0]):
                boxes.add(box, PIXELS, name, time, source, class_name)
    return boxes.result(form)


def xml_folder(folder: Path) -> Path | None:
    """The folder, or its subfolder Annotations, if it has XML files."""
    for place in (folder, folder / "Annotations"):
        if place.is_dir() and next(place.glob("*.xml"), None) is not None:
            return place
    return None


def read_xml_folder(folder: Path) -> Annotations:
    """Flickr-SoundNet: a file for each picture, with the <bbox> of each of three annotators, 256 × 256 pixels."""
    boxes = BoxCollector()
    for path in sorted(folder.glob("*.xml")):
        found = list(_xml_boxes(path))
        if not found:
            boxes.dropped["files without a <bbox>"] += 1
        for sides in found:
            boxes.add(sides, FLICKR_PIXELS, path.stem)
    return boxes.result("flickr")


def _xml_boxes(path: Path) -> Iterator[list[float]]:
    text = read_text(path, MAX_XML)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities may expand without end, or name other files
        raise UserError(f"{path} declares a document type or entities: files of boxes have none")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is not valid XML: {str(error)[:100]}") from None
    for box in root.iter("bbox"):
        sides = {side.tag: side.text or "" for side in box}
        names = ("xmin", "ymin", "xmax", "ymax")
        # published code takes the four after the first, whatever their names are
        texts = (
            [sides[name] for name in names] if sides.keys() >= set(names) else [side.text or "" for side in box][1:5]
        )
        yield [_number(text) for text in texts]
