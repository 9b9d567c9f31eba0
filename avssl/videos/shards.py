"""`avssl shard`: videos packed into a few large tar files, each read in place; WebDataset's layout."""

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
from ..core.atomic import atomic_path
from ..core.errors import UserError
from ..core.journal import Journal
from ..core.out_folder import check_disjoint, claim_folder, folder_lock, write_errors
from ..core.plurals import many
from ..core.progress import track
from ..core.screen import Console
from .journal_entries import is_packed
from .layout import Video, scan
from .storage import SHARD_INDEX, SHARD_SCHEMA, is_sharded

JOURNAL, NOTE = "shards.jsonl", "shards.json"
VERSION = 1  # of how shards are written


@dataclass
class ShardReport:
    """What `avssl shard` did: shards written now and there before, the videos in them and their bytes."""

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
        """Of all that the file's content follows from."""
        rows = [(key, v.path, v.split, v.class_name, v.size, v.mtime_ns) for key, v in self.members]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def run(config: ShardConfig) -> ShardReport:
    """Pack as configured, and print what was packed."""
    report = shard(config)
    kept = f", {report.kept} already there" if report.kept else ""
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{many(report.written, 'shard')} written{kept}: {many(report.videos, 'video')}, {report.size / 1e6:.1f} MB"
    )
    console.print(f"next: avssl index data.root={report.folder}", markup=False)
    return report


def shard(config: ShardConfig) -> ShardReport:
    """Pack `data.root`'s videos into `<out>/<split>-<number>.tar`, and where each begins into `<out>/shards.parquet`.

    Each video is a member <key>.<suffix>, followed by <key>.json with its path, split and class. The videos of a
    split are in a seeded random order, so that whoever streams them meets the classes mixed. Shards that hold what
    they would hold again are kept: a run that was stopped goes on.

    Raises:
        UserError: the folders do not fit, a disk is full, or a file changes or goes while it is packed.
    """
    root, out = Path(config.data.root), Path(config.out)
    if is_sharded(root):
        raise UserError(f"data.root={root} holds shards already")
    videos = scan(config.data)
    check_disjoint(root, out)
    shards = plan(videos, config.shard_mb * 1e6, config.seed)
    with write_errors(out):
        claim_folder(out, NOTE, "shards", {"root": str(root.resolve())})
        with folder_lock(out), Journal(out / JOURNAL, VERSION, is_packed) as journal:
            for half in out.glob(".*.tar"):  # left by a run that was killed
                half.unlink()
            missing = [shard for shard in shards if not _there(journal.get(shard.name), out, shard)]
            stale = {path.name for path in out.glob("*.tar")} - {shard.name for shard in shards}
            if missing or stale:
                (out / SHARD_INDEX).unlink(missing_ok=True)  # it is not that of the shards that follow
            for shard in track(missing, "packing", len(missing)):
                offsets = _pack(shard, root, out)
                size = (out / shard.name).stat().st_size
                journal.add(shard.name, {"signature": shard.signature, "size": size, "offsets": offsets})
            for name in stale:
                (out / name).unlink()
            _write_index(out, shards, journal)
    kept = len(shards) - len(missing)
    return ShardReport(out, len(missing), kept, len(videos), sum(v.size for v in videos))


def plan(videos: list[Video], size: float, seed: int) -> list[Shard]:
    """Which video goes into which shard: a function of the videos, the shards' least `size` (bytes) and the seed."""
    keys = _keys(videos)
    shards = []
    for split, group in groupby(sorted(videos, key=lambda v: (v.split, v.path)), key=lambda v: v.split):
        there = list(group)
        order = np.random.default_rng(seed).permutation(len(there))
        parts: list[list[tuple[str, Video]]] = [[]]
        filled = 0
        for video in (there[i] for i in order):
            if filled >= size:
                parts.append([])
                filled = 0
            parts[-1].append((keys[video.path], video))
            filled += video.size
        shards += [Shard(f"{split}-{number:06d}.tar", part) for number, part in enumerate(parts)]
    return shards


def _keys(videos: list[Video]) -> dict[str, str]:
    """A name for each path that no other has: WebDataset takes what follows the first dot for the suffix."""
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for video in videos:
        path = PurePosixPath(video.path)
        key = wish = str(path.with_name(path.stem.replace(".", "_")))
        number = 1
        while key in taken:
            number += 1
            key = f"{wish}-{number}"
        keys[video.path] = key
        taken.add(key)
    return keys


def _there(entry: dict[str, Any] | None, out: Path, shard: Shard) -> bool:
    path = out / shard.name
    same = entry is not None and entry["signature"] == shard.signature and path.is_file()
    return same and path.stat().st_size == entry["size"]  # type: ignore[index]


def _pack(shard: Shard, root: Path, out: Path) -> list[int]:
    """Write a shard; where the bytes of each of its videos begin."""
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
        raise UserError(f"cannot read {path}: {error.strerror}; run again without it") from None
    raise _changed(path)


def _changed(path: Path) -> UserError:
    return UserError(f"{path} has changed while it was packed: run again when nothing writes to it any more")


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
