"""`avssl index`: probe every file once, and write the usable videos to a Parquet file per split, the rest to
rejects."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..config import DataConfig, IndexConfig, IndexedDataConfig
from ..core.cores import available_cores
from ..core.errors import UserError
from ..core.journal import Journal
from ..core.mapped_rows import Column, read_mapped
from ..core.out_folder import folder_lock
from ..core.part import Part
from ..core.part_journal import PartJournals, part_journal
from ..core.plurals import many
from ..core.progress import track
from ..core.screen import warn
from ..core.tables import check_paths, open_table, read_rows, table_writer
from .catalogue import Catalogue, catalogue
from .index_options import NOTE, difference, fingerprint, note_begun, note_made, own_splits, root_of, tell_if_older
from .journal_entries import is_probe
from .layout import Video
from .missing import Missing
from .probe import BLOCK, PROBE_VERSION, ProbeRequest, probe, usable_stretch
from .source import Source
from .splits import ALL, USUAL, find_split
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
        ("video_start", pa.float64()),
        ("video_end", pa.float64()),
        ("audio_start", pa.float64()),
        ("audio_end", pa.float64()),
        ("variable_rate", pa.bool_()),
        ("video_codec", pa.string()),
        ("audio_codec", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
NEEDED = ("path", "split", "variable_rate")
TIMES = ("duration", "video_start", "video_end", "audio_start", "audio_end")
LIMITS = (
    dict.fromkeys(("window_start", "fps", "frames", "width", "height", "audio_rate", "channels", "size"), (0, 2**53))
    | dict.fromkeys(TIMES, (-1e9, 1e9))
    | {"window_seconds": (1e-6, 1e9), "loudness": (-1e4, 1e4), "mtime_ns": (-(2**62), 2**62)}
)
"""Bounds of the numbers in a row, because an index may come from somebody else."""

REJECT_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("path", "split", "class", "reason", "detail")] + [("window_start", pa.float64())]
)
PROBE_MEMORY = 4 << 30  # limit of a probe's memory, bytes, because a damaged header may request any amount
JOURNAL = "probes.jsonl"
VERSION = 300 + PROBE_VERSION  # of the journal's entries: files with entries of another version are probed again


MAPPED_ROWS = 1_000_000
"""A split with more rows is mapped into memory, so that all processes of a machine share it."""


class NothingUsableError(UserError):
    """The index was written, but all videos are rejected."""


@dataclass
class IndexReport:
    """The result of `avssl index`: usable videos and rows by split, and rejected rows by reason."""

    folder: Path
    videos: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    rejected_windows: dict[str, int] = field(default_factory=dict)
    """How many of the rejects are windows, not files."""
    probed: int = 0
    """Number of files that this command probed."""
    seconds: float = 0.0
    """Time that probing took (s)."""
    cpu: float = 0.0
    """CPU time of the probing processes, including their start (s); 0 if the system does not report it."""
    short: int = 0
    """Usable rows in which two clips of `clip_seconds` would overlap."""
    catalogue: Catalogue | None = None
    """The published and the annotated videos, for known data sets."""

    def rejected(self, reason: str) -> str:
        """The number of rejects with this reason: `5`, or `1 file and 4 windows` if some are windows."""
        count, windows = self.rejects[reason], self.rejected_windows.get(reason, 0)
        files = [many(count - windows, "file")] if count > windows else []
        return " and ".join([*files, many(windows, "window")]) if windows else f"{count:,}"


def index_videos(config: IndexConfig) -> IndexReport:
    """Probe `config.data.root` into `<data.index>/<split>.parquet`, `rejects.parquet` and `rejects.csv`.

    Results are written to a journal as they arrive. Repeating an interrupted command therefore resumes it, and later
    commands probe only new and changed files.

    Raises:
        UserError: the root contains no usable video, or the index folder belongs to other videos.
    """
    data = config.data
    folder, root = Path(data.index), Path(data.root)
    listed = _listed(config)
    with (
        folder_lock(folder),
        Journal(folder / JOURNAL, VERSION, is_probe) as journal,
        PartJournals(folder / JOURNAL, VERSION, is_probe) as parts,
    ):
        note_begun(folder, data)
        missing, older = Missing(listed.videos), 0
        for number, video in enumerate(listed.videos):
            whole = _whole(video, data)
            if _fresh(journal.get(video.path), video, whole, data.silence_db):
                continue
            probed = (x for x in parts.entries(video.path) if _fresh(x, video, whole, data.silence_db, lost_too=True))
            if (entry := next(probed, None)) is None:
                older += missing.add(number, video) and journal.is_outdated(video.path)
            else:
                journal.add(video.path, entry)
        if older:
            warn(f"probing {many(older, 'file')} again, because another version of avssl measured videos differently")
        start, start_cpu = time.perf_counter(), _children_cpu()
        if missing:
            _probe(config, missing, journal)
        seconds, cpu = time.perf_counter() - start, _children_cpu() - start_cpu
        report = _write(folder, config, listed, journal)
        parts.remove()
    report.probed, report.seconds, report.cpu = len(missing), seconds, cpu
    if not report.rows:
        reasons = ", ".join(f"{report.rejected(reason)} {reason}" for reason in report.rejects)
        mute = not {"no sound", "silent"}.isdisjoint(report.rejects)
        from .repeat import keeping_silent  # composes a config, which takes a moment

        rest = f"; {keeping_silent(config)}" if mute else ""
        raise NothingUsableError(
            f"none of the {len(listed.videos)} videos in {root} is usable ({reasons}): see "
            f"{folder / 'rejects.csv'}{rest}"
        )
    return report


def run_part(config: IndexConfig, part: Part) -> None:
    """Probe the files of a part into its own journal, which `index_videos` takes over. Repeat it to resume.

    Raises:
        UserError: as `index_videos`, but a part without usable videos is none.
    """
    data = config.data
    folder = Path(data.index)
    listed = _listed(config)
    with part_journal(folder / JOURNAL, part, VERSION, is_probe) as (journal, others):
        note_begun(folder, data)
        missing = Missing(listed.videos)
        for number, video in enumerate(listed.videos):
            if part.has(video.path):
                before = (journal.get(video.path), *others.entries(video.path))
                if not any(_fresh(entry, video, _whole(video, data), data.silence_db) for entry in before):
                    missing.add(number, video)
        if missing:
            _probe(config, missing, journal)


def _listed(config: IndexConfig) -> Catalogue:
    """The videos to index, once the options are checked and the index folder is made."""
    data = config.data
    if data.window_seconds is not None and data.window_seconds < max(data.min_seconds, BLOCK):
        raise UserError(
            f"data.window_seconds={data.window_seconds:g} is too short: give {max(data.min_seconds, BLOCK):g} s or "
            f"more, or lower data.min_seconds"
        )
    folder = Path(data.index)
    _check_claim(folder, Path(data.root))
    listed = catalogue(data, folder)
    _make(folder)
    return listed


def _probe(config: IndexConfig, missing: Missing, journal: Journal) -> None:
    """Probe files in separate processes, and write the results to the journal."""
    data = config.data
    storage = open_storage(data.root)
    requested: dict[Source, Video] = {}

    def requests() -> Iterator[ProbeRequest]:
        for video in missing:
            request = ProbeRequest(storage.locate(video.path), _whole(video, data), data.silence_db)
            requested[request.path] = video
            yield request

    workers = min(config.workers or available_cores(), 1 + len(missing) // 16)
    results = run_isolated(probe, requests(), workers, data.probe_timeout, PROBE_MEMORY)
    for request, result in track(results, "probing", len(missing)):
        video = requested.pop(request.path)
        probed = {"reason": result.reason, "detail": ""} if isinstance(result, Lost) else result
        if probed.get("reason") == "timeout":
            probed["detail"] = f"longer than {data.probe_timeout:g} s"
        options = {"whole": _whole(video, data), "silence_db": data.silence_db}
        journal.add(video.path, {"size": video.size, "mtime_ns": video.mtime_ns, **options, "probe": probed})


def _children_cpu() -> float:
    """CPU seconds of this process's children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _check_claim(folder: Path, root: Path) -> None:
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"data.index={folder}: {above} is a file: give a folder for the index")
    before = root_of(folder)
    if before is not None and before != root.resolve():
        raise UserError(f"{folder} is the index of {before}: choose another with data.index=…, or remove it")
    others = splits(folder, missing_ok=True)
    if others and not (folder / NOTE).is_file():  # the index would replace or remove these files
        raise UserError(
            f"data.index={folder} contains {others[0]}.parquet, but no index: give the index its own folder"
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the index folder {folder} ({error.strerror}): choose another with data.index=…"
        ) from None


def _whole(video: Video, data: DataConfig) -> bool:
    """Whether the loudness of parts of the file is needed."""
    return data.window_seconds is not None or video.stretch is not None


def _fresh(entry: dict[str, Any] | None, video: Video, whole: bool, silence_db: float, lost_too: bool = False) -> bool:
    """Whether the file has not changed since the journal's entry, and the entry has all that this command needs.

    With `lost_too`, a probe that took too long or crashed counts as one: a part has tried the file for this command.
    """
    if entry is None:
        return False
    same = (entry["size"], entry["mtime_ns"]) == (video.size, video.mtime_ns)
    # the machine may be the cause: probe it again
    lost = not lost_too and entry["probe"].get("reason") in ("timeout", "crashed")
    loudness = entry["probe"].get("loudness", silence_db)
    # the probe stopped as soon as the file was loud enough for the level at that time
    measured = entry["whole"] or loudness >= silence_db or entry["silence_db"] >= silence_db
    return same and not lost and (entry["whole"] or not whole) and measured


def _write(folder: Path, config: IndexConfig, listed: Catalogue, journal: Journal) -> IndexReport:
    """Write the Parquet files from the probes, and return the report."""
    data = config.data
    report = IndexReport(folder, catalogue=listed)
    reasons: Counter[str] = Counter()
    windows: Counter[str] = Counter()
    with ExitStack() as stack:
        reject = stack.enter_context(table_writer(folder / "rejects.parquet", REJECT_SCHEMA, folder / "rejects.csv"))
        writers: dict[str, Callable[[dict[str, Any]], None]] = {}
        for video in listed.videos:
            entry = journal.get(video.path)
            assert entry is not None
            usable = 0
            for row in verdicts(video, entry["probe"], data):
                if "reason" in row:
                    reject(row)
                    reasons[row["reason"]] += 1
                    windows[row["reason"]] += row["window_start"] is not None
                    continue
                if video.split not in writers:
                    path = folder / f"{video.split}.parquet"
                    writers[video.split] = stack.enter_context(table_writer(path, SCHEMA))
                writers[video.split](row)
                usable += 1
                report.short += row["window_seconds"] < 2 * config.clip_seconds - 1e-6
            if usable:
                report.videos[video.split] = report.videos.get(video.split, 0) + 1
                report.rows[video.split] = report.rows.get(video.split, 0) + usable
    report.rejects, report.rejected_windows = dict(reasons.most_common()), dict(+windows)
    for split in splits(folder, missing_ok=True):
        if split not in report.rows:  # left over from an earlier layout
            (folder / f"{split}.parquet").unlink()
            (folder / f"{split}.arrow").unlink(missing_ok=True)
    for split, count in report.rows.items():
        path = folder / f"{split}.parquet"
        if count > MAPPED_ROWS:
            _mapped(path)
        else:
            path.with_suffix(".arrow").unlink(missing_ok=True)
    counts = {"videos": report.videos, "rows": report.rows, "rejects": report.rejects}
    if listed.matched is not None:
        counts |= {"annotated": dict(listed.matched.annotated), "found": dict(listed.matched.found)}
    note_made(folder, data, counts)
    return report


def verdicts(video: Video, probed: dict[str, Any], data: DataConfig) -> Iterator[dict[str, Any]]:
    """Rows of the index for a probed video: a row of `SCHEMA` for each training item, or of `REJECT_SCHEMA`."""
    base = {"path": video.path, "split": video.split, "class": video.class_name}

    def reject(reason: str, detail: str, start: float | None = None) -> dict[str, Any]:
        return {**base, "reason": reason, "detail": detail, "window_start": start}

    if "reason" in probed:
        yield reject(probed["reason"], probed["detail"])
        return
    if data.require_sound and not probed["channels"]:
        yield reject("no sound", "")
        return
    first, last = probed["start"], probed["start"] + probed["duration"]
    if not data.require_sound:
        first, last = usable_stretch(probed["video_start"], probed["video_end"])
    begin, end = _stretch(video, first, last, data)
    seconds = data.window_seconds or end - begin
    shortest = max(data.min_seconds, seconds if data.window_seconds else 0)
    if end - begin < shortest - 1e-6:
        streams = "video and audio" if data.require_sound else "video"
        where = f"{end - begin:.2f} s of {streams}"
        if video.stretch is not None and begin > first:
            where = f"annotated at {begin:g} s, the file has {streams} until {last:.2f} s"
        yield reject("too short", f"{where}, but {shortest:g} s are needed")
        return
    if data.require_sound and probed["loudness"] < data.silence_db:
        yield reject("silent", f"never louder than {probed['loudness']:g} dBFS")
        return
    values = {k: v for k, v in probed.items() if k not in ("profile", "start")}
    values |= {"duration": last - first, "size": video.size, "mtime_ns": video.mtime_ns}
    if data.window_seconds is None and (begin, end) == (first, last):
        yield {**base, **values, "window_start": begin, "window_seconds": end - begin}
        return
    for i in range(max(1, int((end - begin + 1e-6) / seconds))):
        start = begin + i * seconds
        first, last = round(start / BLOCK), round((start + seconds) / BLOCK)
        blocks = probed["profile"][first : max(first + 1, last)]
        loudness = max(blocks, default=-120.0)
        if data.require_sound and loudness < data.silence_db:
            yield reject("silent", f"window at {start:g} s never louder than {loudness:g} dBFS", start)
            continue
        yield {**base, **values, "window_start": start, "window_seconds": seconds, "loudness": loudness}


def _stretch(video: Video, first: float, last: float, data: DataConfig) -> tuple[float, float]:
    """Start and end (s) of the video in its file: the usable span, or the annotated segment of a whole video.

    A file counts as already cut if it is at most one second longer than the segment. It also does if it ends before
    the segment begins and is at most twice as long, because files cut at key frames are longer than the segment.
    """
    if video.stretch is None:
        return first, last
    start, end = video.stretch
    length = end - start
    cut = last <= length + 1 or (last < start + 1 and last <= 2 * length)
    if data.trimmed == "auto" and cut:
        return first, last
    start = max(start, first)
    return start, max(start, min(end, last))


def splits(folder: str | Path, missing_ok: bool = False) -> list[str]:
    """The splits of an index, sorted. Raises UserError if there is no index, unless `missing_ok`."""
    names = [s for s in sorted({*USUAL, *own_splits(folder)}) if (Path(folder) / f"{s}.parquet").is_file()]
    if not names and not missing_ok:
        raise UserError(
            f"there is no index in {folder}: run `avssl index my_videos` first, with the same data=…, "
            f"data.annotations=… and data.index=…, if you use any"
        )
    return names


def training_split(data: IndexedDataConfig, names: list[str]) -> str:
    """The split of an index to train on: `data.train_split`, or all videos of an index without splits.

    Args:
        data: the options of the index.
        names: the splits of the index.

    Raises:
        UserError: the index has splits, but not this one.
    """
    split = find_split(names, data.train_split)
    if split is None and names != [ALL]:
        raise UserError(
            f"the index {data.index} has no split {data.train_split} to train on (it has {', '.join(names)}): choose "
            f"one with data.train_split=…"
        )
    return split or ALL


def existing_split(folder: str | Path, split: str) -> str:
    """The name under which an index has a split. Raises UserError if the index or the split is missing."""
    names = splits(folder)
    name = find_split(names, split)
    if name is None:
        raise UserError(f"the index {folder} has no split '{split}': it has {', '.join(names)}")
    return name


def read_index(folder: str | Path, split: str) -> pa.Table:
    """The rows of one split (`SCHEMA`), one for each training item.

    A large table is mapped into memory from an Arrow copy beside it, which `avssl index` writes.

    Raises:
        UserError: the index or the split is missing or cannot be read.
    """
    name = existing_split(folder, split)
    tell_if_older(str(folder))
    path = Path(folder) / f"{name}.parquet"
    try:
        rows = _mapped(path) if _is_large(path) else None
        if rows is None:
            rows = read_rows(path, SCHEMA, NEEDED, LIMITS)
            check_paths(rows["path"], path)
        return rows
    except (OSError, UserError) as error:
        raise UserError(f"{error}: run `avssl index` again") from None


def _is_large(path: Path) -> bool:
    with open_table(path, SCHEMA) as file:
        return bool(file.metadata.num_rows > MAPPED_ROWS)


def _mapped(path: Path) -> pa.Table | None:
    return read_mapped(path, SCHEMA, NEEDED, LIMITS, lambda rows: check_paths(rows["path"], path))


def lengths_of(folder: str | Path, split: str) -> tuple[np.ndarray, int]:
    """The length of each row of a split (s), float64 [N], and the number of its video files. Raises UserError if the
    index cannot be read."""
    path = Path(folder) / f"{split}.parquet"
    schema = pa.schema([SCHEMA.field("path"), SCHEMA.field("window_seconds")])
    try:
        rows = read_rows(path, schema, ("path",), {"window_seconds": LIMITS["window_seconds"]})
    except (OSError, UserError) as error:
        raise UserError(f"{error}: run `avssl index` again") from None
    return rows["window_seconds"].to_numpy(), Column[str](rows["path"]).distinct()


def tell_if_changed(data: IndexedDataConfig, before: Any, run: str) -> None:
    """Print a warning if the index no longer has the rows that a run was trained on.

    Args:
        data: the index and its splits.
        before: the fingerprint of the rows in the run's checkpoint.
        run: the run's folder, for the message.

    Raises:
        UserError: there is no index.
    """
    if not isinstance(before, dict) or not isinstance(before.get("number"), int):
        return
    names = splits(data.index)
    split = find_split(names, data.train_split) or (ALL if names == [ALL] else None)
    changed = f"it no longer has the split {data.train_split}"
    if split is not None:
        changed = difference(before, fingerprint(read_index(data.index, split)))
    if changed:
        warn(
            f"the index {data.index} has changed since {run} was trained ({changed}): the results are of the present "
            f"index"
        )
