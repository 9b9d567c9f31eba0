"""Frozen features of every video of a split, extracted once and cached under a key of all that they depend on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional as F

from ..clips.dataset import MODALITIES as CLIP_MODALITIES
from ..clips.dataset import Batch, ClipDataset, Failure, Pass
from ..clips.loader import pass_requests
from ..clips.stored_clips import StoredClips
from ..clips.transform import DeviceTransform
from ..config import ClipConfig
from ..core.checkpoint_file import digest
from ..core.device import autocast
from ..core.errors import UserError
from ..core.part import Part
from ..core.plurals import counted_paths
from ..core.untrusted import open_arrays, parse_json
from ..metrics.neighbours import unit
from ..models import MultiStream
from ..models.encoder import has_map
from .feature_shards import (
    CHUNK,
    SHARD,
    Chunks,
    damage_named,
    extract_shards,
    shard_path,
    shard_starts,
)

MODALITIES = tuple(CLIP_MODALITIES)

VERSION = 1
"""A part of the key. Raise it when features change."""


@dataclass(frozen=True)
class Sampling:
    """Number of clips and crops per video, and whether to extract maps too (see `Features`)."""

    clips: int = 1
    crops: int = 1
    maps: bool = False


@dataclass
class Features:
    """Features of the n videos that could be decoded.

    `rows` int64 [n] are their positions in the data set. By modality ("video", "audio"), `encoded` float32 [n, D] is
    the encoder's output, and `embedded` float32 [n, P] its embedding by contrast or joint-embedding prediction, empty
    for a model without either; both are means over clips. `maps` float32 [n, M] are for retrieval: the video encoder's
    feature map, max-pooled by 2 in time and space, flattened, scaled to unit length, mean over clips; None unless
    requested, and for an encoder without a map.
    """

    rows: np.ndarray
    encoded: dict[str, np.ndarray]
    embedded: dict[str, np.ndarray]
    failures: list[Failure]
    maps: np.ndarray | None = field(default=None)

    def views(self) -> dict[str, np.ndarray]:
        """The inputs of probes, of unit length: `encoded` by modality, "both" concatenated, and the embeddings."""
        views = {name: unit(x) for name, x in self.encoded.items()}
        if len(views) > 1:
            views["both"] = np.concatenate(list(views.values()), 1)
        return views | {f"{name} embedding": unit(x) for name, x in self.embedded.items()}


def extract_features(
    model: MultiStream,
    rows: pa.Table,
    root: str | Path,
    config: ClipConfig,
    device: torch.device,
    cache: Path,
    precision: str = "auto",
    workers: int = 0,
    sampling: Sampling = Sampling(),
    share: tuple[int, int] | None = None,
    modalities: Sequence[str] = MODALITIES,
) -> Features:
    """Features of the videos of an index, in evaluation mode.

    They are cached in `cache`/<key>, one file per 256 videos. The key is a digest of the weights, the videos (path,
    size, modification time, window), the clips and the precision. Existing files are not computed again, so that an
    interrupted extraction is resumed.

    Args:
        model: the encoders.
        rows, root: the index (`read_index`) and the folder of its videos.
        config: the clips.
        device, precision: where and in which number format to encode.
        cache: the folder of cached features.
        workers: number of decoding processes.
        sampling: the clips of each video.
        share: (r, W) if this is process r of W that extract the same features; default: as torchrun or SLURM set it.
            Each process begins at another file and continues until all files exist, so none waits for another.
        modalities: the modalities to encode, as far as the model has them.

    Raises:
        UserError: no video can be decoded, or a cached file is damaged.
    """
    dataset, paths = write_features(
        model, rows, root, config, device, cache, precision, workers, sampling, share, modalities
    )
    features = _read(paths)
    if not len(features.rows) and features.failures:
        first = features.failures[0]
        raise UserError(
            f"none of {counted_paths(dataset.paths)} below {root} could be decoded; the first is {first.path} "
            f"({first.reason}): check data.root, and that the files can be read"
        )
    return features


def write_features(
    model: MultiStream,
    rows: pa.Table,
    root: str | Path,
    config: ClipConfig,
    device: torch.device,
    cache: Path,
    precision: str = "auto",
    workers: int = 0,
    sampling: Sampling = Sampling(),
    share: tuple[int, int] | None = None,
    modalities: Sequence[str] = MODALITIES,
    part: Part | None = None,
) -> tuple[ClipDataset, list[Path]]:
    """Write the files that `extract_features` reads, or those of a part of them alone.

    Returns:
        The clips, and the paths of all files.
    """
    model.eval().to(device)
    encoded = [name for name in model.encoders if name in modalities]
    dataset = ClipDataset(rows, root, config, modalities=encoded, clips=sampling.clips, crops=sampling.crops)
    folder = cache / _key(model, rows, config, device, precision, sampling, encoded)
    extractor = _Extractor(model, dataset, config, device, precision, sampling, encoded)
    pin = device.type == "cuda"
    chunks = Chunks(dataset, extractor.chunk, extractor.encode)
    extract_shards(folder, dataset, chunks.requests, chunks.arrays, workers, pin, share, part=part)
    return dataset, [shard_path(folder, start) for start in shard_starts(len(dataset))]


@torch.no_grad()
def from_stored(
    model: MultiStream, stored: StoredClips, device: torch.device, precision: str, sampling: Sampling
) -> Features:
    """The features of the middle clips, from stored features of the encoders. Without feature maps, retrieval uses the
    video features instead."""
    model.eval().to(device)
    failures: list[Failure] = []
    parts: dict[str, list[torch.Tensor]] = {}
    rows = []
    for batch in stored.batches(pass_requests(len(stored), SHARD, Pass.EVALUATE, 0)):
        failures += batch.failures
        rows.append(batch.index)
        with autocast(device, precision):
            encoded = model.adapt({name: x.to(device) for name, x in batch.features.items()})
        for name, x in encoded.items():
            parts.setdefault(f"encoded {name}", []).append(x.float().cpu())
            if model.embeds:
                parts.setdefault(f"embedded {name}", []).append(model.embed(x.float(), name).cpu())
    joined = {name: torch.cat(x).numpy() for name, x in parts.items()}

    def by_modality(kind: str) -> dict[str, np.ndarray]:
        return {m: joined[f"{kind} {m}"] for m in MODALITIES if f"{kind} {m}" in joined}

    maps = unit(joined["encoded video"]) if sampling.maps and "encoded video" in joined else None
    return Features(torch.cat(rows).numpy(), by_modality("encoded"), by_modality("embedded"), failures, maps)


def digest_of_videos(rows: pa.Table) -> str:
    """A digest of what a clip depends on of the rows of an index."""
    videos = hashlib.sha256()
    columns = ["path", "size", "mtime_ns", "window_start", "window_seconds"]
    for part in rows.select(columns).to_batches(max_chunksize=4096):
        videos.update(json.dumps(part.to_pydict()).encode())
    return videos.hexdigest()


def _key(
    model: MultiStream,
    rows: pa.Table,
    config: ClipConfig,
    device: torch.device,
    precision: str,
    sampling: Sampling,
    encoded: list[str],
) -> str:
    with autocast(device, precision):
        low = torch.is_autocast_enabled(device.type)
    clips = config.identity()
    projected = "float32 projections" if low else low  # a new key, because an earlier version had bfloat16 projections
    depends_on = [
        VERSION,
        digest(model),
        digest_of_videos(rows),
        clips,
        asdict(sampling),
        encoded,
        projected,
        device.type,
    ]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:24]


class _Extractor:
    def __init__(
        self,
        model: MultiStream,
        dataset: ClipDataset,
        config: ClipConfig,
        device: torch.device,
        precision: str,
        sampling: Sampling,
        encoded: list[str],
    ):
        self.encoded = encoded
        self.model, self.dataset, self.device, self.precision = model, dataset, device, precision
        self.sampling = sampling
        self.transform = DeviceTransform(config, device)
        self.views = sampling.clips * sampling.crops
        self.chunk = max(1, CHUNK // self.views)  # videos encoded at once

    @torch.no_grad()
    def encode(self, batch: Batch, at: int) -> dict[str, np.ndarray]:
        """The features of a chunk's videos, each encoded at its own position among `chunk` videos."""
        place = (batch.index - at)[:, None] * self.views + torch.arange(self.views)
        clips = {}
        for name, x in self.transform(batch, self.encoded).items():
            clips[name] = x.new_zeros(self.chunk * self.views, *x.shape[1:])
            if name == "video":
                clips[name] = clips[name].contiguous(memory_format=torch.channels_last_3d)
            clips[name][place.flatten()] = x
        features = {"rows": batch.index.numpy()}
        with autocast(self.device, self.precision):
            for name in self.encoded:
                mapped = (
                    (name,) if name == "video" and self.sampling.maps and has_map(self.model.encoders[name]) else ()
                )
                found, maps = self.model.encode_with_maps({name: clips[name]}, mapped)
                encoded = found[name]
                if name in maps:
                    features["maps"] = self._mean(F.normalize(_pooled(maps[name].float()).flatten(1)), place)
                features[f"encoded_{name}"] = self._mean(encoded, place)
                if self.model.embeds:
                    with torch.autocast(
                        self.device.type, enabled=False
                    ):  # nearest neighbours depend on the last digits
                        embedded = self.model.embed(encoded.float(), name)
                    features[f"embedded_{name}"] = self._mean(embedded, place)
        return features

    def _mean(self, x: torch.Tensor, place: torch.Tensor) -> np.ndarray:
        return x.float()[place.to(x.device)].mean(1).cpu().numpy()


def _pooled(maps: torch.Tensor) -> torch.Tensor:
    """Max-pool maps by 2; an axis of length 1 stays as it is."""
    return F.max_pool3d(maps, [min(2, size) for size in maps.shape[2:]])


def _read(paths: list[Path]) -> Features:
    """The features in files. Each array is filled file by file, so that memory holds it once."""
    failures: list[Failure] = []
    sizes: list[int] = []
    for path in paths:
        with damage_named(path), open_arrays(path) as arrays:
            failures += [Failure(str(name), str(why)) for name, why in parse_json(str(arrays["failures"]))]
            sizes.append(len(arrays["rows"]) if "rows" in arrays.files else 0)
    joined: dict[str, np.ndarray] = {}
    start = 0
    for path, size in zip(paths, sizes, strict=True):
        with damage_named(path), open_arrays(path) as arrays:
            shard = {name: arrays[name] for name in arrays.files if name not in ("failures", "failed")}
            if any(len(x) != size or x.dtype.kind not in "fi" for x in shard.values()):
                raise ValueError("its arrays differ in length, or do not contain numbers")
            if size and joined and shard.keys() != joined.keys():
                raise ValueError("it has other arrays than the files before it")
            for name, x in shard.items() if size else ():
                if name not in joined:
                    joined[name] = np.empty((sum(sizes), *x.shape[1:]), x.dtype)
                joined[name][start : start + size] = x
        start += size

    def by_modality(kind: str) -> dict[str, np.ndarray]:
        return {m: joined[f"{kind}_{m}"] for m in MODALITIES if f"{kind}_{m}" in joined}

    rows = joined.get("rows", np.empty(0, np.int64))
    return Features(rows, by_modality("encoded"), by_modality("embedded"), failures, joined.get("maps"))
