"""`avssl prepare`: transcode every video to a small, fast-to-decode copy."""

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from math import ceil, log
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from rich.markup import escape

from ..config import PrepareConfig
from ..core.atomic import atomic_path, read_json, write_json, write_text
from ..core.cores import available_cores
from ..core.csv_cells import quoted_row, unquoted
from ..core.errors import UserError
from ..core.journal import Journal
from ..core.out_folder import OTHER_FOLDER, check_disjoint, check_same, claim_folder, folder_lock, write_errors
from ..core.part import Part
from ..core.part_journal import PartJournals, part_journal
from ..core.plurals import many
from ..core.progress import track
from ..core.safe_paths import below
from ..core.screen import Console, one_line, warn
from ..core.text import read_cells
from .files import File, find_files
from .journal_entries import is_prepared
from .source import Source
from .storage import is_sharded, open_storage
from .transcode import TranscodeRequest, header_seconds, transcode
from .workers import Lost, run_isolated

JOURNAL, NOTE, REJECTS = "prepare.jsonl", "prepare.json", "rejects.csv"
VERSION = 2  # raise it when files or the journal change: all files are then written again
PART = ".part.mp4"
TABLES = "labels.csv", "boxes.csv"
"""Tables of the folder of videos that are copied."""

HEADER_SECONDS = 20.0
"""Time limit for reading a file's header (s)."""

PATIENCE = 20.0
"""The time limit of a file is one minute plus this many times its duration."""

SETTINGS = ("short_side", "gop", "crf", "audio_rate", "audio_bitrate")
RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
"""Sampling rates that AAC supports (Hz)."""

SLOWEST, FASTEST = 30e3, 5e6
"""Lowest and highest data rate (bytes/s), which bound the duration of a file whose header lacks it."""


@dataclass
class PrepareReport:
    """The result of `avssl prepare`: files written and kept, bytes of sources and copies, and rejects by reason."""

    folder: Path
    written: int = 0
    kept: int = 0
    before: int = 0
    after: int = 0
    rejects: dict[str, int] = field(default_factory=dict)


def run(config: PrepareConfig) -> PrepareReport:
    """Transcode the videos, and print the result."""
    console, start = Console(highlight=False, soft_wrap=True), time.monotonic()
    report = prepare(config)
    kept = f", {report.kept} kept from before" if report.kept else ""
    times = f" (1/{report.before / report.after:.1f})" if report.after < report.before else ""
    console.print(
        f"{many(report.written, 'video')} written in {time.monotonic() - start:.0f} s{kept}: "
        f"{report.before / 1e6:.1f} MB became {report.after / 1e6:.1f} MB{times}"
    )
    for reason, count in report.rejects.items():
        console.print(f"[red]{escape(one_line(reason))}[/]  {count} rejected")
    if report.rejects:
        console.print(f"rejected files and reasons: {report.folder / REJECTS}", markup=False)
    console.note(f"next: avssl index {report.folder}")
    return report


def prepare(config: PrepareConfig) -> PrepareReport:
    """Write the videos of `data.root` to `out` as mp4 files at the same relative paths, and rejects.csv.

    Copies of unchanged files (same size and modification time) with the same options are kept, so repeating an
    interrupted command resumes it. If two files would get the same name, all but an mp4 file keep their own suffix
    before the new one.
    `labels.csv` and `boxes.csv` in the root are copied with the new paths. Boxes are fractions of the upright picture,
    so they stay right.

    Raises:
        UserError: an option is invalid, one folder contains the other, the disk is full, or no file could be
            transcoded.
    """
    root, out, videos = _listed(config)
    with write_errors(out):
        _claim(out, {"root": str(root.resolve()), **_settings(config)}, config.overwrite)
        with (
            folder_lock(out),
            Journal(out / JOURNAL, VERSION, is_prepared) as journal,
            PartJournals(out / JOURNAL, VERSION, is_prepared) as parts,
        ):
            report = _prepare(config, videos, journal, parts)
            parts.remove()
    if not report.written + report.kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejects.items())
        raise UserError(f"none of the {len(videos)} videos in {root} is usable ({reasons}): see {out / REJECTS}")
    return report


def run_part(config: PrepareConfig, part: Part) -> None:
    """Transcode the videos of a part, with a journal of its own, which `prepare` takes over. Repeat it to resume.

    Raises:
        UserError: as `prepare`, but a part without usable videos is none.
    """
    root, out, videos = _listed(config)
    with write_errors(out):
        _claim(out, {"root": str(root.resolve()), **_settings(config)}, config.overwrite)
        with part_journal(out / JOURNAL, part, VERSION, is_prepared) as (journal, others):
            names = _names(videos, journal, others)  # of all copies, as the command itself gives them
            mine = [video for video in videos if part.has(video.path)]
            settings = _settings(config)

            def is_done(video: File) -> bool:
                before = (journal.get(video.path), *others.entries(video.path))
                return any(_fresh(entry, video, out, names[video.path], settings) for entry in before)

            missing = {video.path for video in mine if not is_done(video)}
            _write_copies(config, mine, missing, names, journal, f".{part.number}_of_{part.of}{PART}")


def _listed(config: PrepareConfig) -> tuple[Path, Path, list[File]]:
    """The root, the folder for the copies and the videos, once the options are checked."""
    _check(config)
    root, out = Path(config.data.root), Path(config.out)
    videos = find_files(config.data)
    check_disjoint(root, out)
    return root, out, videos


def _names(videos: list[File], journal: Journal, parts: PartJournals) -> dict[str, str]:
    """The path of each video's copy; one that was written before keeps its path."""
    before: dict[str, str | None] = {}
    for video in videos:
        entries = filter(None, (journal.get(video.path), *parts.entries(video.path)))
        before[video.path] = next((entry["name"] for entry in entries), None)
    return target_names([video.path for video in videos], before)


def _remove_outlived(config: PrepareConfig, out: Path, journal: Journal, names: dict[str, str]) -> None:
    """Remove copies of files that were deleted or moved, because they would still be indexed."""
    root, current = Path(config.data.root), set(names.values())
    for path in set(journal.paths()) - names.keys():
        entry = journal.get(path) or {}
        gone = is_sharded(root) or not (root / path).exists()
        if "bytes" in entry and entry["name"] not in current and gone:
            below(out, entry["name"], writing=True).unlink(missing_ok=True)


def _prepare(config: PrepareConfig, videos: list[File], journal: Journal, parts: PartJournals) -> PrepareReport:
    out = Path(config.out)
    names, settings = _names(videos, journal, parts), _settings(config)
    waiting, by_parts = set(), set()
    for video in videos:
        if _fresh(journal.get(video.path), video, out, names[video.path], settings):
            continue
        done = (x for x in parts.entries(video.path) if _fresh(x, video, out, names[video.path], settings, True))
        if (entry := next(done, None)) is None:
            waiting.add(video.path)
        else:
            journal.add(video.path, entry)
            by_parts.add(video.path)
    _write_copies(config, videos, waiting, names, journal, PART)
    waiting |= by_parts
    _remove_outlived(config, out, journal, names)
    report = PrepareReport(out)
    rejects: list[tuple[str, str, str]] = []
    for video in videos:
        recorded = journal.get(video.path) or {}
        if "reason" in recorded:
            rejects.append((video.path, recorded["reason"], recorded["detail"]))
            continue
        report.written += video.path in waiting
        report.kept += video.path not in waiting
        report.before, report.after = report.before + recorded["size"], report.after + recorded["bytes"]
    report.rejects = dict(Counter(reason for _, reason, _ in rejects).most_common())
    _write_csv(out / REJECTS, [("path", "reason", "detail"), *rejects])
    for table in TABLES:
        _copy_table(Path(config.data.root), out, table, names)
    return report


def _write_copies(
    config: PrepareConfig, videos: list[File], waiting: set[str], names: dict[str, str], journal: Journal, suffix: str
) -> None:
    """Transcode those of the videos that wait. `suffix`: of the names of unfinished files."""
    out = Path(config.out)
    folders = {below(out, names[v.path]).parent: names[v.path] for v in videos}
    for folder, name in folders.items():
        below(out, name, writing=True)
        folder.mkdir(parents=True, exist_ok=True)
    _sweep(folders, suffix)
    storage = open_storage(config.data.root)
    sources: dict[Source, File] = {storage.locate(v.path): v for v in videos if v.path in waiting}
    try:
        results = _transcoded(config, sources, _limits(config, sources), names, suffix)
        for video, result in track(results, "preparing", len(waiting)):
            entry = {"size": video.size, "mtime_ns": video.mtime_ns, "name": names[video.path]}
            journal.add(video.path, {**entry, "settings": _settings(config), **result})
    finally:
        _sweep(folders, suffix)


def _check(config: PrepareConfig) -> None:
    if config.audio_rate not in RATES:
        raise UserError(f"audio_rate={config.audio_rate} is not a rate of AAC: give {', '.join(map(str, RATES))} Hz")


def _settings(config: PrepareConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in SETTINGS}


def _claim(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Write the settings to the folder. Raises UserError if the folder contains other files, or has other settings."""
    what = "prepared videos"
    if not (out / NOTE).is_file():
        claim_folder(out, NOTE, what, settings)
        return
    before = read_json(out / NOTE)
    check_same(out, what, before, {"root": settings["root"]})  # copies of other videos are never overwritten
    if not overwrite:
        check_same(out, what, before, settings, f"{OTHER_FOLDER}, or overwrite=true to write them again")
    write_json(out / NOTE, settings)


def target_names(paths: Iterable[str], before: dict[str, str | None]) -> dict[str, str]:
    """A unique relative path for the copy of each of `paths`.

    It is the path `before`, if there is one; else the path with the suffix .mp4; else, if that is used, with .mp4
    appended.
    """
    paths = list(paths)
    names = {path: name for path in paths if (name := before.get(path)) is not None}
    used = set(names.values())
    new = [path for path in paths if path not in names]
    preferred = {path: str(PurePosixPath(path).with_suffix(".mp4")) for path in new}
    counts = Counter(preferred.values())
    for path in sorted(new, key=lambda path: preferred[path] != path):  # files that have the name already come first
        name = preferred[path]
        if name in used or (counts[name] > 1 and name != path):
            name = path + ".mp4"
        while name in used:
            name += ".mp4"
        names[path] = name
        used.add(name)
    return names


def _fresh(
    entry: dict[str, Any] | None, video: File, out: Path, name: str, settings: dict[str, Any], lost_too: bool = False
) -> bool:
    """Whether the file and the settings have not changed since the journal's entry, and the copy exists.

    With `lost_too`, a file that took too long or crashed is done: a part has tried it for this command.
    """
    if entry is None or (entry["size"], entry["mtime_ns"]) != (video.size, video.mtime_ns):
        return False
    if "reason" in entry:
        return lost_too or entry["reason"] not in ("timeout", "crashed")  # the machine may be the cause: try it again
    if entry["name"] != name or entry["settings"] != settings:
        return False
    try:
        return (out / name).stat().st_size == entry["bytes"]
    except OSError:
        return False


def _limits(config: PrepareConfig, sources: dict[Source, File]) -> dict[Source, float | Lost]:
    """Yield the time limit of each file (s), or `Lost` if its header could not be read."""
    limits: dict[Source, float | Lost] = {}
    readers = min(config.workers or available_cores(), 1 + len(sources) // 16) if sources else 0
    lengths = run_isolated(header_seconds, sources, readers, HEADER_SECONDS)
    for source, seconds in track(lengths, "reading headers", len(sources)):
        if isinstance(seconds, Lost):
            limits[source] = seconds
            continue
        size = sources[source].size
        longest = max(seconds or size / SLOWEST, size / FASTEST)
        limits[source] = 60 * 4.0 ** ceil(log((60 + PATIENCE * longest) / 60, 4))  # a power of 4, to have few groups
    return limits


def _transcoded(
    config: PrepareConfig,
    sources: dict[Source, File],
    limits: dict[Source, float | Lost],
    names: dict[str, str],
    suffix: str,
) -> Iterator[tuple[File, dict[str, Any]]]:
    """Transcode the videos; yields each with the result of `transcode` once its file is in place."""
    out, settings, workers = Path(config.out), _settings(config), config.workers or available_cores()
    timed: dict[Source, float] = {}
    for source, limit in limits.items():
        if isinstance(limit, Lost):
            yield sources[source], _rejected(out / names[sources[source].path], limit.reason, "its header alone")
        else:
            timed[source] = limit
    # a group of processes per limit, the longest limit first
    for limit, group in groupby(sorted(timed, key=lambda s: -timed[s]), key=lambda s: timed[s]):
        requests = {}
        for source in group:
            target = out / names[sources[source].path]
            part = target.with_name(f".{uuid4().hex}{suffix}")
            requests[TranscodeRequest(source, str(part), **settings)] = target
        for request, result in run_isolated(transcode, requests, min(workers, len(requests)), limit):
            target, part = requests[request], Path(request.target)
            if isinstance(result, Lost):
                detail = f"longer than {limit:.0f} s" if result.reason == "timeout" else ""
                result = {"reason": result.reason, "detail": detail}
            if result.get("reason") == "unwritable":
                raise OSError(result["errno"], result["detail"], str(target))
            if "reason" in result:
                part.unlink(missing_ok=True)
                result = _rejected(target, result["reason"], result["detail"])
            else:
                os.replace(part, target)
            yield sources[request.source], result


def _rejected(target: Path, reason: str, detail: str) -> dict[str, Any]:
    """The journal's entry of a failure. A copy of an earlier version of the source is removed."""
    target.unlink(missing_ok=True)
    return {"reason": reason, "detail": detail}


def _sweep(folders: Iterable[Path], suffix: str) -> None:
    """Remove unfinished files of a process that was killed; those of another part have another suffix."""
    for folder in folders:
        for part in folder.glob(f".*{suffix}"):
            part.unlink(missing_ok=True)


def _write_csv(path: Path, rows: Iterable[Iterable[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(quoted_row, rows))
    write_text(path, text.getvalue())


def _copy_table(root: Path, out: Path, name: str, names: dict[str, str]) -> None:
    """Copy a table of the folder of videos, if there is one, with the new paths of the videos."""
    if not (root / name).is_file():
        return
    try:
        with atomic_path(out / name) as part, part.open("w", encoding="utf-8", newline="") as file:
            write, at = csv.writer(file, lineterminator="\n").writerow, -1
            for number, (_, cells) in enumerate(read_cells(root / name)):
                row = [unquoted(cell) for cell in cells]
                if not number:
                    row = [cell.strip() for cell in row]
                    at = row.index("path") if "path" in row else -1
                elif 0 <= at < len(row):
                    row[at] = names.get(row[at], row[at])
                write(quoted_row(row))
    except UserError as error:  # not an error of the command, because the videos are written
        warn(f"{error}; it was not copied")
