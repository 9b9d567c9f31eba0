"""The heat maps of every video, cached in files of 256 videos: an interrupted pass is resumed."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from ..clips.dataset import Batch, ClipDataset, Failure
from ..clips.transform import DeviceTransform
from ..config import ClipConfig
from ..core.checkpoint_file import digest
from ..core.device import autocast
from ..core.untrusted import open_arrays, parse_json
from ..evaluate.feature_shards import (
    CHUNK,
    Arrays,
    Chunks,
    chunks_of,
    damage_named,
    extract_shards,
    shard_path,
    shard_starts,
)
from ..evaluate.features import digest_of_videos
from ..evaluate.predictions import labels_of
from ..models.localise import Localiser, heat_maps
from .prior import Prior

VERSION = 1
"""A part of the key. Raise it when heat maps change."""

TOGETHER = 4
"""Fewest videos of a chunk, so that each has another one whose audio it is compared with."""

BLOCK_SECONDS = 0.4
"""Loudness is that of the loudest block of this length, as in the index, s."""

NOISE = 0.1
"""Root mean square of the white noise that maps are measured under."""

SOUNDS = 4
"""Sounds of clusters whose maps a clip keeps."""

Chunk = dict[str, torch.Tensor]


class Sounds(NamedTuple):
    """The sound of each cluster: their numbers, int64 [K], and unit embeddings, float32 [K, C]."""

    clusters: np.ndarray
    audio: np.ndarray


def object_map(k: int) -> str:
    """The name of the maps with the audio of the k-th object."""
    return f"object_{k}"


@dataclass
class HeatPass:
    """A pass that computes the heat maps of the videos of an index, and caches them in files of a folder.

    The videos are taken in an order that depends only on the seed. The audio of "another video" is that of the next
    video in this order, within chunks of 16 clips: a fixed permutation without fixed points that mixes all classes,
    for which no video is decoded twice.

    Args:
        localiser: gives the heat maps of a model.
        rows: the index of the videos; all have audio.
        root, config: their folder, and how clips are cut.
        device, precision: where and in which number format to encode.
        cache: the folder of cached maps.
        clips: evenly spaced clips of each video, V.
        head: the cluster head that labels them; None: they have no cluster.
        silence_db: clips that are never louder are silent, dBFS.
        constant: also compute the maps under silence and under white noise, and keep the audio's embeddings.
        given: the unit embeddings of other audio, float32 [N, C], which the maps are of in place of the videos' own.
        objects: the unit embeddings of the audio of K objects, float32 [N, K, C]: their maps are computed too.
        sounds: also compute the maps with the sounds of clusters.
        prior: also compute the maps of an object prior.
        prior_name: the name of the prior.
        seed: decides the order of the videos.
        workers: number of decoding processes.
        text: name of the progress bar.
    """

    localiser: Localiser
    rows: pa.Table
    root: str | Path
    config: ClipConfig
    device: torch.device
    precision: str
    cache: Path
    clips: int = 1
    head: int | None = None
    silence_db: float = -60.0
    constant: bool = False
    given: np.ndarray | None = None
    prior: Prior | None = None
    prior_name: str = ""
    seed: int = 0
    workers: int = 0
    text: str = "locating"
    objects: np.ndarray | None = None
    sounds: Sounds | None = None

    def __post_init__(self) -> None:
        self.order = np.random.default_rng([self.seed, len(self.rows)]).permutation(len(self.rows))
        """The row of the index of each video of the pass."""
        self.taken = self.rows.take(pa.array(self.order))
        self.dataset = ClipDataset(
            self.taken, self.root, self.config, modalities=("video", "audio"), clips=self.clips
        )  # fmt: skip
        self.transform = DeviceTransform(self.config, self.device)
        self.chunk = max(TOGETHER, CHUNK // self.clips)
        self.model = self.localiser.model.eval().to(self.device)
        self.failures: list[Failure] = []

    def read(self) -> Iterator[tuple[np.ndarray, Arrays]]:
        """Compute what is missing, then yield for each file the n rows of the index that could be decoded, and arrays.

        The arrays are `heat` float32 [n, V, T', h, w]; `other`, the maps with the audio of another video, NaN without
        one, and its row in the index, `other_row` int64 [n], else -1; `silent` bool [n, V]; `label` int32 and
        `confidence` float32, [n, V]; if wanted, `silence`, `noise`, `prior` and those of `object_map`, as `heat`, and
        `audio` float32 [n, V, C]; with `sounds`, the maps of J of them, `sound_maps` [n, V, J, T', h, w], and their
        clusters, `sound_cluster` int64 [n, V, J], and the largest similarity with each, `sound_peaks` float32
        [n, V, K]. The videos that failed are afterwards in `failures`.

        Raises:
            UserError: a file is damaged.
        """
        folder = self.folder()
        self.failures = []
        pin = self.device.type == "cuda"
        chunks = Chunks(self.dataset, self.chunk, self._of_chunk)
        extract_shards(folder, self.dataset, chunks.requests, chunks.arrays, self.workers, pin, text=self.text)
        for start in shard_starts(len(self.dataset)):
            path = shard_path(folder, start)
            with damage_named(path), open_arrays(path) as arrays:
                self.failures += [Failure(str(name), str(why)) for name, why in parse_json(str(arrays["failures"]))]
                if "rows" not in arrays.files:
                    continue
                found = {name: arrays[name] for name in arrays.files if name not in ("failures", "failed")}
                self._check(found, start)
            rows, other = self.order[found.pop("rows")], found["other_row"]
            found["other_row"] = np.where(other >= 0, self.order[np.maximum(other, 0)], -1)
            yield rows, found

    @property
    def number_of_objects(self) -> int:
        """K, the objects whose maps are computed too."""
        return 0 if self.objects is None else self.objects.shape[1]

    def folder(self) -> Path:
        """The folder of the files, whose name is a digest of all that they depend on."""
        with autocast(self.device, self.precision):
            low = torch.is_autocast_enabled(self.device.type)
        weights = self.model.modality_weights
        depends_on = [
            "heat maps", VERSION, CHUNK, digest(self.model), self.model.sharing, self.head,
            None if weights is None else {name: x.tolist() for name, x in weights.items()},
            digest_of_videos(self.rows), self.config.identity(), low, self.device.type, self.clips, self.silence_db,
            self.constant, None if self.given is None else hashlib.sha256(self.given.tobytes()).hexdigest(),
            self.prior_name, None if self.prior is None else digest(self.prior.encoder), self.seed,
        ]  # fmt: skip
        if self.objects is not None:  # only then, so that maps of before are still found
            depends_on.append([self.objects.shape, hashlib.sha256(self.objects.tobytes()).hexdigest()])
        if self.sounds is not None:
            of_each = [hashlib.sha256(x.tobytes()).hexdigest() for x in self.sounds]
            depends_on.append(["sounds", SOUNDS, *of_each])
        return self.cache / hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:24]

    @torch.no_grad()
    def _of_chunk(self, batch: Batch, at: int) -> Arrays:
        """The arrays of a chunk that begins at video `at`. As for features, each video is encoded at its own place."""
        rows, views = batch.index.numpy().astype(np.int64), self.clips
        place = ((batch.index - at)[:, None] * views + torch.arange(views)).flatten()
        slots = -(-self.chunk * views // CHUNK) * CHUNK
        clips: Chunk = {}
        for name, x in self.transform(batch).items():
            clips[name] = x.new_zeros(slots, *x.shape[1:])
            if name == "video":
                clips[name] = clips[name].contiguous(memory_format=torch.channels_last_3d)
            clips[name][place.to(x.device)] = x
        found = self._encoded(clips, place.to(self.device))
        silent = loudness(batch.clips["audio"].numpy(), self.config.audio_rate) < self.silence_db
        other, other_row = self._with_others(found, rows, silent.reshape(-1, views))
        arrays = {"rows": rows, "other_row": other_row, "silent": silent}
        audio = found["audio"]
        if self.given is not None:
            audio = torch.from_numpy(self.given[self.order[rows].repeat(views)]).to(self.device)
        maps = {"heat": heat_maps(found["positions"], audio), "other": other}
        if self.constant:
            maps["audio"] = found["audio"]
            for name, constant in zip(("silence", "noise"), self._constant_audio, strict=True):
                maps[name] = heat_maps(found["positions"], constant.expand_as(audio))
        for k in range(self.number_of_objects):
            sound = torch.from_numpy(self.objects[self.order[rows].repeat(views), k])  # type: ignore[index]
            maps[object_map(k)] = heat_maps(found["positions"], sound.to(self.device))
        if self.sounds is not None:
            maps |= self._with_sounds(found, self.sounds)
        maps |= {name: found[name] for name in ("prior", "label", "confidence") if name in found}
        arrays |= {name: x.cpu().numpy() for name, x in maps.items()}
        return {name: x if name in ("rows", "other_row") else x.reshape(len(rows), views, *x.shape[1:])
                for name, x in arrays.items()}  # fmt: skip

    def _with_sounds(self, found: Chunk, sounds: Sounds) -> Chunk:
        """The maps with the sound of the clip's own cluster and those of the others that come nearest, and which; and
        the maximum of the map with each sound."""
        numbers = torch.from_numpy(sounds.clusters).to(self.device)
        audio = torch.from_numpy(sounds.audio).to(self.device)
        maps = torch.einsum("bcthw,kc->bkthw", found["positions"], audio)
        peaks = maps.flatten(2).amax(2)
        nearest = peaks.masked_fill(numbers == found["label"][:, None], torch.inf)
        best = nearest.topk(min(SOUNDS, len(numbers))).indices
        kept = maps[torch.arange(len(maps), device=self.device)[:, None], best]
        return {"sound_maps": kept, "sound_cluster": numbers[best], "sound_peaks": peaks}

    def _encoded(self, clips: Chunk, place: torch.Tensor) -> Chunk:
        """Positions, audio embeddings, prior, labels and their confidence of the clips at `place`, [N, …] each."""
        parts: dict[str, list[torch.Tensor]] = {}
        for start in range(0, len(clips["video"]), CHUNK):
            block = {name: x[start : start + CHUNK] for name, x in clips.items()}
            for name, x in self._encoded_block(block).items():
                parts.setdefault(name, []).append(x)
        return {name: torch.cat(x)[place] for name, x in parts.items()}

    def _encoded_block(self, block: Chunk) -> Chunk:
        with autocast(self.device, self.precision):
            positions, audio, features = self.localiser.embed_with_features(block)
        found = {"positions": positions.float(), "audio": audio.float()}
        if self.prior is not None:
            with autocast(self.device, self.precision):
                found["prior"] = self.prior(block["video"], tuple(positions.shape[2:])).float()  # type: ignore[arg-type]
        label = torch.full((len(positions),), -1, dtype=torch.int32)
        found |= {"label": label, "confidence": torch.full(label.shape, torch.nan)}
        if self.head is not None:
            best, probability = labels_of(self.model, features)["joint"]
            found |= {"label": best[self.head].int(), "confidence": probability[self.head].float()}
        return {name: x.to(self.device) for name, x in found.items()}

    def _with_others(self, found: Chunk, rows: np.ndarray, silent: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """The maps with the audio of the next video of the chunk that can be heard, and its number in the pass."""
        views, number = self.clips, len(rows)
        partner, source = np.full(number, -1), np.full((number, views), -1)
        for i in range(number):
            for j in (i + np.arange(1, number)) % number:
                heard = np.flatnonzero(~silent[j])
                if len(heard) and self.dataset.paths[int(rows[i])] != self.dataset.paths[int(rows[j])]:
                    partner[i] = j
                    source[i] = j * views + np.where(silent[j], heard[0], np.arange(views))
                    break
        at = torch.from_numpy(source.reshape(-1)).to(self.device)
        other = heat_maps(found["positions"], found["audio"][at.clamp(min=0)])
        other[at < 0] = torch.nan
        return other, np.where(partner >= 0, rows[np.maximum(partner, 0)], -1)

    @cached_property
    def _constant_audio(self) -> list[torch.Tensor]:
        """The unit embeddings of silence and of white noise, [1, C] each."""
        samples = torch.zeros(CHUNK, round(self.config.audio_seconds * self.config.audio_rate))
        generator = torch.Generator().manual_seed(self.seed)
        samples[1] = NOISE * torch.randn(samples.shape[1], generator=generator)
        video = torch.zeros(CHUNK, self.config.frames, self.config.crop, self.config.crop, 3, dtype=torch.uint8)
        batch = Batch(torch.arange(CHUNK), {"video": video, "audio": samples}, None, [])
        with autocast(self.device, self.precision):
            audio = self.localiser.embed(self.transform(batch))[1].float()
        return [audio[:1], audio[1:2]]

    def _check(self, found: Arrays, start: int) -> None:
        """Raise ValueError unless the arrays of a file are maps of its own videos."""
        rows, own, heat = found["rows"], chunks_of(start, len(self.dataset), 1), found["heat"]
        kinds = {name: x.dtype.kind for name, x in found.items()}
        for name in ("rows", "other_row"):
            x, lowest = found[name], -1 if name == "other_row" else own.start
            if x.dtype != np.int64 or x.ndim != 1 or ((x < lowest) | (x >= own.stop)).any():
                raise ValueError("it has other videos than its name says")
        if any(len(x) != len(rows) for x in found.values()) or any(kind not in "fib" for kind in kinds.values()):
            raise ValueError("its arrays differ in length, or do not contain numbers")
        if heat.ndim != 5 or heat.shape[1] != self.clips:
            raise ValueError("it has maps of other clips")
        wanted = {"other", *(["silence", "noise"] if self.constant else []), *(["prior"] if self.prior else [])}
        wanted |= {object_map(k) for k in range(self.number_of_objects)}
        if any(found[name].shape != heat.shape for name in wanted):
            raise ValueError("its maps differ in shape")
        if self.sounds is not None:
            clips, number = heat.shape[:2], len(self.sounds.clusters)
            kept = (*clips, min(SOUNDS, number))
            shapes = {"sound_maps": (*kept, *heat.shape[2:]), "sound_cluster": kept, "sound_peaks": (*clips, number)}
            if any(found[name].shape != shape for name, shape in shapes.items()):
                raise ValueError("its maps with the sounds of clusters differ in shape")
        if any(found[name].shape != heat.shape[:2] for name in ("silent", "label", "confidence")):
            raise ValueError("its labels differ from its maps in number")
        if ((found["label"] < -1) | (found["label"] >= max(1, self.model.clusters))).any():
            raise ValueError("a label is none of the clusters")


def loudness(samples: np.ndarray, rate: int) -> np.ndarray:
    """The level of the loudest block of samples, float [N, n]: dBFS, float64 [N]; of silence -120."""
    length = max(1, min(samples.shape[1], round(BLOCK_SECONDS * rate)))
    starts = [*range(0, samples.shape[1] - length, length), samples.shape[1] - length]
    power = [np.square(samples[:, start : start + length], dtype=np.float64).mean(1) for start in starts]
    return 10 * np.log10(np.maximum(np.max(power, 0), 1e-12))
