"""`avssl shard`: pack videos into a few large tar files, as WebDataset does; avssl reads them in place."""

import glob
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import ShardConfig
from ..core.atomic import HEX, atomic_path
from ..core.errors import UserError
from ..core.journal import Journal
from ..core.out_folder import check_disjoint, claim_folder, folder_lock, write_errors
from ..core.part import Part
from ..core.part_journal import PartJournals, part_journal
from ..core.plurals import many
from ..core.progress import track
from ..core.screen import Console
from .journal_entries import is_packed
from .layout import Video, scan
from .storage import SHARD_INDEX, SHARD_SCHEMA, is_sharded

JOURNAL, NOTE = "shards.jsonl", "shards.json"
VERSION = 1  # raise it when the format of shards changes: all are then written again


@dataclass
class ShardReport:
    """The result of `avssl shard`: shards written and kept from before, their videos and their bytes."""

    folder: Path
    written: int
    kept: int
    videos: int
    size: int


@dataclass(frozen=True)
class Shard:
    """A tar file to write: members as (key, video), in order."""

    name: str
    members: list[tuple[str, Video]]

    @property
    def signature(self) -> str:
        """A digest of everything that determines the file's contents."""
        rows = [(key, v.path, v.split, v.class_name, v.size, v.mtime_ns) for key, v in self.members]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def run(config: ShardConfig) -> ShardReport:
    """Pack the videos, and print the result."""
    report = shard(config)
    kept = f", {report.kept} kept from before" if report.kept else ""
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{many(report.written, 'shard')} written{kept}: {many(report.videos, 'video')}, {report.size / 1e6:.1f} MB"
    )
    console.note(f"next: avssl index {report.folder}")
    return report


def shard(config: ShardConfig) -> ShardReport:
    """Pack the videos of `data.root` into `<out>/<split>-<number>.tar`, and their offsets into `<out>/shards.parquet`.

    Each video is a member <key>.<suffix>, followed by <key>.json with its path, split and class. The videos of a
    split are in a seeded random order, so that programs that stream them get a mix of classes. Shards whose contents
    would not change are kept, so repeating an interrupted command resumes it.

    Raises:
        UserError: one folder contains the other, the disk is full, or a file changes or disappears while it is packed.
    """
    out = Path(config.out)
    videos, shards = _planned(config)
    with (
        write_errors(out),
        folder_lock(out),
        Journal(out / JOURNAL, VERSION, is_packed) as journal,
        PartJournals(out / JOURNAL, VERSION, is_packed) as parts,
    ):
        for unfinished in out.glob(".*.tar"):  # of a process that was killed
            unfinished.unlink()
        by_parts = 0
        missing = []
        for shard in shards:
            if _is_current(journal.get(shard.name), out, shard):
                continue
            packed = (entry for entry in parts.entries(shard.name) if _is_current(entry, out, shard))
            if (entry := next(packed, None)) is None:
                missing.append(shard)
            else:
                journal.add(shard.name, entry)
                by_parts += 1
        stale = {path.name for path in out.glob("*.tar")} - {shard.name for shard in shards}
        if missing or stale:
            (out / SHARD_INDEX).unlink(missing_ok=True)  # it does not fit the new shards
        _pack_all(config, missing, journal)
        for name in stale:
            (out / name).unlink()
        _write_index(out, shards, journal)
        parts.remove()
    written = len(missing) + by_parts
    return ShardReport(out, written, len(shards) - written, len(videos), sum(v.size for v in videos))


def run_part(config: ShardConfig, part: Part) -> None:
    """Pack the shards of a part, with a journal of its own, which `shard` takes over. Repeat it to resume.

    Raises:
        UserError: as `shard`.
    """
    out = Path(config.out)
    _, shards = _planned(config)
    with write_errors(out), part_journal(out / JOURNAL, part, VERSION, is_packed) as (journal, others):
        missing = []
        for shard in shards[part.number :: part.of]:
            for unfinished in out.glob(f".{glob.escape(Path(shard.name).stem)}.{HEX}.tar"):
                unfinished.unlink()
            before = (journal.get(shard.name), *others.entries(shard.name))
            if not any(_is_current(entry, out, shard) for entry in before):
                missing.append(shard)
        if missing:
            (out / SHARD_INDEX).unlink(missing_ok=True)  # it does not fit the new shards
        _pack_all(config, missing, journal)


def _planned(config: ShardConfig) -> tuple[list[Video], list[Shard]]:
    """The videos and their shards, once the options are checked and the folder is claimed."""
    root, out = Path(config.data.root), Path(config.out)
    if is_sharded(root):
        raise UserError(f"data.root={root} already contains shards: give the folder of the videos")
    videos = scan(config.data)
    check_disjoint(root, out)
    shards = plan(videos, config.shard_mb * 1e6, config.seed)
    with write_errors(out):
        claim_folder(out, NOTE, "shards", {"root": str(root.resolve())})
    return videos, shards


def _pack_all(config: ShardConfig, shards: list[Shard], journal: Journal) -> None:
    out = Path(config.out)
    for shard in track(shards, "packing", len(shards)):
        offsets = _pack(shard, Path(config.data.root), out)
        size = (out / shard.name).stat().st_size
        journal.add(shard.name, {"signature": shard.signature, "size": size, "offsets": offsets})


def plan(videos: list[Video], size: float, seed: int) -> list[Shard]:
    """The shards of the videos: a function of the videos, the size at which a shard is full (bytes) and the seed."""
    keys = _keys(videos)
    shards = []
    for split, group in groupby(sorted(videos, key=lambda v: (v.split, v.path)), key=lambda v: v.split):
        in_split = list(group)
        order = np.random.default_rng(seed).permutation(len(in_split))
        parts: list[list[tuple[str, Video]]] = [[]]
        filled = 0
        for video in (in_split[i] for i in order):
            if filled >= size:
                parts.append([])
                filled = 0
            parts[-1].append((keys[video.path], video))
            filled += video.size
        shards += [Shard(f"{split}-{number:06d}.tar", part) for number, part in enumerate(parts)]
    return shards


def _keys(videos: list[Video]) -> dict[str, str]:
    """A unique key without dots for each path, because in WebDataset the suffix begins at the first dot."""
    keys: dict[str, str] = {}
    used: set[str] = set()
    for video in videos:
        path = PurePosixPath(video.path)
        key = plain_key = str(path.with_name(path.stem.replace(".", "_")))
        number = 1
        while key in used:
            number += 1
            key = f"{plain_key}-{number}"
        keys[video.path] = key
        used.add(key)
    return keys


def _is_current(entry: dict[str, Any] | None, out: Path, shard: Shard) -> bool:
    path = out / shard.name
    same = entry is not None and entry["signature"] == shard.signature and path.is_file()
    return same and path.stat().st_size == entry["size"]  # type: ignore[index]


def _pack(shard: Shard, root: Path, out: Path) -> list[int]:
    """Write a shard, and return the offsets of its videos, in bytes."""
    offsets = []
    with atomic_path(out / shard.name) as part, tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, video in shard.members:
            about = {"path": video.path, "split": video.split, "class": video.class_name}
            text = json.dumps(about).encode()
            info = _info(key + PurePosixPath(video.path).suffix.lower(), video.size, video.mtime_ns)
            offsets.append(tar.offset + len(info.tobuf(tar.format, tar.encoding, tar.errors)))
            with _source(root / video.path, video) as file:
                try:
                    tar.addfile(info, file)
                except OSError as error:
                    if error.errno is not None:
                        raise
                    raise _changed(root / video.path) from None
            tar.addfile(_info(key + ".json", len(text), video.mtime_ns), io.BytesIO(text))
    return offsets


def _source(path: Path, video: Video) -> Any:
    try:
        if (path.stat().st_size, path.stat().st_mtime_ns) == (video.size, video.mtime_ns):
            return path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): remove it, and repeat the command") from None
    raise _changed(path)


def _changed(path: Path) -> UserError:
    return UserError(f"{path} changed while it was packed: repeat the command once nothing writes to it")


def _info(name: str, size: int, mtime_ns: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, mtime_ns // 10**9, 0o644
    return info


def _rows(shards: Iterable[Shard], journal: Journal) -> Iterator[dict[str, Any]]:
    for shard in shards:
        entry = journal.get(shard.name)
        assert entry is not None
        for (_, video), offset in zip(shard.members, entry["offsets"], strict=True):
            place = {"shard": shard.name, "offset": offset, "size": video.size, "mtime_ns": video.mtime_ns}
            yield {"path": video.path, "split": video.split, "class": video.class_name, **place}


def _write_index(out: Path, shards: list[Shard], journal: Journal) -> None:
    rows = sorted(_rows(shards, journal), key=lambda row: row["path"])
    with atomic_path(out / SHARD_INDEX) as part:
        pq.write_table(pa.Table.from_pylist(rows, SHARD_SCHEMA), part)
