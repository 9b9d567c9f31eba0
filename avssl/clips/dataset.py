"""Clips of indexed videos: which stretch, which crop, and what happens when a file fails."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from ..config import ClipConfig
from ..core.errors import ClipError, UserError
from ..core.plurals import many, out_of
from ..videos.source import CHANGED, Source, Stamp
from ..videos.storage import open_storage
from .augment import DRAWS, SOUND, Draws
from .decode import Clip, ClipSpec, choose_decoder, read_clips
from .views import ClipPlan


class Pass(IntEnum):
    """What a clip is wanted for; part of the seed of its random draws."""

    TRAIN = 0
    """A random clip; a file that fails is replaced by another."""
    LABEL = 1
    """A random clip of every video, for labelling; a file that fails is left out."""
    EVALUATE = 2
    """Clips at set places of time and space, no augmentation; a file that fails is left out."""


class Request(NamedTuple):
    """One item asked of the data set: row `video` of the index, in the `number`-th pass of its kind."""

    video: int
    kind: Pass
    number: int


class Failure(NamedTuple):
    """A file that could not give its clip."""

    path: str
    reason: str


def describe_failures(failures: Iterable[tuple[str, str]]) -> str:
    """What became of videos that gave no clip, from their paths and reasons: how many, and what to do."""
    by_path = dict(failures)
    changed = sum(reason == CHANGED for reason in by_path.values())
    parts = []
    if len(by_path) > changed:
        parts.append(f"{many(len(by_path) - changed, 'video')} could not be decoded")
    if changed:
        have = "have changed since they were" if changed > 1 else "has changed since it was"
        parts.append(f"{many(changed, 'video')} {have} indexed (run `avssl index` again)")
    return " and ".join(parts)


@dataclass
class Item:
    """The V clips of a video: one, or the views of a plan, in its order.

    `clips` by modality: "video" uint8 [V, T, H, W, 3], "audio" float32 [V, n]; None where the video gave none. `draws`
    float [V, DRAWS], or None without augmentation. `values`: the draws of what is applied on the device, float32
    [levels, k] by name.
    """

    index: int
    clips: dict[str, np.ndarray] | None
    draws: np.ndarray | None
    failures: list[Failure]
    values: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Batch:
    """Videos that decoded, `index` int64 [B], and their V clips each, video by video, by modality: "video" uint8
    [B · V, T, H, W, 3], "audio" float32 [B · V, n]. `values` float32 [B, levels, k] by name."""

    index: torch.Tensor
    clips: dict[str, torch.Tensor]
    draws: Draws | None
    failures: list[Failure]
    values: dict[str, torch.Tensor] = field(default_factory=dict)

    def with_clips(self, **clips: torch.Tensor) -> "Batch":
        """The same batch, with other clips of some modalities."""
        return replace(self, clips=self.clips | clips)


@dataclass(frozen=True)
class Modality:
    """What the clips of a modality are made of: a decoded `stream`, "video" (uint8 [V, T, H, W, 3]) or "audio" (float32
    [V, n]), and what is made of it in the decoding process."""

    stream: str
    make: Callable[[np.ndarray], np.ndarray] = lambda decoded: decoded


MODALITIES: dict[str, Modality] = {"video": Modality("video"), "audio": Modality("audio")}
"""The modalities that a run may have; beside each there are its transform and its encoder (`avssl.clips.transform`,
`avssl.models.build`)."""

ATTEMPTS = 10


def unwatched(index: int) -> AbstractContextManager[None]:
    """Nothing around the decoding of a video."""
    return nullcontext()


class ClipDataset(Dataset):
    """Clips of the rows of an index (`read_index`). Items are asked for by `Request`, and are a function of
    (seed, request) alone.

    With a `composition`, training items are its views of a video, decoded from one open file. Streams of other
    modalities than `modalities` (default: the composition's, or both) are not decoded. UserError where videos are too
    short for a clip, or for the views.

    An evaluated video gives `clips` spread evenly over it, and `crops` of each along the longer side, crops of one clip
    side by side: one of each is the centre.
    """

    def __init__(
        self,
        rows: pa.Table,
        root: str | Path,
        config: ClipConfig,
        seed: int = 0,
        composition: ClipPlan | None = None,
        modalities: Sequence[str] | None = None,
        clips: int = 1,
        crops: int = 1,
    ):
        self.clips, self.crops = clips, crops
        self.root, self.config, self.seed = Path(root), config, seed
        self.storage = open_storage(root)
        self.paths = rows["path"].to_pylist()
        self.starts = rows["window_start"].to_numpy()
        self.seconds = rows["window_seconds"].to_numpy()
        stamped = {"size", "mtime_ns"} <= set(rows.column_names)  # as an index's rows are
        self.stamps = (rows["size"].to_numpy(), rows["mtime_ns"].to_numpy()) if stamped else None
        self.spec = ClipSpec.of(config)
        self.decoder = choose_decoder(config.decoder)
        if config.cache_mb and self.decoder != "pyav":
            raise UserError(f"clip.cache_mb={config.cache_mb:g} needs clip.decoder=pyav, not {self.decoder}")
        self.composition = composition
        self.bad: dict[int, str] = {}
        """Videos not to be decoded, and why: a decoding process has ended at them."""
        self.watch: Callable[[int], AbstractContextManager[None]] = unwatched
        """Around the decoding of a video: see `loader.load`."""
        short = float(self.seconds.min(initial=np.inf))
        if short < self.spec.seconds * 0.75:
            raise UserError(
                f"{self._out_of((self.seconds < self.spec.seconds * 0.75).sum())} are shorter "
                f"than a clip of {self.spec.seconds:g} s (the shortest is {short:.2f} s): "
                f"index again with data.min_seconds={self.spec.seconds:g}, or make clip.frames smaller"
            )

        if modalities is None:
            modalities = ("video", "audio") if composition is None else composition.modalities
        self.modalities = tuple(modalities)
        streams = {MODALITIES[name].stream for name in modalities}
        self.decoded_spec = replace(
            self.spec,
            frames=self.spec.frames if "video" in streams else 0,
            audio_seconds=self.spec.audio_seconds if "audio" in streams else 0.0,
        )
        mute = int((rows["audio_rate"].to_numpy() == 0).sum()) if "audio" in streams else 0
        if mute:
            raise UserError(
                f"{self._out_of(mute)} have no sound (data.require_sound=false let them in): index "
                f"again with data.require_sound=true, or use the video alone"
            )
        if composition is not None:
            self._check_views(composition)

    def _check_views(self, composition: ClipPlan) -> None:
        needed = composition.required_seconds(self.spec.seconds)
        short = int((self.seconds < needed - 1e-6).sum())
        if short:
            raise UserError(
                f"{self._out_of(short)} are shorter than the {needed:g} s that the contrast "
                f"takes of each ({composition.describe_views()}): index again with "
                f"data.min_seconds={needed:g} (and, where it is set, data.window_seconds), or make clip.frames and "
                f"clip.audio_seconds smaller"
            )

    def _out_of(self, rows: int) -> str:
        return out_of(rows, len(self), len(set(self.paths)))

    def __len__(self) -> int:
        return len(self.paths)

    def source(self, index: int) -> Source:
        """What is opened for a row. ClipError where the file is not the one that was indexed."""
        path = self.paths[index]
        if self.stamps is not None:
            size, mtime_ns = self.stamps
            self.storage.check(path, Stamp(int(size[index]), int(mtime_ns[index])))
        return self.storage.locate(path)

    def __getitem__(self, request: Request) -> Item:
        index, kind, number = request
        rng = np.random.default_rng([self.seed, kind, number, index])
        failures: list[Failure] = []
        for _ in range(ATTEMPTS if kind is Pass.TRAIN else 1):
            try:
                if index in self.bad:
                    raise ClipError(self.bad[index])
                with self.watch(index):
                    if kind is Pass.TRAIN and self.composition is not None:
                        return self._views(index, self.composition, rng, failures)
                    if kind is Pass.EVALUATE:
                        return self._evaluation_clips(index, failures)
                    return self._clip(index, rng, failures)
            except ClipError as error:
                failures.append(Failure(self.paths[index], str(error)))
                if kind is Pass.TRAIN:
                    index = int(rng.integers(len(self)))
        if kind is Pass.TRAIN:
            raise UserError(
                f"{ATTEMPTS} videos in a row could not be decoded, the last {failures[-1].path} "
                f"({failures[-1].reason}): run `avssl index` again"
            )
        return Item(index, None, None, failures)

    def _read(
        self, source: Source, starts: Sequence[float], short_side: int, speeds: Sequence[float] | None = None
    ) -> list[Clip]:
        config = self.config
        return read_clips(
            source, starts, self.decoded_spec, short_side, speeds, self.decoder, config.timeout, config.cache_mb
        )

    def _clips(self, frames: np.ndarray, samples: np.ndarray) -> dict[str, np.ndarray]:
        decoded = {"video": frames, "audio": samples}
        return {name: MODALITIES[name].make(decoded[MODALITIES[name].stream]) for name in self.modalities}

    def _clip(self, index: int, rng: np.random.Generator, failures: list[Failure]) -> Item:
        config = self.config
        slack = max(0.0, float(self.seconds[index]) - self.spec.seconds)
        place, row, column = rng.random(3)
        short_side = int(rng.integers(config.short_side_min, config.short_side_max + 1))
        start = float(self.starts[index]) + place * slack
        source = self.source(index)
        (clip,) = read_clips(
            source,
            [start],
            self.decoded_spec,
            short_side,
            decoder=self.decoder,
            limit=config.timeout,
            cache_mb=config.cache_mb,
        )
        frames = crop(clip.frames, config.crop, row, column)[None]
        return Item(index, self._clips(frames, clip.samples[None]), rng.random((1, DRAWS)), failures)

    def _evaluation_clips(self, index: int, failures: list[Failure]) -> Item:
        slack = max(0.0, float(self.seconds[index]) - self.spec.seconds)
        places, crops = (evenly_spaced(number) for number in (self.clips, self.crops))
        starts = [float(self.starts[index]) + place * slack for place in places]
        config, source = self.config, self.source(index)
        side = config.short_side_eval or config.short_side_min
        clips = self._read(source, starts, side)
        frames = []
        for clip in clips:
            wide = clip.frames.shape[2] > clip.frames.shape[1]
            frames += [crop(clip.frames, self.config.crop, *((0.5, at) if wide else (at, 0.5))) for at in crops]
        samples = np.stack([clip.samples for clip in clips]).repeat(self.crops, axis=0)
        return Item(index, self._clips(np.stack(frames), samples), None, failures)

    def _views(self, index: int, composition: ClipPlan, rng: np.random.Generator, failures: list[Failure]) -> Item:
        config = self.config
        requests, values = composition.sample(rng, float(self.seconds[index]), self.spec.seconds)
        short_side = int(rng.integers(config.short_side_min, config.short_side_max + 1))
        starts = [float(self.starts[index]) + request.start for request in requests]
        speeds = [request.speed for request in requests]
        source = self.source(index)
        clips = read_clips(
            source, starts, self.decoded_spec, short_side, speeds, self.decoder, config.timeout, config.cache_mb
        )
        copies = [images for clip in clips for images in composition.copy(clip.frames)]
        places = rng.random((len(copies), 2))
        frames = [crop(images, config.crop, *place) for images, place in zip(copies, places, strict=True)]
        samples = np.stack([clip.samples for clip in clips]).repeat(composition.copies, axis=0)
        draws = rng.random((len(copies), DRAWS))
        draws[:, SOUND] = draws.reshape(len(clips), -1, DRAWS)[:, composition.heard_as].reshape(-1, DRAWS)[:, SOUND]
        return Item(index, self._clips(np.stack(frames), samples), draws, failures, values)


def evenly_spaced(number: int) -> list[float]:
    """Places in [0, 1], evenly apart from one end to the other; of one, the middle."""
    return [i / (number - 1) for i in range(number)] if number > 1 else [0.5]


def crop(frames: np.ndarray, size: int, row: float, column: float) -> np.ndarray:
    """A square of `size` pixels of frames [T, h, w, 3], contiguous; `row` and `column` in [0, 1] are its place."""
    _, height, width, colours = frames.shape
    top, left = round(row * (height - size)), round(column * (width - size))
    part = frames[:, top : top + size, left : left + size]
    if frames.strides[-1] == 1:
        return np.ascontiguousarray(part)
    square = np.empty(part.shape, part.dtype)
    for colour in range(colours):  # plane by plane NumPy takes an eighth of the time
        square[..., colour] = part[..., colour]
    return square


def collate(items: list[Item]) -> Batch:
    """Items that decoded as one batch; the failures of all of them."""
    good = [(item, item.clips) for item in items if item.clips is not None]
    failures = [failure for item in items for failure in item.failures]
    if not good:
        return Batch(torch.empty(0, dtype=torch.int64), {}, None, failures)
    first, by_modality = good[0]
    drawn = [row for item, _ in good if item.draws is not None for row in item.draws]
    return Batch(
        torch.tensor([item.index for item, _ in good]),
        {name: torch.from_numpy(np.concatenate([clips[name] for _, clips in good])) for name in by_modality},
        Draws.stack(drawn) if first.draws is not None else None,
        failures,
        {name: torch.from_numpy(np.stack([item.values[name] for item, _ in good])) for name in first.values},
    )
