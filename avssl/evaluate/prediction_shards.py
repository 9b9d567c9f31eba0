"""The labels of `predict`, cached in files of 256 videos: an interrupted pass is resumed, and jobs can share it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from ..clips.dataset import Batch, ClipDataset, Failure
from ..clips.stored_clips import StoredClips
from ..clips.transform import DeviceTransform
from ..config import ClipConfig
from ..core.checkpoint_file import digest
from ..core.device import autocast
from ..core.part import Part
from ..core.untrusted import open_arrays, parse_json
from ..models import MultiStream
from .centre_clips import BATCH
from .feature_shards import (
    Arrays,
    Chunks,
    chunks_of,
    damage_named,
    extract_shards,
    shard_path,
    shard_starts,
)
from .features import digest_of_videos
from .predictions import Collector, Predictions, Wanted, batch_labels, predict

VERSION = 1
"""A part of the key. Raise it when labels change."""


@dataclass
class LabellingPass:
    """A pass that labels the videos of an index, and caches their labels in files of a folder.

    The folder is named by a digest of the weights, the videos, the clips, the precision and what is wanted. Batches are
    the same 64 videos as in `predict`, whoever computes them, so that the labels are the same to the last digit. Of
    stored features nothing is cached, because the pass is quick.

    Args:
        model: encoders and heads.
        rows: the index of the videos.
        dataset: their clips, or their stored features.
        config: the clips.
        device, precision: where and in which number format to encode.
        cache: the folder of cached labels.
        wanted: what to compute beside the labels.
        workers: number of decoding processes.
        text: name of the progress bar.
    """

    model: MultiStream
    rows: pa.Table
    dataset: ClipDataset | StoredClips
    config: ClipConfig
    device: torch.device
    precision: str
    cache: Path
    wanted: Wanted = Wanted()
    workers: int = 0
    text: str = "labelling"

    def write(self, part: Part | None = None) -> list[Path]:
        """Write the missing files, or those of a part of them. Returns the paths of all files."""
        if isinstance(self.dataset, StoredClips):
            return []
        files = _Files(self, self.dataset)
        folder, videos = files.folder(), len(self.dataset)
        pin = self.device.type == "cuda"
        chunks = Chunks(self.dataset, BATCH, files.labels)
        extract_shards(
            folder, self.dataset, chunks.requests, chunks.arrays, self.workers, pin, text=self.text, part=part
        )  # fmt: skip
        return [shard_path(folder, start) for start in shard_starts(videos)]

    def predict(self, summed: int | None = None) -> Predictions:
        """The labels of all videos; with `summed`, also the features summed over the clusters of this head.

        Raises:
            UserError: a file is damaged.
        """
        wanted, clusters = self.wanted, self.model.clusters
        if isinstance(self.dataset, StoredClips):
            return predict(
                self.model, self.dataset, self.config, self.device, self.precision, self.workers, wanted.raw, summed,
                text=self.text, kept=wanted.kept,
            )  # fmt: skip
        collector = Collector(len(self.dataset), clusters, summed, wanted.kept)
        failures: list[Failure] = []
        for path in self.write():
            with damage_named(path), open_arrays(path) as arrays:
                failures += [Failure(str(name), str(why)) for name, why in parse_json(str(arrays["failures"]))]
                found = {name: arrays[name] for name in arrays.files if name not in ("failures", "failed")}
                if "rows" in found:
                    _check(found, int(path.stem), len(self.dataset), wanted, clusters)
                    collector.add(found)
        return collector.result(failures)


class _Files:
    """The files of a pass over videos: their folder, and what is in each."""

    def __init__(self, work: LabellingPass, dataset: ClipDataset):
        self.work, self.dataset = work, dataset
        self.model = work.model.eval().to(work.device)
        self.transform = DeviceTransform(work.config, work.device)

    def folder(self) -> Path:
        """The folder, whose name is a digest of all that the labels depend on."""
        work, model, kept = self.work, self.model, self.work.wanted.kept
        with autocast(work.device, work.precision):
            low = torch.is_autocast_enabled(work.device.type)
        weights = model.modality_weights
        depends_on = [
            "labels", VERSION, BATCH, digest(model), model.sharing,
            None if weights is None else {name: x.tolist() for name, x in weights.items()},
            digest_of_videos(work.rows), work.config.identity(), list(self.dataset.modalities), low, work.device.type,
            work.wanted.raw, work.wanted.unit,
            None if kept is None else hashlib.sha256(kept.astype(np.int64).tobytes()).hexdigest(),
        ]  # fmt: skip
        return work.cache / hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:24]

    def labels(self, batch: Batch, at: int) -> Arrays:
        """The arrays of a batch."""
        work, names = self.work, list(self.model.encoders)
        return batch_labels(self.model, batch, self.transform, work.device, work.precision, names, work.wanted)


def _check(found: Arrays, start: int, videos: int, wanted: Wanted, clusters: int) -> None:
    """Raise ValueError unless the arrays of a file have labels of its own videos."""
    rows, kept = found["rows"], found.get("kept", np.empty(0, np.int64))
    own = chunks_of(start, videos, 1)
    if any(x.dtype != np.int64 or ((x < own.start) | (x >= own.stop)).any() for x in (rows, kept)):
        raise ValueError("it has other videos than its name says")
    if not np.isin(kept, [] if wanted.kept is None else wanted.kept).all():
        raise ValueError("it has features of other videos")
    for name, x in found.items():
        if len(x) != len(kept if name.startswith("kept") else rows) or x.dtype.kind not in "fi":
            raise ValueError("its arrays differ in length, or do not contain numbers")
        if name.startswith("label_") and ((x < 0) | (x >= clusters)).any():
            raise ValueError("a label is none of the clusters")
