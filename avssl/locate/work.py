"""What the passes of `avssl locate` share: the run, its heat maps, its cluster head, and the names of its clusters."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from ..config import LocateConfig, TrainConfig
from ..config.run_names import word_for
from ..core.checkpoint_file import digest
from ..core.errors import UserError
from ..core.screen import warn
from ..evaluate.head_measures import chosen_head
from ..explore.names import DIGEST, Names, read_names
from ..explore.open_page import PLACE, open_words
from ..models.localise import Localiser
from ..runs.open import Source
from ..videos.index import read_index, splits, training_split
from .check_options import folder_of, is_own
from .heat_pass import HeatPass, Sounds
from .new_videos import NewVideos
from .prior import Prior
from .silent_objects import cluster_sounds
from .tables import COCO, PARQUET

CACHE = ".avssl-maps"
"""The folder of heat maps in progress, below the output folder; removed once everything is written. No user's own
folder has this name."""


class Work:
    """What all passes of the command share.

    Args:
        config, trained: the options of the command and of the run.
        source, localiser: the run, and the heat maps of its model.
        device: where to compute.
        prior: the object prior, if there is one.
        new: new videos, in place of those of the run's index.
    """

    def __init__(
        self, config: LocateConfig, trained: TrainConfig, source: Source, localiser: Localiser, device: torch.device,
        prior: Prior | None, new: NewVideos | None = None,
    ):  # fmt: skip
        self.config, self.trained, self.source, self.localiser = config, trained, source, localiser
        self.device, self.prior, self.model = device, prior, localiser.model.to(device)
        choice = chosen_head(source, device, config.workers) if self.model.clusters else None
        self.head = None if choice is None else choice.head or 0
        self.new, self.root, self.out = new, trained.data.root if new is None else new.root, folder_of(config)
        self.splits: list[str] = []
        if new is None:
            self.splits = [config.split] if config.split else splits(trained.data.index)

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """The name and the rows of each split."""
        if self.new is not None:
            yield from self.new.tables.items()
        for split in self.splits:
            yield split, read_index(self.trained.data.index, split)

    def maps_with(self, rows: pa.Table, given: np.ndarray) -> HeatPass:
        """The pass over rows with given audio, see `locate_pairs`."""
        return self.maps_of(rows, self.config.clips, constant=True, text="locating (pairs)", given=given)

    def maps_of_objects(self, rows: pa.Table, objects: np.ndarray) -> HeatPass:
        """The pass over the clip in the middle of rows with the audio of each object, float32 [N, K, C]."""
        return self.maps_of(rows, 1, constant=False, text="locating (each object)", objects=objects)

    def maps_of(
        self, rows: pa.Table, clips: int, constant: bool, text: str, given: np.ndarray | None = None,
        objects: np.ndarray | None = None, sounds: Sounds | None = None,
    ) -> HeatPass:  # fmt: skip
        """The pass over the rows of an index. Nothing is computed yet."""
        trained, config = self.trained, self.config
        return HeatPass(
            self.localiser, rows, self.root, trained.clip, self.device, trained.precision,
            self.out / CACHE, clips, self.head, trained.data.reading.silence_db, constant, given, self.prior,
            config.prior, trained.seed, config.workers, text, objects, sounds,
        )  # fmt: skip

    def sounds(self, tables: Mapping[str, pa.Table]) -> dict[str, Sounds]:
        """The sounds of the clusters for the training split, in which silent objects are located too.

        It is empty for a weak run, one without clusters, new videos, and if no cluster has enough videos for a sound.
        """
        if self.head is None or self.localiser.weak or self.new is not None:
            return {}
        split = training_split(self.trained.data, splits(self.trained.data.index))
        if split not in tables:
            return {}
        found = cluster_sounds(
            tables[split], self.model.clusters, self.trained.seed,
            lambda rows: self.maps_of(rows, 1, constant=True, text="listening to the clusters"),
        )  # fmt: skip
        return {} if found is None else {split: found}

    def names(self) -> Names:
        """The user's names of the run's clusters, if they are beside its labels."""
        path = Path(self.config.run) / "clusters" / "names.json"
        if self.head is None or not path.is_file():
            return Names()
        try:
            names = read_names(path)
            names.check(
                self.source.step, self.head, self.model.clusters, digest(self.model)[:DIGEST], self.config.run
            )  # fmt: skip
            return names
        except UserError as error:
            warn(f"{error}; the categories of {COCO} have numbers instead of names")
            return Names()

    def titles(self) -> dict[int, str]:
        """The title of each cluster; empty without clusters."""
        names = self.names()
        return {} if self.head is None else {k: names.title(k) for k in range(self.model.clusters)}

    @property
    def where(self) -> str:
        """What the located videos are of, in words."""
        if self.new is not None:
            return self.config.videos
        return f"the split {self.config.split}" if self.config.split else "the index"

    def next_command(self, shown: bool) -> str:
        """What to do next, in words."""
        folder = Path(self.config.run)
        word = word_for(folder)
        boxes = "" if is_own(self.config) else f" boxes={self.out / PARQUET}"
        detect = f"train a detector from the boxes: avssl detect {word}{boxes}"
        if shown:
            return " · ".join(
                [
                    open_words(folder, folder / PLACE),
                    *([detect] if self.head is not None and not self.config.split else []),
                ]
            )
        if self.new is not None:
            return f"to find the same objects in silent videos: avssl detect {word} videos=…"
        if self.head is not None and is_own(self.config) and not (folder / PLACE).is_file():
            return f"to see it on the page of clusters: avssl clusters {word}, then repeat this command"
        return detect
