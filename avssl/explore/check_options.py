"""Checks of the options of `avssl clusters`. This file does not import torch, so that errors come quickly."""

from pathlib import Path

from ..config import ClustersConfig
from ..config.run_folder import read_config
from ..videos.index import existing_split, splits
from .names import read_names


def check_clusters(config: ClustersConfig) -> None:
    """Raise UserError for a split that the run's index lacks, or for a names file that cannot be used."""
    trained = read_config(Path(config.run))
    if config.split and splits(trained.data.index, missing_ok=True):
        existing_split(trained.data.index, config.split)
    if config.names:
        read_names(config.names)
