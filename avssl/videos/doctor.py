"""The state of an indexed data set: usable, rejected and unusual files, and what to do about each."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ..config import DoctorConfig
from ..core.cores import available_cores
from ..core.errors import UserError
from ..core.tables import checked_rows, open_table, parquet_errors, table_writer
from .duplicates import find_duplicates
from .index import LIMITS, NEEDED, REJECT_SCHEMA, SCHEMA, splits
from .layout import File

FINDING_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("path", "split", "class", "verdict", "severity", "detail", "fix")]
)
EXAMPLES = 12
"""Number of files per verdict that the page shows."""

FIXES = {
    "unreadable": "rejected: download or encode it again, or delete it",
    "no video": "rejected: no video track",
    "no sound": "rejected: no audio track; use a copy that has one; data.require_sound=false keeps them",
    "silent": "rejected: lower data.silence_db to keep it, unless it is digital silence (−120 dBFS)",
    "too short": "rejected: lower data.min_seconds to keep it; clip.frames and clip.audio_seconds must fit too",
    "timeout": "rejected: raise data.probe_timeout; `avssl index` then tries it again",
    "crashed": "rejected: encode it again (ffmpeg -i OLD -c:v libx264 -c:a aac NEW), or delete it",
    "leak": "delete this file: another split has the same content, which makes results on that split too good",
    "duplicate": "delete this file: another file has the same content, so it counts twice",
    "short for shifts": "too short for two distinct clips, which only contrast.axes.time_shift=distinct needs",
    "out of step": "video and audio cover different times; cut or mux it again: clips with only one of them fail",
    "silent windows": "these windows are rejected; lower data.silence_db to keep them",
    "low frame rate": "lower clip.fps, or clips repeat frames",
    "high frame rate": "nothing to do: frames are chosen by time; decoding takes longer",
    "variable frame rate": "nothing to do: frames are chosen by time",
    "low sound rate": "lower clip.audio_rate to this rate, or the upper mel bands are empty",
    "odd sound rate": "nothing to do, as audio is resampled; but listen to it, because its header may be damaged",
    "small picture": "lower clip.crop and clip.short_side_min, or its frames are enlarged",
}
"""What to do about each verdict, the most important verdict first."""

MIN_FPS, MAX_FPS = 10.0, 60.0
"""Lowest and highest usual frame rate (1/s)."""

MIN_AUDIO_RATE = 16_000
"""Lowest usual sampling rate (Hz)."""

MIN_SIDE = 64
"""Smallest usual short side of frames (px)."""

REJECTS = ("unreadable", "no video", "no sound", "silent", "too short", "timeout", "crashed")
SOUND_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 176400, 192000}


class Finding(NamedTuple):
    """A finding about a file, with its severity: reject (the file is not used) or warning (the file is used)."""

    path: str
    split: str
    class_name: str | None
    verdict: str
    detail: str

    @property
    def severity(self) -> str:
        return "reject" if self.verdict in REJECTS else "warning"


@dataclass
class Health:
    """Numbers of files of a split or class: all, usable, usable with a warning, and by verdict."""

    files: int = 0
    usable: int = 0
    warned: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        return self.files - self.usable

    def add(self, usable: bool, verdicts: set[str]) -> None:
        self.files += 1
        self.usable += usable
        self.warned += usable and bool(verdicts)
        self.verdicts.update(verdicts)


@dataclass
class Report:
    """The state of the data set in `root`, whose index is in `folder`."""

    root: Path
    folder: Path
    splits: dict[str, Health] = field(default_factory=dict)
    classes: dict[tuple[str, str | None], Health] = field(default_factory=dict)
    """The health of each split and class."""
    examples: dict[str, list[Finding]] = field(default_factory=dict)
    """A few files of each verdict."""
    compared: bool = True
    """Whether the contents of files were compared."""

    @property
    def total(self) -> Health:
        total = Health()
        for health in self.splits.values():
            total.files += health.files
            total.usable += health.usable
            total.warned += health.warned
            total.verdicts.update(health.verdicts)
        return total

    def worst_classes(self) -> list[tuple[str, str | None, Health]]:
        """(split, class, health), sorted by the fraction of rejected files, then of files with warnings."""
        key = lambda e: (-e[2].rejected / e[2].files, -e[2].warned / e[2].files, -e[2].files, e[0], e[1] or "")  # noqa: E731
        return sorted(((split, name, health) for (split, name), health in self.classes.items()), key=key)


def examine(config: DoctorConfig, root: Path) -> Report:
    """Read the index in `config.data.index`, compare the files' contents, and write `doctor.csv` beside it.

    Raises:
        UserError: there is no index, or it is damaged.
    """
    folder = Path(config.data.index)
    report = Report(root, folder, compared=config.duplicates)
    names = splits(folder, missing_ok=(folder / "rejects.parquet").is_file())
    copies = _copies(config, root, names) if config.duplicates else {}
    with table_writer(folder / "doctor.parquet", FINDING_SCHEMA, folder / "doctor.csv") as write:

        def note(finding: Finding) -> None:
            shown = report.examples.setdefault(finding.verdict, [])
            if len(shown) < EXAMPLES:
                shown.append(finding)
            row = {**finding._asdict(), "severity": finding.severity, "fix": FIXES.get(finding.verdict, "")}
            write(row | {"class": finding.class_name})

        windows = _rejects(report, folder, names, note)
        for split in names:
            seen: str | None = None
            for row in _rows(folder / f"{split}.parquet"):
                if row["path"] == seen:  # another window of the same file
                    continue
                seen = row["path"]
                remarks = [*_remarks(row, config), *copies.get((seen, split), ())]
                if silent := windows.get((seen, split)):
                    remarks.append(("silent windows", f"{silent} of its windows"))
                for verdict, detail in remarks:
                    note(Finding(seen, split, row["class"], verdict, detail))
                _count(report, split, row["class"], True, {verdict for verdict, _ in remarks})
    return report


def _count(report: Report, split: str, class_name: str | None, usable: bool, verdicts: set[str]) -> None:
    report.splits.setdefault(split, Health()).add(usable, verdicts)
    report.classes.setdefault((split, class_name), Health()).add(usable, verdicts)


def _rejects(
    report: Report, folder: Path, names: list[str], note: Callable[[Finding], None]
) -> Counter[tuple[str, str]]:
    """Count and note rejected files; return the number of rejected windows by (path, split)."""
    windows: Counter[tuple[str, str]] = Counter()
    lost: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _rows(folder / "rejects.parquet", REJECT_SCHEMA.names, REJECT_SCHEMA):
        key = (row["path"], row["split"])
        if row["window_start"] is None:
            note(Finding(*key, row["class"], row["reason"], row["detail"]))
            _count(report, row["split"], row["class"], False, {row["reason"]})
        else:
            windows[key] += 1
            lost.setdefault(key, row)
    if lost:
        for split in names:
            for row in _rows(folder / f"{split}.parquet", ["path"]):
                lost.pop((row["path"], split), None)
        for key, row in lost.items():
            note(Finding(*key, row["class"], row["reason"], "all of its windows"))
            _count(report, row["split"], row["class"], False, {row["reason"]})
    return windows


def _rows(path: Path, columns: Sequence[str] = SCHEMA.names, schema: pa.Schema = SCHEMA) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, a few thousand in memory at a time."""
    schema = pa.schema([schema.field(name) for name in columns])
    needed, limits = (NEEDED, LIMITS) if "reason" not in columns else (("path", "split", "reason", "detail"), {})
    try:
        with open_table(path, schema) as file, parquet_errors(path):
            for batch in file.iter_batches(4096, columns=schema.names):
                yield from checked_rows(pa.Table.from_batches([batch]), schema, path, needed, limits).to_pylist()
    except (OSError, UserError) as error:
        raise UserError(f"{error}: run `avssl index` again") from None


def _copies(config: DoctorConfig, root: Path, names: list[str]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(verdict, detail) by (path, split), of files with the same content as another file, which should be kept.

    Test files are kept before validation files, and these before files of other splits.
    """
    folder = Path(config.data.index)
    places: dict[str, dict[str, str | None]] = {}  # path → split → class
    files: dict[str, File] = {}
    for split in names:
        for row in _rows(folder / f"{split}.parquet", ["path", "class", "size", "mtime_ns"]):
            places.setdefault(row["path"], {})[split] = row["class"]
            files[row["path"]] = File(row["path"], row["size"], row["mtime_ns"])
    workers = config.workers or available_cores()
    copies: dict[tuple[str, str], list[tuple[str, str]]] = {}
    order = {"test": 0, "val": 1}
    for group in find_duplicates(files.values(), root, folder, workers):
        kept, *others = sorted(group, key=lambda path: (min(order.get(s, 2) for s in places[path]), path))
        for path in others:
            for split, class_name in places[path].items():
                verdict = "duplicate" if places[path].keys() == places[kept].keys() else "leak"
                twin = next(iter(places[kept].items()))
                where = f"{twin[0]} split, " if verdict == "leak" else ""
                detail = f"same content as {kept} ({where}class {twin[1]})"
                if class_name != twin[1]:
                    detail += f", but here the class is {class_name}"
                copies.setdefault((path, split), []).append((verdict, detail))
    return copies


def _remarks(row: dict[str, Any], config: DoctorConfig) -> Iterator[tuple[str, str]]:
    """(verdict, detail) of everything that is unusual about a usable file."""
    if row["window_seconds"] < 2 * config.clip_seconds - 1e-6:
        yield "short for shifts", f"{row['window_seconds']:.2f} s, but {2 * config.clip_seconds:g} s are needed"
    has_audio = row["audio_rate"] > 0
    ends, starts = row["video_end"] - row["audio_end"], row["video_start"] - row["audio_start"]
    if has_audio and (abs(starts) > 0.5 or abs(ends) > max(1.0, 0.1 * max(row["video_end"], row["audio_end"]))):
        video, audio = (f"{row[f'{kind}_start']:.1f} to {row[f'{kind}_end']:.1f} s" for kind in ("video", "audio"))
        yield "out of step", f"video from {video}, audio from {audio}"
    if 0 < row["fps"] < MIN_FPS - 0.01:
        yield "low frame rate", f"{row['fps']:.4g} frames per second"
    elif row["fps"] > MAX_FPS + 0.01:
        yield "high frame rate", f"{row['fps']:.4g} frames per second"
    if row["variable_rate"]:
        yield "variable frame rate", f"{row['fps']:.4g} frames per second on average"
    if 0 < row["audio_rate"] < MIN_AUDIO_RATE:
        yield "low sound rate", f"{row['audio_rate']} Hz"
    if has_audio and row["audio_rate"] not in SOUND_RATES:
        yield "odd sound rate", f"{row['audio_rate']} Hz"
    if min(row["width"], row["height"]) < MIN_SIDE:
        yield "small picture", f"{row['width']}×{row['height']}"
