"""`avssl index`: every file probed once; what is usable in one Parquet a split, the rest with the reason."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from ..atomic import atomic_path, write_json
from ..config import DataConfig, IndexConfig
from ..cores import available_cores
from ..errors import UserError
from ..progress import track
from .layout import ALL, SPLIT_NAMES, Video, scan
from .probe import BLOCK, ProbeRequest, probe
from .source import Source
from .storage import open_storage
from .workers import Lost, run_isolated

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("split", pa.string()),
        ("class", pa.string()),
        ("window_start", pa.float64()),
        ("window_seconds", pa.float64()),
        ("duration", pa.float64()),
        ("fps", pa.float64()),
        ("frames", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("audio_rate", pa.int32()),
        ("channels", pa.int32()),
        ("loudness", pa.float64()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
REJECT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("path", "split", "class", "reason", "detail")] + [("window_start", pa.float64())]
)
SPLITS = sorted({ALL, *SPLIT_NAMES.values()})
JOURNAL = "probes.jsonl"
VERSION = 1  # of what a probe records; another one in the journal is probed again


@dataclass
class IndexReport:
    """What `avssl index` found: rows by split, rejected rows by reason, and where the files are."""

    folder: Path
    videos: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    probed: int = 0
    short: int = 0
    """Usable rows in which two clips of `clip_seconds` would overlap."""


def run(config: IndexConfig) -> IndexReport:
    """Index as configured, and print what was found."""
    console = Console(highlight=False)
    report = index_videos(config)
    console.print(report_table(report))
    if report.short:
        shortest = 2 * config.clip_seconds
        console.print(
            f"{report.short} of {sum(report.rows.values())} are shorter than {shortest:g} s: too short for two clips "
            f"of {config.clip_seconds:g} s that do not overlap (contrast.axes.time_shift=distinct needs "
            f"data.min_seconds={shortest:g})",
            soft_wrap=True,
        )
    console.print(f"index: {report.folder}", soft_wrap=True, markup=False)
    if report.rejects:
        console.print(f"rejected, with reasons: {report.folder / 'rejects.csv'}", soft_wrap=True, markup=False)
    return report


def index_videos(config: IndexConfig) -> IndexReport:
    """Probe `config.data.root` into `<data.index>/<split>.parquet`, `rejects.parquet` and `rejects.csv`.

    Results are kept in a journal as they come: a run that was stopped goes on, and later runs probe only files that
    are new or changed. Raises UserError for a root that holds no videos, or none that is usable.
    """
    data = config.data
    if data.window_seconds is not None and data.window_seconds < max(data.min_seconds, BLOCK):
        raise UserError(
            f"data.window_seconds={data.window_seconds:g} is too short: give {max(data.min_seconds, BLOCK):g} s or "
            f"more, or a smaller data.min_seconds"
        )
    root, folder = Path(data.root), Path(data.index)
    videos = scan(data)
    _claim(folder, root)
    known = _read_journal(folder / JOURNAL)
    whole = data.window_seconds is not None
    probes: dict[str, dict[str, Any]] = {}
    missing = []
    for video in videos:
        entry = known.get(video.path)
        if entry is not None and _fresh(entry, video, whole, data.silence_db):
            probes[video.path] = entry["probe"]
        else:
            missing.append(video)
    storage = open_storage(root, data.storage)
    by_file: dict[Source, Video] = {storage.locate(video.path): video for video in missing}
    requests = [ProbeRequest(file, whole, data.silence_db) for file in by_file]
    if missing:
        workers = min(config.workers or available_cores(), 1 + len(missing) // 16)
        results = run_isolated(probe, requests, workers, data.probe_timeout)
        with (folder / JOURNAL).open("a") as journal:
            for request, result in track(results, "probing", len(requests)):
                video = by_file[request.path]
                found = {"reason": result.reason, "detail": ""} if isinstance(result, Lost) else result
                if found.get("reason") == "timeout":
                    found["detail"] = f"longer than {data.probe_timeout:g} s"
                probes[video.path] = found
                entry = {"version": VERSION, "path": video.path, "size": video.size, "mtime_ns": video.mtime_ns}
                asked = {"whole": whole, "silence_db": data.silence_db}
                journal.write(json.dumps({**entry, **asked, "probe": found}) + "\n")
                journal.flush()
    report = _write(folder, config, videos, probes)
    report.probed = len(missing)
    if not report.rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejects.items())
        raise UserError(f"no usable video among {len(videos)} in {root} ({reasons}): see {folder / 'rejects.csv'}")
    return report


def _claim(folder: Path, root: Path) -> None:
    note = folder / "index.json"
    if note.is_file():
        try:
            before = json.loads(note.read_text()).get("root")
        except ValueError:
            before = None
        if before is not None and Path(before) != root.resolve():
            raise UserError(f"{folder} is the index of {before}: choose another with data.index=…, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the index folder {folder}: {error.strerror}; choose data.index=…") from None
    write_json(note, {"root": str(root.resolve())})


def _read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """The newest entry of each path. A line torn by a kill is ended, so that the next one starts afresh."""
    entries: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return entries
    text = path.read_text(errors="replace")
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            if entry["version"] == VERSION and "silence_db" in entry:
                entries[entry["path"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    if text and not text.endswith("\n"):
        with path.open("a") as journal:
            journal.write("\n")
    return entries


def _fresh(entry: dict[str, Any], video: Video, whole: bool, silence_db: float) -> bool:
    """Does the journal's entry still hold, and tell what is asked now?"""
    same = (entry["size"], entry["mtime_ns"]) == (video.size, video.mtime_ns)
    lost = entry["probe"].get("reason") in ("timeout", "crashed")  # may have been the machine's fault: tried again
    loudness = entry["probe"].get("loudness", silence_db)
    # a file was left once it was loud enough for the level of then
    heard = entry["whole"] or loudness >= silence_db or entry["silence_db"] >= silence_db
    return same and not lost and (entry["whole"] or not whole) and heard


def _write(folder: Path, config: IndexConfig, videos: list[Video], probes: dict[str, dict[str, Any]]) -> IndexReport:
    """The Parquet files from the probes, and the report."""
    data = config.data
    rows: dict[str, list[dict[str, Any]]] = {}
    rejects: list[dict[str, Any]] = []
    for video in videos:
        for row in _verdicts(video, probes[video.path], data):
            if "reason" in row:
                rejects.append(row)
            else:
                rows.setdefault(video.split, []).append(row)
    for split in splits(folder, missing_ok=True):
        if split not in rows:  # left from a former layout
            (folder / f"{split}.parquet").unlink()
    for split, found in rows.items():
        with atomic_path(folder / f"{split}.parquet") as path:
            pq.write_table(pa.Table.from_pylist(found, SCHEMA), path)
    table = pa.Table.from_pylist(rejects, REJECT_SCHEMA)
    with atomic_path(folder / "rejects.parquet") as path:
        pq.write_table(table, path)
    with atomic_path(folder / "rejects.csv") as path:
        pyarrow.csv.write_csv(table, path)
    report = IndexReport(
        folder,
        videos={split: len({r["path"] for r in found}) for split, found in rows.items()},
        rows={split: len(found) for split, found in rows.items()},
        rejects=dict(Counter(r["reason"] for r in rejects).most_common()),
        short=sum(r["window_seconds"] < 2 * config.clip_seconds - 1e-6 for found in rows.values() for r in found),
    )
    counts = {"videos": report.videos, "rows": report.rows, "rejects": report.rejects}
    write_json(folder / "index.json", {"root": str(Path(data.root).resolve()), "data": asdict(data), **counts})
    return report


def _verdicts(video: Video, found: dict[str, Any], data: DataConfig) -> Iterator[dict[str, Any]]:
    """A row for each training item of a video, or a reject."""
    base = {"path": video.path, "split": video.split, "class": video.class_name}

    def reject(reason: str, detail: str, start: float | None = None) -> dict[str, Any]:
        return {**base, "reason": reason, "detail": detail, "window_start": start}

    if "reason" in found:
        yield reject(found["reason"], found["detail"])
        return
    duration = found["duration"]
    shortest = max(data.min_seconds, data.window_seconds or 0)
    if duration < shortest - 1e-6:
        yield reject("too short", f"{duration:.2f} s of picture and sound, {shortest:g} s needed")
        return
    if found["loudness"] < data.silence_db:
        yield reject("silent", f"never louder than {found['loudness']:g} dBFS")
        return
    values = {k: v for k, v in found.items() if k != "profile"} | {"size": video.size, "mtime_ns": video.mtime_ns}
    if data.window_seconds is None:
        yield {**base, **values, "window_start": 0.0, "window_seconds": duration}
        return
    for i in range(int((duration + 1e-6) / data.window_seconds)):
        start = i * data.window_seconds
        first, last = round(start / BLOCK), round((start + data.window_seconds) / BLOCK)
        blocks = found["profile"][first : max(first + 1, last)]
        loudness = max(blocks, default=-120.0)
        if loudness < data.silence_db:
            yield reject("silent", f"window at {start:g} s never louder than {loudness:g} dBFS", start)
            continue
        window = {"window_start": start, "window_seconds": data.window_seconds, "loudness": loudness}
        yield {**base, **values, **window}


def report_table(report: IndexReport) -> Table:
    """Usable videos by split and rejects by reason."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    for split, count in report.videos.items():
        windows = f" in {report.rows[split]} windows" if report.rows[split] != count else ""
        table.add_row(f"[green]{split}[/]", f"{count} usable{windows}")
    for reason, count in report.rejects.items():
        table.add_row(f"[red]{reason}[/]", f"{count} rejected")
    return table


def splits(folder: str | Path, missing_ok: bool = False) -> list[str]:
    """The splits of an index, sorted. UserError where there is none, unless `missing_ok`."""
    names = [split for split in SPLITS if (Path(folder) / f"{split}.parquet").is_file()]
    if not names and not missing_ok:
        raise UserError(f"no index in {folder}: run `avssl index data.root=<folder of videos>` first")
    return names


def read_index(folder: str | Path, split: str) -> pa.Table:
    """Rows of one split, one a training item (`SCHEMA`). UserError where index or split is missing or unreadable."""
    there = splits(folder)
    if split not in there:
        raise UserError(f"no split '{split}' in {folder}: it has {', '.join(there)}")
    path = Path(folder) / f"{split}.parquet"
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}): run `avssl index` again") from None
