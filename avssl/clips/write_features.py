"""Write a feature store: first the parts of an extraction in progress, then the files of each split."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.atomic import atomic_path
from ..core.safe_paths import below
from ..core.untrusted import open_arrays, open_lock
from .feature_store import PARTS, ROWS


def part_folder(folder: Path, split: str) -> Path:
    """The folder of a split's parts."""
    return below(folder / PARTS, split)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """A context that one process at a time can enter; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_lock(folder / ".lock") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError):  # a system, or a file system, without locks
            pass
        yield


def write_split(
    folder: Path, name: str, rows: pa.Table, widths: dict[str, int], parts: list[Path], missing: dict[int, str]
) -> None:
    """Write the files of a split from its parts.

    Args:
        folder: the folder of the store.
        name: the name of the split.
        rows: the n rows of the index.
        widths: the width D of each modality's features.
        parts: .npz files in order, each with `rows`, `clips` and `reasons` of some rows, `times`, and
            `features_<modality>` of all their clips, row by row.
        missing: by row, why it is in no part.
    """
    clips, reasons = np.zeros(rows.num_rows, np.int64), np.full(rows.num_rows, "", object)
    reasons[list(missing)] = list(missing.values())
    times, sizes = [np.empty(0)], []
    for part in parts:
        with open_arrays(part) as arrays:
            clips[arrays["rows"]], reasons[arrays["rows"]] = arrays["clips"], arrays["reasons"]
            times.append(arrays["times"])
            sizes.append(len(arrays[f"features_{next(iter(widths))}"]))
    for modality, width in widths.items():
        with atomic_path(below(folder, f"{name}.{modality}.npy"), sweep=True) as path:
            _join(path, parts, f"features_{modality}", (sum(sizes), width))
    with atomic_path(below(folder, f"{name}.times.npy")) as path:
        np.save(path, np.concatenate(times))
    table = rows.select(ROWS.names[:5]).append_column("clips", pa.array(clips))
    table = table.append_column("reason", pa.array([reason or None for reason in reasons], pa.string()))
    with atomic_path(below(folder, f"{name}.parquet")) as path:
        pq.write_table(table.cast(ROWS), path)


def _join(path: Path, parts: list[Path], name: str, shape: tuple[int, int]) -> None:
    """Write the arrays `name` of all parts as one .npy file, part by part."""
    if not shape[0]:
        np.save(path, np.empty(shape, np.float32))
        return
    joined, start = np.lib.format.open_memmap(path, "w+", np.float32, shape), 0
    for part in parts:
        with open_arrays(part) as arrays:
            x = arrays[name]
        joined[start : start + len(x)] = x
        start += len(x)
    joined.flush()
