"""Checks of the options of `avssl label`. This file does not import torch, so that errors come quickly."""

import os

from ..config import LabelConfig
from ..config.index_root import made_of
from ..core.errors import UserError
from ..videos.storage import is_sharded


def check_label(config: LabelConfig) -> None:
    """Raise UserError for videos that do not exist, or that cannot be watched."""
    if not (config.videos == "-" or os.path.exists(config.videos)):
        made = made_of(config.videos)
        fix = f"{made}, so give that folder" if made else "give a folder, a file, or - for a list of paths"
        raise UserError(f"videos={config.videos} does not exist: {fix}")
    if config.watch and (not os.path.isdir(config.videos) or is_sharded(config.videos)):
        raise UserError(f"watch=true needs a folder of files, but videos={config.videos} is not one")
