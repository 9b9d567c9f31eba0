"""Locate the sounds of video files in this process, for Python."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch

from ..config.run_folder import read_config
from ..core.errors import UserError
from ..evaluate.head_measures import chosen_head
from ..models.localise import Localiser
from ..runs.open import Source
from ..videos.layout import ALL, File
from ..videos.storage import Folder, Shards
from .heat_pass import HeatPass
from .located import Located, locate_split
from .new_videos import rows_of


class FileLocator:
    """Locates the sounds of files with one model, as `avssl locate` does those of new videos.

    Args:
        source: the model.
        device: where to compute.

    Raises:
        UserError: the model cannot locate sounds.
    """

    def __init__(self, source: Source, device: torch.device):
        assert source.model is not None
        self.source, self.device, self.localiser = source, device, Localiser(source.model)
        self.head = (chosen_head(source, device).head or 0) if source.model.clusters else None
        self.seed = 0 if source.data is None else read_config(Path(source.name)).seed

    def locate(
        self, files: Sequence[File], storage: Folder | Shards, cache: Path, clips: int, beta: float
    ) -> Located:  # fmt: skip
        """The boxes of the files, whose paths are relative to `storage`.

        Args:
            files, storage: the files.
            cache: the folder of heat maps in progress.
            clips, beta: the options of the command.

        Raises:
            UserError: none can be used, or none has audio.
        """
        found = rows_of(files, storage, self.source, 0, str(storage.root))
        rows = found.rows.filter(pc.greater(found.rows["audio_rate"], 0))
        if not len(rows):
            first = next(iter(found.refused.items()), None)
            why = "" if first is None else f"; the first that cannot be used is {first[0]} ({first[1]})"
            raise UserError(f"no sound can be located in any of the {len(files)} files: none has audio{why}")
        silence_db = -60.0 if self.source.data is None else self.source.data.reading.silence_db
        maps = HeatPass(
            self.localiser, rows, found.root, self.source.clip, self.device, self.source.precision, cache, clips,
            self.head, silence_db, seed=self.seed,
        )  # fmt: skip
        return locate_split(maps, ALL, beta, 0.0, np.empty(0, np.int64))
