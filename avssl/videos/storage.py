"""The storage of videos: files in a folder, or members of tar shards."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ..core.errors import UserError
from ..core.safe_paths import below, strays
from ..core.tables import check_paths, read_rows
from .source import Member, Stamp, check_unchanged

SHARD_INDEX = "shards.parquet"
SHARD_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("split", pa.string()),
        ("class", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("shard", pa.dictionary(pa.int32(), pa.string())),
        ("offset", pa.int64()),
    ]
)
LIMITS = dict.fromkeys(("size", "offset"), (0, 2**62)) | {"mtime_ns": (-(2**62), 2**62)}


class Folder:
    """Videos as files below `root`."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def locate(self, path: str) -> Path:
        """The video at `path` below the root; it need not exist. Raises UserError for a path outside the root."""
        return below(self.root, path)

    def check(self, path: str, indexed: Stamp) -> None:
        """Raise ClipError if the video at `path` has changed since it was indexed."""
        check_unchanged(self.root / path, indexed)


class Shards:
    """Videos as members of the tar files in `root`, found through its `shards.parquet`.

    Raises:
        UserError: the index cannot be read.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        table = read_shard_index(root)
        self._rows = {path: row for row, path in enumerate(table["path"].to_pylist())}
        shards = table["shard"].combine_chunks()
        self._names: list[str] = shards.dictionary.to_pylist()
        self._shard = shards.indices.to_numpy()
        self._offset, self._size = table["offset"].to_numpy(), table["size"].to_numpy()
        self._mtime_ns = table["mtime_ns"].to_numpy()

    def locate(self, path: str) -> Path | Member:
        """The video that was packed from `path`; for an unknown path, a file that does not exist."""
        row = self._rows.get(path)
        if row is None:
            return below(self.root, path)
        shard = below(self.root, self._names[self._shard[row]])
        return Member(str(shard), int(self._offset[row]), int(self._size[row]))

    def check(self, path: str, indexed: Stamp) -> None:
        """Raise ClipError if the video that was packed from `path` has changed since it was indexed."""
        row = self._rows.get(path)
        if row is not None:
            packed = Stamp(int(self._size[row]), int(self._mtime_ns[row]))
            check_unchanged(self.locate(path), indexed, packed)

    def stamps(self) -> Iterator[tuple[str, int, int]]:
        """Path, size (bytes) and modification time (ns) of every packed file, at the time of packing."""
        for path, row in self._rows.items():
            yield path, int(self._size[row]), int(self._mtime_ns[row])


def is_sharded(root: str | Path) -> bool:
    """Whether the folder contains shards."""
    return os.path.isfile(Path(root) / SHARD_INDEX)  # Path.is_file would raise if permission is denied


def open_storage(root: str | Path) -> Folder | Shards:
    """The storage of the videos in `root`: its shards, if it has any. Raises UserError for a damaged index."""
    return Shards(root) if is_sharded(root) else Folder(root)


def read_shard_index(root: str | Path) -> pa.Table:
    """The members of the shards (`SHARD_SCHEMA`), sorted by path. Raises UserError if it is missing or damaged."""
    path = Path(root) / SHARD_INDEX
    try:
        table = read_rows(path, SHARD_SCHEMA, ("path", "split", "shard"), LIMITS)
        check_paths(table["path"], path)
        for name in table["shard"].unify_dictionaries().combine_chunks().dictionary.to_pylist():
            if strays(name) or "/" in name:
                raise UserError(f"{path}: the shard {name!r} is not a file beside it")
        return table
    except FileNotFoundError:
        raise UserError(
            f"{root} has no {SHARD_INDEX}: `avssl shard out={root}` writes it once everything is packed"
        ) from None
    except UserError as error:
        raise UserError(f"{error}: run `avssl shard` again") from None
