"""A sample of the videos of an index, in constant memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from ..clips.dataset import ClipDataset
from ..config import PlanConfig
from ..config.data import NO_INDEX
from ..core.errors import UserError
from ..core.tables import check_paths, checked_rows, open_table, parquet_errors
from ..models.build import modalities_of
from ..objectives.build import make_plan
from ..videos.index import LIMITS, NEEDED, SCHEMA, splits, training_split
from ..videos.index_options import read_note, root_of, tell_if_older

MAX_SAMPLED = 256
"""Most rows of the index to decode clips of."""


def count_videos(config: PlanConfig) -> tuple[str, int]:
    """The name of the training split of the index and the number of its rows; empty and 0 without an index."""
    names = [] if config.data.index == NO_INDEX else splits(config.data.index, missing_ok=True)
    if not names:
        return "", 0
    split = training_split(config.data, names)
    path = Path(config.data.index) / f"{split}.parquet"
    try:
        with open_table(path, SCHEMA) as file:
            return split, file.metadata.num_rows
    except (OSError, UserError) as error:
        raise UserError(f"{error}: run `avssl index` again") from None


def count_files(config: PlanConfig) -> int:
    """The number of videos in the training split, which may have several rows each; 0 if the index does not record
    it."""
    split, _ = count_videos(config)
    videos = read_note(config.data.index).get("videos")
    count = videos.get(split) if isinstance(videos, dict) else None
    return count if isinstance(count, int) else 0


def sample_rows(path: Path, max_rows: int) -> pa.Table:
    """At most `max_rows` evenly spaced rows of up to four evenly spaced row groups, so that the file is never read as
    a whole."""
    with open_table(path, SCHEMA) as file, parquet_errors(path):
        if not file.num_row_groups:
            raise UserError(f"{path} has no rows: run `avssl index` again")
        groups = sorted({int(g) for g in np.linspace(0, file.num_row_groups - 1, 4)})
        table = pa.concat_tables([file.read_row_group(g, SCHEMA.names) for g in groups])
    rows = checked_rows(table, SCHEMA, path, NEEDED, LIMITS)
    check_paths(rows["path"], path)
    if not len(rows):
        raise UserError(f"{path} has no rows: run `avssl index` again")
    return rows.take(sorted({int(i) for i in np.linspace(0, len(rows) - 1, min(max_rows, len(rows)))}))


def some_videos(config: PlanConfig, split: str) -> tuple[ClipDataset, float]:
    """A data set of some training videos, and the mean size of their files in bytes."""
    folder = Path(config.data.index)
    tell_if_older(config.data.index)
    root = config.data.root
    if not root:
        root = str(root_of(folder) or "")
        if not root:
            raise UserError(f"{folder} does not record the folder of its videos: give data.root=my_videos")
    if not Path(root).is_dir():
        raise UserError(f"the folder {root} of the videos in {folder} does not exist: give data.root=my_videos")
    rows = sample_rows(folder / f"{split}.parquet", MAX_SAMPLED)
    sizes = {path: size for path, size in zip(rows["path"].to_pylist(), rows["size"].to_pylist(), strict=True)}
    dataset = ClipDataset(rows, root, config.clip, config.seed, make_plan(config), modalities_of(config))
    return dataset, float(np.mean(list(sizes.values())))
