"""What cannot go together in the options of `avssl label`. No import of torch, so that refusals are quick."""

import os

from ..config import LabelConfig
from ..core.errors import UserError
from ..videos.storage import is_sharded


def check_label(config: LabelConfig) -> None:
    """UserError for videos that are not there, or that cannot be watched."""
    if not (config.videos == "-" or os.path.exists(config.videos)):
        raise UserError(f"videos={config.videos} does not exist: give a folder, a file, or - for a list of paths")
    if config.watch and (not os.path.isdir(config.videos) or is_sharded(config.videos)):
        raise UserError(f"watch=true needs a folder of files, and videos={config.videos} is none")
