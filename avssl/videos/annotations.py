"""Readers of official split files. Each line becomes an `Entry`; no file is kept in memory."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..config import DataConfig
from ..core.errors import UserError
from ..core.text import read_cells, read_lines, shown
from .splits import EITHER, TEST, plain_split, read_name


class Entry(NamedTuple):
    """A video that a split file lists."""

    key: str
    """The YouTube id; for UCF101 and HMDB51 the file name without its extension."""
    split: str | None
    """None for a video in no split of this fold."""
    class_name: str | None
    start: float | None = None
    """Start of the annotated segment in the whole video (s); None if the files are published already cut."""
    end: float | None = None


Reader = Callable[[Path, str], Iterator[Entry]]
"""Reads the entries of a file; the second argument is the split that it lists, "" if its lines name the split."""

BY_NAME = {"ucf101", "hmdb51"}
"""Formats whose keys are file names; the keys of the others are YouTube ids."""


def read_annotations(data: DataConfig) -> Iterator[Entry]:
    """The entries of `data.annotations`, in the files' order, in `data.format` and for `data.fold`.

    Raises:
        UserError: a split file is missing, cannot be read, or has a line in another format.
    """
    if data.format == "none":
        raise UserError(
            "data.annotations needs a format: add data=<data set> (`avssl index --help` lists them), or data.format=…"
        )
    return _entries(READERS[data.format], find_split_files(data))


def _entries(reader: Reader, files: list[tuple[Path, str]]) -> Iterator[Entry]:
    empty = True
    for path, split in files:
        for entry in reader(path, split):
            empty = False
            yield entry
    if empty:
        raise UserError(f"{files[0][0]} lists no videos: give the data set's split file")


def find_split_files(data: DataConfig) -> list[tuple[Path, str]]:
    """The split files at `data.annotations` or one folder deeper, each with the split that it lists."""
    place, card = Path(str(data.annotations)), data.card
    official_files = card.file_names(data.fold)
    origin = f"; those of {card.title} are at {card.annotations_url}" if card.annotations_url else ""
    if place.is_file():
        split = next((f.split for f, names in official_files if place.name.lower() in (n.lower() for n in names)), None)
        return [(place, _split_in(place.stem) if split is None else split)]
    official = ", ".join(_shorten([names[0] for _, names in official_files]))
    if not place.is_dir():
        what = "is not a file" if place.exists() else "does not exist"
        expected = f": give the folder of {official}, or one such file" if official else ""
        raise UserError(f"data.annotations={place} {what}{expected}{origin}")
    if not official_files:
        raise UserError(f"data.annotations={place} is a folder: without data=<data set>, give the split file itself")
    existing = []
    for file, names in official_files:
        path = next(
            (p for name in names for p in (place / name, *sorted(place.glob(f"*/{name}"))) if p.is_file()), None
        )
        if path is not None:
            existing.append((path, file.split))
        elif not file.optional:
            raise UserError(f"{place} has no {' or '.join(names)}: give the folder with {official}{origin}")
    if not existing:
        raise UserError(f"{place} has none of {official}{origin}")
    return existing


def _shorten(names: list[str]) -> list[str]:
    return names if len(names) <= 6 else [*names[:2], "…", f"{names[-1]} ({len(names)} files)"]


def _split_in(stem: str) -> str:
    """The split in a file's name, or ""."""
    reading = read_name(stem)
    return "" if reading is None else TEST if reading.split == EITHER else reading.split


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and stripped lines, without empty lines."""
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield number, line.strip()


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and fields of a CSV file's rows, without empty rows and comments, which begin with `#`."""
    for number, cells in read_cells(path, blanks=False):
        if not cells[0].startswith("#"):
            yield number, cells


def _wrong(path: Path, number: int, line: str, expected: str) -> UserError:
    return UserError(f"{path}, line {number}: '{shown(line)}' is not {expected}")


def _seconds(*texts: str) -> list[float] | None:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    return values if all(0 <= value < 1e6 for value in values) else None


def _vggsound(path: Path, split: str) -> Iterator[Entry]:
    """Lines `id,start,"label, with commas",train`; a segment is 10 s from `start` (s)."""
    expected = "youtube id, start second, label, train or test"
    for number, cells in _rows(path):
        if number == 1 and "youtube" in cells[0].lower():
            continue
        start = _seconds(cells[1]) if len(cells) == 4 else None
        line_split = plain_split(cells[3]) if start is not None else None
        if start is None or line_split is None or not cells[0]:
            raise _wrong(path, number, ",".join(cells), expected)
        yield Entry(cells[0], line_split, cells[2] or None, start[0], start[0] + 10)


def _kinetics(path: Path, split: str) -> Iterator[Entry]:
    """A header, then `label,youtube_id,time_start,time_end,split` in its order; test files may have no labels."""
    expected = "the columns label, youtube_id, time_start, time_end, split (label and split are optional)"
    place: dict[str, int] = {}
    for number, cells in _rows(path):
        if not place:
            place = {cell.lower(): i for i, cell in enumerate(cells)}
            if not {"youtube_id", "time_start", "time_end"} <= place.keys():
                raise _wrong(path, number, ",".join(cells), expected)
            continue
        line = ",".join(cells)
        if len(cells) < len(place):
            raise _wrong(path, number, line, f"{len(place)} fields, as its header says")
        times = _seconds(cells[place["time_start"]], cells[place["time_end"]])
        if times is None or times[1] <= times[0] or not cells[place["youtube_id"]]:
            raise _wrong(path, number, line, "an id, a start and a later end in seconds")
        line_split = plain_split(cells[place["split"]] if "split" in place else split)
        if line_split is None:
            raise _wrong(path, number, line, "of the split train, validate or test")
        label = cells[place["label"]] if "label" in place else ""
        yield Entry(cells[place["youtube_id"]], line_split, label or None, *times)


def _ave(path: Path, split: str) -> Iterator[Entry]:
    """Lines `Category&VideoID&Quality&StartTime&EndTime`; the times are the event's within the published 10 s."""
    if not split:
        raise UserError(
            f"the name of {path} contains no split: AVE's files are trainSet.txt, valSet.txt and testSet.txt; give "
            "their folder"
        )
    for number, line in _lines(path):
        fields = [field.strip() for field in line.split("&")]
        if fields[1:2] == ["VideoID"]:
            continue
        if len(fields) != 5 or not fields[0] or not fields[1] or _seconds(*fields[3:]) is None:
            raise _wrong(path, number, line, "Category&VideoID&Quality&StartTime&EndTime")
        yield Entry(fields[1], split, fields[0])


def _audioset(path: Path, split: str) -> Iterator[Entry]:
    """Lines `YTID, start_seconds, end_seconds, "mid,mid"`. The class is the sorted labels, joined by `; `."""
    if not split:
        raise UserError(
            f"the name of {path} contains no split: AudioSet's files are balanced_train_segments.csv, … : keep these "
            "names"
        )
    names = _audioset_names(path.parent / "class_labels_indices.csv")
    sets: dict[str, str] = {}  # saves memory: lines with the same labels share one string
    for number, cells in _rows(path):
        times = _seconds(*cells[1:3]) if len(cells) == 4 else None
        if times is None or times[1] <= times[0] or not cells[0]:
            raise _wrong(path, number, ",".join(cells), 'YTID, start_seconds, end_seconds, "positive_labels"')
        if cells[3] not in sets:
            sets[cells[3]] = "; ".join(sorted(names.get(mid.strip(), mid.strip()) for mid in cells[3].split(",")))
        yield Entry(cells[0], split, sets[cells[3]] or None, *times)


def _audioset_names(path: Path) -> dict[str, str]:
    """Display names by label id; empty if the file is missing."""
    names: dict[str, str] = {}
    for number, cells in _rows(path) if path.is_file() else ():
        if len(cells) != 3:
            raise _wrong(path, number, ",".join(cells), "index,mid,display_name")
        names[cells[1]] = cells[2]
    return names


def _ucf101(path: Path, split: str) -> Iterator[Entry]:
    """Lines `Class/v_Class_g01_c01.avi 1`; test lists have no number."""
    if not split:
        raise UserError(
            f"the name of {path} contains no split: UCF101's files are trainlist01.txt, testlist01.txt, …: keep these "
            "names"
        )
    names = _ucf101_names(path.parent / "classInd.txt")
    for number, line in _lines(path):
        match = re.fullmatch(r"([^/\s]+)/(\S+)\.\w+(?:\s+\d+)?", line)
        if match is None:
            raise _wrong(path, number, line, "Class/v_Class_g01_c01.avi, with or without the class's number")
        yield Entry(match[2], split, names.get(match[1].casefold(), match[1]))


def _ucf101_names(path: Path) -> dict[str, str]:
    """The classes' names by their lower-case forms; empty if the file is missing."""
    names: dict[str, str] = {}
    for number, line in _lines(path) if path.is_file() else ():
        index, _, name = line.partition(" ")
        if not index.isdecimal() or not name:
            raise _wrong(path, number, line, "a class's number and name")
        names[name.strip().casefold()] = name.strip()
    return names


def _hmdb51(path: Path, split: str) -> Iterator[Entry]:
    """Lines `name.avi 1` in `<class>_test_split<fold>.txt`: 1 is train, 2 is test, 0 is neither."""
    class_name, mark, _ = path.stem.rpartition("_test_split")
    if not mark:
        raise UserError(f"{path} does not have the name of an HMDB51 split file: <class>_test_split<fold>.txt")
    for number, line in _lines(path):
        name, role = [*line.rsplit(None, 1), ""][:2]
        stem, dot, _ = name.rpartition(".")
        if role not in ("0", "1", "2") or not dot or not stem:
            raise _wrong(path, number, line, "a file name and 0, 1 or 2")
        yield Entry(stem, {"0": None, "1": "train", "2": "test"}[role], class_name)


READERS: dict[str, Reader] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "vggsound": _vggsound,
    "kinetics": _kinetics,
    "ave": _ave,
    "audioset": _audioset,
}
