"""`avssl label`: label new videos with a trained run, once or as they arrive."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..config import EvaluateConfig, LabelConfig
from ..core.atomic import atomic_path
from ..core.device import prepare_device, share_cores
from ..core.errors import UserError
from ..core.journal import Journal
from ..core.out_folder import folder_lock, write_errors
from ..core.part import Part
from ..core.plurals import many
from ..core.progress import track
from ..core.screen import Console, one_line, warn
from ..core.tables import table_writer
from ..core.untrusted import read_bytes
from ..explore.names import DIGEST, Names, read_names
from ..runs.open import open_source
from ..train.signals import StopSignals
from ..videos.journal_entries import is_labelled
from ..videos.layout import File
from ..videos.storage import Folder, Shards
from .arriving import BATCH, in_folder, listed, named, storage_of_list, watched
from .check_options import check_label
from .new_videos import Labelled, VideoLabel, VideoLabeller

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("window_start", pa.float64()),
        ("label", pa.int32()),
        ("name", pa.string()),
        ("confidence", pa.float32()),
        ("label_video", pa.int32()),
        ("label_audio", pa.int32()),
        ("agreement", pa.bool_()),
        ("labelled_by", pa.string()),
        ("score", pa.float32()),
        ("none_of_these", pa.bool_()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
JOURNAL = "labels.jsonl"

RETRIED = ("timeout", "crashed")
"""Reasons that may be due to the machine; such a file is tried again."""

WRITE_SECONDS = 30.0
"""Seconds between two updates of the tables while a folder is watched."""


class _Stop(StopSignals):
    """Records the first signal; a second one has its usual effect."""

    def _note(self, number: int, frame: object) -> None:
        super()._note(number, frame)
        self.close()


@dataclass
class Job:
    """One call of the command: the labeller, the labels so far, and the paths in the tables."""

    config: LabelConfig
    labeller: VideoLabeller
    names: Names
    out: Path
    journal: Journal
    console: Console
    storage: Folder | Shards
    shown: dict[str, str] = field(default_factory=dict)
    """How the tables write each path below the storage's root, in the tables' order."""
    refused: dict[str, str] = field(default_factory=dict)
    """Listed paths that are not files, with the reason."""
    threshold: float | None = None
    """Videos with a lower score fit no cluster."""
    new: int = 0
    before: Journal | None = None
    """While this job is a part: the journal of the whole, which it only reads."""

    def is_current(self, file: File) -> bool:
        """Whether the file was labelled before and has not changed since."""
        return self._is_current(file, self.journal) or self.was_current(file)

    def was_current(self, file: File) -> bool:
        """Whether this holds for the journal of the whole, while this job is a part."""
        return self.before is not None and self._is_current(file, self.before)

    def _is_current(self, file: File, journal: Journal) -> bool:
        entry = journal.get(self.key(file.path))
        if entry is None or [file.size, file.mtime_ns] != entry["stamp"]:
            return False
        return not any(row["reason"] in RETRIED for row in entry["rows"])

    def key(self, path: str) -> str:
        return str(self.storage.root.resolve() / path)

    def missing(self, files: Sequence[File], part: Part | None = None) -> list[list[File]]:
        """The files without current labels, or those of a part, in batches that are labelled together.

        The last digits of labels depend on the batch. So if no file of a batch of the whole list has labels, it stays
        one, whoever labels it, and parts share these batches. Other files, such as new ones among labelled ones,
        belong to the part that their path decides.
        """
        whole, others = [], []
        for number, start in enumerate(range(0, len(files), BATCH)):
            batch = files[start : start + BATCH]
            missing = [file for file in batch if not self.is_current(file)]
            if len(missing) == len(batch) or (part is not None and not any(map(self.was_current, batch))):
                if missing and (part is None or number % part.of == part.number):
                    whole.append(missing)
            else:
                others += [file for file in missing if part is None or part.has(file.path)]
        return [*whole, *(others[start : start + BATCH] for start in range(0, len(others), BATCH))]

    def label(self, files: Sequence[File], stop: _Stop | None = None) -> Iterator[File]:
        """Label files without current labels, write the labels to the journal, and yield each file once done."""
        yield from self.label_batches(self.missing(files), stop)

    def label_batches(self, batches: Sequence[Sequence[File]], stop: _Stop | None = None) -> Iterator[File]:
        """Label batches of files, write the labels to the journal, and yield each file once done."""
        for batch in batches:
            for file, labels in self.labeller.label(batch, self.storage):
                if stop and any(label.reason in RETRIED for label in labels):
                    continue  # the signal has most likely ended the decoding process
                rows = [asdict(label) for label in labels]
                self.journal.add(self.key(file.path), {"stamp": [file.size, file.mtime_ns], "rows": rows})
                self.new += 1
                yield file

    def rows(self, path: str) -> Iterator[dict[str, Any]]:
        """The rows of a path in the tables."""
        if path in self.refused:
            label = VideoLabel(path, None, -1, None, None, None, "", None, "no file", self.refused[path])
            yield self._row(label, path)
            return
        entry = self.journal.get(self.key(path))
        for row in entry["rows"] if entry else ():
            yield self._row(VideoLabel(**row), self.shown[path])

    def _row(self, label: VideoLabel, shown: str) -> dict[str, Any]:
        labelled = Labelled.of(label, shown, self.names, self.threshold)
        return {**asdict(labelled), "agreement": labelled.agreement}

    def write(self) -> Counter[str]:
        """Write the tables, and count their rows by kind."""
        counts: Counter[str] = Counter()
        with table_writer(f"{self.out}.parquet", SCHEMA, f"{self.out}.csv") as add:
            for path in (*self.shown, *self.refused):
                for row in self.rows(path):
                    add(row)
                    counts["labelled" if row["label"] >= 0 else row["reason"]] += 1
                    counts["none of these"] += bool(row["none_of_these"])
                    counts["from the frames alone"] += row["labelled_by"] == "video" and len(self.modalities) > 1
        return counts

    @property
    def modalities(self) -> list[str]:
        return self.labeller.modalities

    def say(self, path: str) -> None:
        """Print a line for each row of a path. It bypasses the console, which would turn the tabs into blanks."""
        for row in self.rows(path):
            at = f" at {row['window_start']:g} s" if row["window_start"] else ""
            if row["label"] < 0:
                why = row["reason"] + (f" ({row['detail']})" if row["detail"] else "")
                print(f"{one_line(row['path'])}{at}\t-\t{one_line(why)}", flush=True)
                continue
            notes = ["none of these"] * bool(row["none_of_these"]) + [row["reason"]] * bool(row["reason"])
            cells = "\t".join(map(one_line, [row["name"], f"{100 * row['confidence']:.1f} %", *notes]))
            print(f"{one_line(row['path'])}{at}\t{cells}", flush=True)


def run(config: LabelConfig) -> Path:
    """Label the videos, and return the Parquet file of labels.

    Raises:
        UserError: the videos or the run are missing, the run has no clusters, or the names belong to other clusters.
    """
    labeller, names, out = opened(config)
    kept, version = kept_folder(out), version_of(labeller)
    with write_errors(out.parent):
        refuse_others(config, kept)
        with folder_lock(kept), Journal(kept / JOURNAL, version, is_labelled) as journal:
            _join_parts(kept, journal, version)
            job = Job(
                config, labeller, names, out, journal, Console(highlight=False, soft_wrap=True), storage_of_list()
            )
            job.threshold = labeller.threshold(config.reject)
            _watch(job) if config.watch else _once(job)
            _report(job, job.write())
    return Path(f"{out}.parquet")


def opened(config: LabelConfig) -> tuple[VideoLabeller, Names, Path]:
    """The labeller, the names of the clusters, and the tables' path without its extension. Raises as `run` does."""
    check_label(config)
    names = read_names(config.names) if config.names else Names()
    source = open_source(EvaluateConfig(run=config.run, checkpoint=config.checkpoint, trust=config.trust))
    device = prepare_device(config.device)
    config = replace(config, workers=share_cores(device, config.workers, config.threads))
    labeller = VideoLabeller(source, device, config.workers, config.head, config.sound)
    names.check(source.step, labeller.head, labeller.model.clusters, labeller.digest[:DIGEST], config.run)
    return labeller, names, _out(config, source.name if source.data is not None else "")


def version_of(labeller: VideoLabeller) -> int:
    """The version of the journal's entries: labels of another model or head are no labels."""
    return int(labeller.key()[:12], 16)


def kept_folder(out: Path) -> Path:
    """The folder of the journal."""
    return out.parent / f".{out.name}"


def part_folders(kept: Path, version: int) -> Path:
    """The folder of the parts' journals."""
    return kept / "parts" / f"{version:012x}"


def _join_parts(kept: Path, journal: Journal, version: int) -> None:
    """Copy the labels of parts into the journal of the whole, and remove the parts.

    Raises:
        UserError: a part is still at work.
    """
    for folder in sorted(part_folders(kept, version).glob("*-of-*")):
        with folder_lock(folder), Journal(folder / JOURNAL, version, is_labelled) as part:
            for path in part.paths():
                entry, before = part.get(path), journal.get(path)
                if entry is not None and (before is None or before["stamp"] != entry["stamp"]):
                    journal.add(path, entry)
        shutil.rmtree(folder, ignore_errors=True)


def _out(config: LabelConfig, run: str) -> Path:
    """The tables' path without its extension."""
    name = "list" if config.videos == "-" else Path(config.videos).resolve().name or "root"
    if not (config.watch or os.path.isdir(config.videos) or config.videos == "-"):
        name = Path(name).stem
    if config.out:
        out = Path(config.out)
        if config.out.endswith("/") or out.is_dir():
            return out / name
        return out.with_suffix("") if config.out.endswith((".csv", ".parquet")) else out
    return Path(run) / "label" / name


def refuse_others(config: LabelConfig, kept: Path) -> None:
    """Make the journal's folder. Raise UserError if the tables contain other videos of the same name, unless the user
    gave `out`."""
    kept.mkdir(parents=True, exist_ok=True)
    if config.out:
        return
    now = "-" if config.videos == "-" else str(Path(config.videos).resolve())
    source = kept / "videos.txt"
    before = read_bytes(source).decode("utf-8", "surrogateescape") if source.exists() else now
    if before != now:
        raise UserError(
            f"{kept.parent / kept.name[1:]}.csv contains the labels of {before}: choose another file with out=…"
        )
    if not source.exists():
        with atomic_path(source) as temporary:  # parts may write and read it at the same time
            temporary.write_text(now, "utf-8", "surrogateescape")


def _once(job: Job) -> None:
    videos = job.config.videos
    if videos == "-":
        seen: set[str] = set()
        for batch in listed():
            files = []
            for path in batch:
                file = named(path)
                if isinstance(file, str):
                    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
                    if shown not in job.refused:
                        job.refused[shown] = file
                        job.say(shown)
                elif file.path not in seen:
                    seen.add(file.path)
                    job.shown[file.path] = path
                    files.append(file)
            for file in [f for f in files if job.is_current(f)]:
                job.say(file.path)
            for file in job.label(files):
                job.say(file.path)
        if not (job.shown or job.refused):
            raise UserError(f"standard input contained no paths: {job.out}.csv is unchanged")
        return
    if os.path.isdir(videos):
        files, job.storage = in_folder(videos, job.labeller.data)
        job.shown = {file.path: f"{videos.rstrip('/')}/{file.path}" for file in files}
        batches = job.missing(files)
        for _ in track(job.label_batches(batches), "labelling", sum(map(len, batches))):
            pass
        return
    file = named(videos)
    if isinstance(file, str):
        raise UserError(f"videos={videos} cannot be labelled: {file}")
    job.shown = {file.path: videos}
    for _ in job.label([file]):
        pass
    job.say(file.path)


def _watch(job: Job) -> None:
    """Label files as they arrive, until a signal, or until none has arrived for `watch_seconds`."""
    config, videos = job.config, job.config.videos.rstrip("/") or "/"
    job.storage = Folder(Path(videos))
    root = job.key("").rstrip("/") + "/"
    for path in job.journal.paths():  # files that were labelled and then removed stay in the tables
        if path.startswith(root):
            job.shown[path.removeprefix(root)] = f"{videos}/{path.removeprefix(root)}"
    warn(f"watching {videos}; interrupt (Ctrl-C) to end")
    stop, last_written, rows_written = _Stop(), time.monotonic(), 0
    try:
        for files in watched(
            videos, job.labeller.data, config.settle_seconds, config.watch_seconds, lambda: bool(stop)
        ):
            for file in job.label(files, stop):
                job.shown[file.path] = f"{videos}/{file.path}"
                job.say(file.path)
            if job.new > rows_written and time.monotonic() - last_written > WRITE_SECONDS:
                job.write()
                last_written, rows_written = time.monotonic(), job.new
    finally:
        stop.close()


def _report(job: Job, counts: Counter[str]) -> None:
    what = "window" if job.labeller.data.window_seconds else "video"
    new = f"{many(job.new, 'file')} {'was' if job.new == 1 else 'were'} new"
    job.console.print(f"{many(counts.pop('labelled', 0), what)} labelled; {new}")
    texts = {
        "none of these": "none of these: they fit no cluster",
        "from the frames alone": "from the frames alone: not checked whether they fit a cluster",
        "too short": f"too short: the model needs {job.labeller.data.min_seconds:g} s",
    }
    for why, count in counts.most_common():
        if count:
            job.console.print(f"  {count} {texts.get(why, why)}", markup=False)
    job.console.print(f"labels  {job.out}.parquet, .csv", markup=False)
