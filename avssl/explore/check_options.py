"""Checks of the options of `avssl clusters`. This file does not import torch, so that errors come quickly."""

from pathlib import Path

from ..config import ClustersConfig
from ..config.run_folder import read_config
from ..core.errors import UserError
from ..videos.index import splits
from ..videos.splits import find_split
from .names import read_names


def check_clusters(config: ClustersConfig) -> None:
    """Raise UserError for a split that the run's index lacks, or for a names file that cannot be used."""
    trained = read_config(Path(config.run))
    names = splits(trained.data.index, missing_ok=True)
    if config.split and names and find_split(names, config.split) is None:
        raise UserError(f"the index {trained.data.index} has no split '{config.split}': it has {', '.join(names)}")
    if config.names:
        read_names(config.names)
