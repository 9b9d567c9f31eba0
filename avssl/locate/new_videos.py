"""The new videos of `avssl locate`: rows like those of an index."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..core.errors import UserError
from ..label.arriving import in_folder, named
from ..label.probed import probed_rows, reading_of
from ..runs.open import Source
from ..videos.index import SCHEMA
from ..videos.layout import ALL, File
from ..videos.storage import Folder, Shards


@dataclass
class NewVideos:
    """New videos that can be used.

    Args:
        root: the folder that their paths are relative to.
        rows: their rows, as in an index.
        refused: the other files, each with the reason.
    """

    root: str
    rows: pa.Table
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> Mapping[str, pa.Table]:
        """The rows by split; new videos have a single one."""
        return {ALL: self.rows}


def find_new(videos: str, source: Source, workers: int) -> NewVideos:
    """The new videos of a folder, or a single file.

    Args:
        videos: the folder or the file.
        source: the run, whose index says how videos are read.
        workers: processes that probe.

    Raises:
        UserError: there is none, or none can be used.
    """
    root, files, storage = videos, *_files(videos, source)
    if not os.path.isdir(videos):
        root = os.path.dirname(videos) or "."
    found = rows_of(files, storage, source, workers, root)
    if not len(found.rows):
        path, why = next(iter(found.refused.items()))
        raise UserError(f"videos={videos} has no video that can be used; the first is {path} ({why})")
    return found


def _files(videos: str, source: Source) -> tuple[Sequence[File], Folder | Shards]:
    if os.path.isdir(videos):
        return in_folder(videos, reading_of(source))
    file = named(videos)
    if isinstance(file, str):
        raise UserError(f"sounds cannot be located in videos={videos}: {file}")
    return [File(os.path.basename(videos), file.size, file.mtime_ns)], Folder(Path(os.path.dirname(videos)))


def rows_of(
    files: Sequence[File], storage: Folder | Shards, source: Source, workers: int, root: str
) -> NewVideos:  # fmt: skip
    """The rows of files whose paths are relative to `storage`, the folder `root`."""
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for row in probed_rows(files, storage, reading_of(source), workers):
        if "reason" in row:
            refused[row["path"]] = row["detail"] or row["reason"]
        else:
            rows.append({name: row[name] for name in SCHEMA.names})
    return NewVideos(root, pa.Table.from_pylist(rows, SCHEMA), refused)
