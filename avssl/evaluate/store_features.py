"""Extract the features of a store, for all clips at fixed times and for augmented ones."""

import json
import shutil
from collections.abc import Generator, Iterator

import numpy as np
import pyarrow as pa
import torch

from ..clips.dataset import Batch, ClipDataset, Failure, Pass, Request
from ..clips.feature_store import PARTS, FeatureStore, is_complete_store
from ..clips.transform import DeviceTransform
from ..clips.write_features import exclusive, part_folder, write_split
from ..core.device import autocast
from ..core.errors import UserError
from ..core.part import Part
from ..models import MultiStream
from .feature_shards import CHUNK, chunks_of, extract_shards, failed_array, shard_path, shard_starts
from .head_measures import FRESH

NO_AUDIO = "no audio"

MAX_DECODED = 2e9
"""Most bytes of one video's clips in memory."""


class Extraction:
    """Writes the features of a store, split by split; several processes can share the work.

    Args:
        store: the description of the store.
        model: the encoders, in evaluation mode, on their device.
        root: the folder of the videos.
        device: the device of the model.
        workers: number of decoding processes.
        share: (r, W) if this is process r of W; default: as torchrun or SLURM set it.
    """

    def __init__(
        self, store: FeatureStore, model: MultiStream, root: str, device: torch.device, workers: int = 0,
        share: tuple[int, int] | None = None,
    ):  # fmt: skip
        self.store, self.model, self.root, self.device = store, model, root, device
        self.workers, self.share = workers, share
        self.names = list(store.encoders)
        self.transform = DeviceTransform(store.clip, device)
        # as many clips at a time as in evaluation, at the same positions, so that the numbers are the same
        self.chunk = 1 if store.every else max(1, CHUNK // store.views)
        self.together = CHUNK if store.every or store.views > CHUNK else self.chunk * store.views

    def split(self, name: str, rows: pa.Table, part: Part | None = None) -> None:
        """Write the parts of a split, files of 256 of its rows that can be encoded; or only those of `part`."""
        heard = self._usable(rows)
        store = self.store
        self.dataset = ClipDataset(
            rows.take(pa.array(heard)), self.root, store.clip, store.seed, modalities=self.names, clips=store.views,
            every=store.every,
        )  # fmt: skip
        self.heard = heard
        self._check_memory()
        what = "clips and augmented clips" if store.augmented else "videos"
        extract_shards(
            part_folder(store.folder, name), self.dataset, self._requests, self._arrays, self.workers,
            self.device.type == "cuda", self.share, f"encoding {name}, {what}", part,
            lambda: is_complete_store(store.folder),
        )  # fmt: skip

    def finish(self, by_split: dict[str, pa.Table]) -> None:
        """Join the parts of all splits into the files of the store. Raises UserError if no video could be read."""
        store = self.store
        with exclusive(store.folder):
            if not is_complete_store(store.folder):
                for name, rows in by_split.items():
                    heard = self._usable(rows)
                    parts = [shard_path(part_folder(store.folder, name), s) for s in shard_starts(len(heard))]
                    silent = {int(row): NO_AUDIO for row in np.setdiff1d(np.arange(rows.num_rows), heard)}
                    write_split(store.folder, name, rows, store.widths, parts, silent)
                store.write()
            shutil.rmtree(store.folder / PARTS, ignore_errors=True)

    def _usable(self, rows: pa.Table) -> np.ndarray:
        """The rows that have all modalities that the encoders need."""
        silent = rows["audio_rate"].to_numpy() == 0 if "audio" in self.names else np.zeros(rows.num_rows, bool)
        if silent.all() and rows.num_rows:
            raise UserError("no video has audio: encode only the frames, with modalities=video")
        return np.flatnonzero(~silent)

    def _check_memory(self) -> None:
        clip = self.store.clip
        longest = max((len(self.dataset.evaluation_starts(i)) for i in range(len(self.dataset))), default=0)
        needed = longest * (3 * clip.frames * clip.crop**2 + 4 * clip.audio_seconds * clip.audio_rate)
        if needed > MAX_DECODED:
            raise UserError(
                f"the longest video has {longest:,} clips, which need {needed / 1e9:.1f} GB at once: cut long videos "
                "when you index them, as with data.window_seconds=10, or extract fewer clips"
            )

    def _requests(self, start: int) -> list[list[Request]]:
        """Yield the clips at fixed times of each chunk; then, for each augmented clip, chunks of all videos."""
        videos, requests = len(self.dataset), []
        stop = chunks_of(start, videos, 1).stop
        for at in chunks_of(start, videos, self.chunk):
            requests.append([Request(i, Pass.EVALUATE, 0) for i in range(at, min(at + self.chunk, stop))])
        for number in range(self.store.augmented):
            for at in chunks_of(start, videos, CHUNK):
                requests.append([Request(i, Pass.LABEL, FRESH + number) for i in range(at, min(at + CHUNK, stop))])
        return requests

    def _arrays(self, start: int, batches: Iterator[Batch]) -> Generator[None, None, dict[str, np.ndarray]]:
        """The arrays of a part, see `write_split`. It yields once per request."""
        count = len(chunks_of(start, len(self.dataset), 1))
        features: list[list[dict[str, np.ndarray]]] = [[] for _ in range(count)]
        failures: list[Failure] = []
        for requests, batch in zip(self._requests(start), batches, strict=False):
            clips = [self._clips(request) for request in requests]
            together = CHUNK if requests[0].kind is Pass.LABEL else self.together
            for video, x in self._encoded(batch, [r.video for r in requests], clips, together).items():
                features[video - start].append(x)
            failures += batch.failures
            yield from [None] * len(requests)
        passes, paths = 1 + self.store.augmented, self.dataset.paths[start : start + count]
        reasons = dict(failures)
        whole = [len(x) == passes for x in features]
        starts = [self.dataset.evaluation_starts(start + i) if fits else [] for i, fits in enumerate(whole)]
        arrays = {
            f"features_{name}": np.concatenate(
                [np.empty((0, width), np.float32), *(x[name] for i, xs in enumerate(features) if whole[i] for x in xs)]
            )
            for name, width in self.store.widths.items()
        }
        return arrays | {
            "rows": self.heard[start : start + count],
            "clips": np.array([len(x) for x in starts], np.int64),
            "reasons": np.array(["" if fits else reasons.get(paths[i], "") for i, fits in enumerate(whole)]),
            "times": np.array([time for x in starts for time in x]),
            "failures": np.array(json.dumps(failures)),
            "failed": failed_array(self.dataset, [start + i for i, fits in enumerate(whole) if not fits]),
        }  # fmt: skip

    def _clips(self, request: Request) -> int:
        """The number of clips of a request."""
        return 1 if request.kind is Pass.LABEL else len(self.dataset.evaluation_starts(request.video))

    @torch.no_grad()
    def _encoded(
        self, batch: Batch, videos: list[int], clips: list[int], together: int
    ) -> dict[int, dict[str, np.ndarray]]:
        """The features of a batch's videos, float32 [clips, D] by modality; each clip is at its own position."""
        if not len(batch.index):
            return {}
        first = dict(zip(videos, np.concatenate([[0], np.cumsum(clips)[:-1]]), strict=True))
        count = dict(zip(videos, clips, strict=True))
        decoded = batch.index.tolist()
        place = torch.from_numpy(np.concatenate([first[i] + np.arange(count[i]) for i in decoded]))
        padded = -(-sum(clips) // together) * together
        by_modality = {}
        for name, x in self.transform(batch, self.names).items():
            placed = x.new_zeros(padded, *x.shape[1:])
            placed[place] = x
            by_modality[name] = self._through(name, placed, together)
            wrong = ~np.isfinite(by_modality[name][place]).all(1)
            if wrong.any():
                at = int(place[int(np.flatnonzero(wrong)[0])])
                video = next(i for i in decoded if first[i] <= at < first[i] + count[i])
                raise UserError(
                    f"the {name} encoder {self.store.encoders[name]} returned NaN or infinite features for "
                    f"{self.dataset.paths[video]}: check its weights and its clip options"
                )
        return {i: {name: x[first[i] : first[i] + count[i]] for name, x in by_modality.items()} for i in decoded}

    def _through(self, name: str, clips: torch.Tensor, together: int) -> np.ndarray:
        """Features float32 [n, D] of n clips of a modality, computed in fixed portions."""
        parts = []
        for start in range(0, len(clips), together):
            part = clips[start : start + together]
            if name == "video":
                part = part.contiguous(memory_format=torch.channels_last_3d)
            with autocast(self.device, self.store.precision):
                parts.append(self.model.encode_raw({name: part})[name].float().cpu().numpy())
        return np.concatenate(parts)
