"""Every video's labels and confidences, as `assignments.parquet` and `assignments.csv`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..core.atomic import atomic_path
from ..core.csv_cells import quoted_table
from ..core.errors import UserError
from ..core.tables import check_paths, open_table, read_rows
from ..core.untrusted import field, is_count, parse_json

PARQUET, CSV = "assignments.parquet", "assignments.csv"
VIDEO = pa.schema(
    [("path", pa.string()), ("split", pa.string()), ("class", pa.string()), ("window_start", pa.float64())]
)
"""The columns that do not depend on the number of heads."""

MAX_NUMBER = 10**9
"""Largest number of clusters, heads and steps."""


@dataclass
class Assignments:
    """The labels of N videos (or windows of videos) by H heads.

    A video that could not be decoded has label -1 and confidence NaN in all columns. Labels are argmax_k of p_v * p_a
    for the joint evidence, of p_v and of p_a for one modality (SeLaVi, arXiv 2006.13662, section 3). A confidence is
    the probability of the label, normalised over the K clusters.
    """

    path: list[str]  # [N]
    split: list[str | None]  # [N]
    classes: list[str | None]  # [N], None if unknown
    window_start: np.ndarray  # float64 [N], seconds into the file
    label: np.ndarray  # int32 [N, H], joint
    label_video: np.ndarray  # int32 [N, H]
    label_audio: np.ndarray  # int32 [N, H]
    confidence_joint: np.ndarray  # float32 [N, H]
    confidence_video: np.ndarray  # float32 [N, H]
    confidence_audio: np.ndarray  # float32 [N, H]
    clusters: int  # K
    run: str = ""
    step: int | None = None  # of the checkpoint
    chosen_head: int | None = None  # without classes
    model: str = ""  # the digest of its weights

    def __post_init__(self) -> None:
        shape = (len(self.path), np.shape(self.label)[1])
        for name in _BY_HEAD:
            array = np.asarray(getattr(self, name), dtype=np.float32 if name.startswith("confidence") else np.int32)
            if array.shape != shape:
                raise ValueError(f"{name} is {array.shape}, not {shape}")
            setattr(self, name, array)
        self.window_start = np.asarray(self.window_start, dtype=np.float64)
        if {len(self.split), len(self.classes), len(self.window_start)} != {len(self.path)}:
            raise ValueError("split, classes and window_start must have one entry per path")

    @property
    def heads(self) -> int:
        return self.label.shape[1]

    @property
    def undecodable(self) -> np.ndarray:
        """The videos without a label, bool [N]."""
        return np.any(self.label < 0, axis=1)

    def class_ids(self) -> tuple[np.ndarray, list[str]]:
        """Classes as int64 [N], -1 if unknown, and the sorted list of names that they index."""
        names = sorted({c for c in self.classes if c is not None})
        ids = {name: i for i, name in enumerate(names)}
        return np.array([-1 if c is None else ids[c] for c in self.classes], dtype=np.int64), names

    def to_table(self) -> pa.Table:
        """The assignments as a table.

        Columns are path, split, class, window_start, then for each head h: label_h, label_video_h, label_audio_h,
        confidence_joint_h, confidence_video_h, confidence_audio_h; confidences of undecodable videos are null. The
        schema's metadata has run, step, chosen head and K, as JSON under "avssl".
        """
        columns = {
            "path": pa.array(self.path, pa.string()),
            "split": pa.array(self.split, pa.string()),
            "class": pa.array(self.classes, pa.string()),
            "window_start": pa.array(self.window_start, pa.float64()),
        }
        for h in range(self.heads):
            for name in _BY_HEAD:
                # from_pandas turns NaN into null
                columns[f"{name}_{h}"] = pa.array(np.ascontiguousarray(getattr(self, name)[:, h]), from_pandas=True)
        about = {"clusters": self.clusters, "run": self.run, "step": self.step, "chosen_head": self.chosen_head}
        about["model"] = self.model
        return pa.table(columns).replace_schema_metadata({"avssl": json.dumps(about)})


_BY_HEAD = ("label", "label_video", "label_audio", "confidence_joint", "confidence_video", "confidence_audio")


def write_assignments(folder: str | Path, assignments: Assignments) -> tuple[Path, Path]:
    """Write `assignments.parquet` and `assignments.csv` into `folder`, and return their paths.

    The CSV follows RFC 4180 (quotes are doubled; fields with commas or line breaks are quoted), in UTF-8, and has no
    metadata. An empty field without quotes is a missing value.

    Raises:
        UserError: the folder cannot be written.
    """
    table = assignments.to_table()
    parquet, csv = Path(folder) / PARQUET, Path(folder) / CSV
    with atomic_path(parquet) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
    with atomic_path(csv) as temporary:
        pyarrow.csv.write_csv(quoted_table(table), temporary)
    return parquet, csv


def read_assignments(path: str | Path) -> Assignments:
    """Read untrusted assignments: the Parquet file, or its folder.

    Raises:
        UserError: the file is missing, is not an assignments file, or contains a path that leaves its folder.
    """
    path = Path(path)
    if path.is_dir():
        path = path / PARQUET
    try:
        with open_table(path, VIDEO) as file:
            columns, about = file.schema_arrow.names, _about(path, file.schema_arrow.metadata or {})
        heads = sum(name.startswith("label_video_") for name in columns)
        if not heads or not (about["chosen_head"] or 0) < heads:
            raise UserError(f"{path} has no labels of head {about['chosen_head'] or 0}")
        kinds = {name: pa.float32() if name.startswith("confidence") else pa.int32() for name in _BY_HEAD}
        schema = pa.schema([*VIDEO, *((f"{name}_{h}", kind) for h in range(heads) for name, kind in kinds.items())])
        labels = [name for name in schema.names if name.startswith("label")]
        limits = dict.fromkeys(labels, (-1, about["clusters"] - 1)) | {"window_start": (0, 1e9)}
        table = read_rows(path, schema, ("path",), limits)
        check_paths(table["path"], path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `avssl clusters`, which writes it") from None
    except (OSError, UserError) as error:
        raise UserError(f"{error}: this is not an assignments file of `avssl clusters`") from None
    by_head: dict[str, Any] = {
        name: np.stack([table[f"{name}_{h}"].to_numpy() for h in range(heads)], 1) for name in _BY_HEAD
    }
    return Assignments(
        path=table["path"].to_pylist(),
        split=table["split"].to_pylist(),
        classes=table["class"].to_pylist(),
        window_start=table["window_start"].to_numpy(),
        **by_head,
        **about,
    )


def _about(path: Path, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Run, step, chosen head and K, from the schema's metadata."""
    if b"avssl" not in metadata:
        raise UserError(f"{path} has no avssl metadata")
    try:
        about = parse_json(metadata[b"avssl"])
    except ValueError as error:
        raise UserError(f"{path}: its metadata is not JSON ({error})") from None

    def is_count_or_none(value: Any) -> bool:
        return value is None or (is_count(value) and value < MAX_NUMBER)

    return {
        "clusters": field(about, "clusters", lambda k: is_count(k) and 0 < k < MAX_NUMBER, path),
        "run": field(about, "run", str, path),
        "step": field(about, "step", is_count_or_none, path),
        "chosen_head": field(about, "chosen_head", is_count_or_none, path),
        "model": field(about, "model", str, path) if "model" in about else "",
    }
