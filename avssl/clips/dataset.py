"""The data set of clips: it draws start and crop, decodes, and handles files that fail."""

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
from ..core.mapped_rows import Column
from ..core.plurals import many, out_of
from ..videos.source import CHANGED, Source, Stamp
from ..videos.storage import open_storage
from .augment import AUDIO_DRAWS, DRAWS, draw, spread
from .batch import Allocate, Batch, Failure, allocate, arrays_of, unpack
from .decode import Clip, ClipSpec, choose_decoder, read_clips
from .views import ClipPlan


class Pass(IntEnum):
    """The purpose of a clip, which is part of the seed of its random draws."""

    TRAIN = 0
    """A random clip. If a file fails, another one replaces it."""
    LABEL = 1
    """A random clip of every video, for a labelling pass. A file that fails is left out."""
    EVALUATE = 2
    """Clips at fixed times and crops, without augmentation. A file that fails is left out."""


class Request(NamedTuple):
    """A request for an item: row `video` of the index, in pass `number` of the kind `kind`."""

    video: int
    kind: Pass
    number: int


def describe_failures(failures: Iterable[tuple[str, str]]) -> str:
    """A sentence about videos that failed, from their paths and reasons: how many, and what to do."""
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
    """The V clips of a video: a single one, or the views of a plan in its order.

    Args:
        index: the row of the video.
        clips: "video" uint8 [V, T, H, W, 3] and "audio" float32 [V, n]; None if the video failed.
        draws: random values for the augmentation, float [V, DRAWS]; None without augmentation.
        failures: the files that failed before this one.
        values: random values of the plan's transformations on the device, float32 [levels, k] by name.
    """

    index: int
    clips: dict[str, np.ndarray] | None
    draws: np.ndarray | None
    failures: list[Failure]
    values: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Modality:
    """The source of a modality's clips: a decoded stream, and a function to apply in the decoding process.

    Args:
        stream: "video" (uint8 [V, T, H, W, 3]) or "audio" (float32 [V, n]).
        make: turns the decoded stream into clips.
    """

    stream: str
    make: Callable[[np.ndarray], np.ndarray] = lambda decoded: decoded


MODALITIES: dict[str, Modality] = {"video": Modality("video"), "audio": Modality("audio")}
"""The modalities that a run may have. Each also has a transform in `avssl.clips.transform` and an encoder in
`avssl.models.build`."""

ATTEMPTS = 10
"""Number of files tried for a training clip before the run ends."""


def no_watch(index: int) -> AbstractContextManager[None]:
    """A context that does nothing, used in place of `loader._Watch`."""
    return nullcontext()


class ClipDataset(Dataset):
    """Clips of the videos of an index. An item depends only on the seed and its `Request`.

    Args:
        rows: the rows of the index, as `read_index` returns them.
        root: the folder of the videos.
        config: how clips are cut and decoded.
        seed: random seed.
        composition: if given, a training item is the views of a video that it plans, decoded from one open file.
        modalities: the modalities to decode; by default those of the composition, or both.
        clips: number of evenly spaced clips of an evaluated video; a single one is in the middle.
        crops: number of crops per clip, evenly spaced along the longer side; a single one is in the middle. In an item,
            the crops of a clip follow one another.
        every: instead of `clips`: the time between clips of an evaluated video, from its beginning, s; 0: use `clips`.

    Raises:
        UserError: videos are too short for a clip or for the views, or have no audio.
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
        every: float = 0.0,
    ):
        self.clips, self.crops, self.every = clips, crops, every
        self.root, self.config, self.seed = Path(root), config, seed
        self.storage = open_storage(root)
        # columns and not lists: workers share their memory
        self.paths: Column[str] = Column(rows["path"])
        self.starts: Column[float] = Column(rows["window_start"])
        self.seconds: Column[float] = Column(rows["window_seconds"])
        stamped = {"size", "mtime_ns"} <= set(rows.column_names)  # the rows of an index are
        self.stamps: tuple[Column[int], Column[int]] | None = None
        if stamped:
            self.stamps = (Column(rows["size"]), Column(rows["mtime_ns"]))
        self.spec = ClipSpec.of(config)
        self.decoder = choose_decoder(config.decoder)
        if config.cache_mb and self.decoder != "pyav":
            raise UserError(f"clip.cache_mb={config.cache_mb:g} needs clip.decoder=pyav, not {self.decoder}")
        self.composition = composition
        self.excluded: dict[int, str] = {}
        """Videos that ended a decoding process, with the reason; they are not decoded again."""
        self.watch: Callable[[int], AbstractContextManager[None]] = no_watch
        """A context that surrounds the decoding of a video, see `loader.load`."""
        short = min((float(block.min(initial=np.inf)) for block in self.seconds.blocks()), default=np.inf)
        if short < self.spec.seconds * 0.75:
            raise UserError(
                f"{self._out_of(self._shorter_than(self.spec.seconds * 0.75))} are shorter "
                f"than a clip of {self.spec.seconds:g} s (the shortest is {short:.2f} s): "
                f"index again with data.min_seconds={self.spec.seconds:g}, or lower clip.frames"
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
        rates: Column[int] = Column(rows["audio_rate"])
        without_audio = sum(int((block == 0).sum()) for block in rates.blocks()) if "audio" in streams else 0
        if without_audio:
            raise UserError(
                f"{self._out_of(without_audio)} have no audio (data.require_sound=false keeps such videos): index "
                f"again with data.require_sound=true, or train on video alone"
            )
        if composition is not None:
            self._check_views(composition)

    def _check_views(self, composition: ClipPlan) -> None:
        needed = composition.required_seconds(self.spec.seconds)
        short = self._shorter_than(needed - 1e-6)
        if short:
            raise UserError(
                f"{self._out_of(short)} are shorter than the {needed:g} s that the run "
                f"needs of each ({composition.describe_views()}): index again with "
                f"data.min_seconds={needed:g} (and data.window_seconds, if you set it), or lower clip.frames and "
                f"clip.audio_seconds"
            )

    def _out_of(self, rows: int) -> str:
        return out_of(rows, len(self), self.paths.distinct())

    def _shorter_than(self, seconds: float) -> int:
        return sum(int((block < seconds).sum()) for block in self.seconds.blocks())

    def __len__(self) -> int:
        return len(self.paths)

    def source(self, index: int) -> Source:
        """The file of a row, to open it. Raises ClipError if the file has changed since it was indexed."""
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
                if index in self.excluded:
                    raise ClipError(self.excluded[index])
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
        return Item(index, self._clips(frames, clip.samples[None]), draw(rng, 1), failures)

    def evaluation_starts(self, index: int) -> list[float]:
        """The starts (s) of the clips of an evaluated video."""
        start, slack = float(self.starts[index]), max(0.0, float(self.seconds[index]) - self.spec.seconds)
        if self.every:
            return [start + number * self.every for number in range(int(slack / self.every + 1e-6) + 1)]
        return [start + place * slack for place in evenly_spaced(self.clips)]

    def _evaluation_clips(self, index: int, failures: list[Failure]) -> Item:
        starts, crops = self.evaluation_starts(index), evenly_spaced(self.crops)
        config, source = self.config, self.source(index)
        side = config.short_side_eval or config.short_side_min
        clips = self._read(source, starts, side)
        frames = []
        for clip in clips:
            landscape = clip.frames.shape[2] > clip.frames.shape[1]
            frames += [crop(clip.frames, self.config.crop, *((0.5, x) if landscape else (x, 0.5))) for x in crops]
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
        main = len(clips) - composition.further
        copies = [images for clip in clips[:main] for images in composition.copy(clip.frames)]
        copied = len(copies)
        copies += [clip.frames for clip in clips[main:]]
        places = rng.random((len(copies), 2))
        frames = [crop(images, config.crop, *place) for images, place in zip(copies, places, strict=True)]
        times = [composition.copies] * main + [1] * composition.further
        samples = np.stack([clip.samples for clip in clips]).repeat(times, axis=0)
        draws = draw(rng, len(copies))
        heard = draws[:copied].reshape(main, -1, DRAWS)[:, composition.heard_as].reshape(-1, DRAWS)
        draws[:copied, AUDIO_DRAWS] = heard[:, AUDIO_DRAWS]
        return Item(index, self._clips(np.stack(frames), samples), draws, failures, values)


def evenly_spaced(number: int) -> list[float]:
    """Evenly spaced numbers from 0 to 1; a single one is 0.5."""
    return [i / (number - 1) for i in range(number)] if number > 1 else [0.5]


def crop(frames: np.ndarray, size: int, row: float, column: float) -> np.ndarray:
    """A square of `size` pixels of frames [T, h, w, 3], contiguous in memory.

    `row` and `column` give its position: 0 is the top or left edge, 1 the bottom or right one.
    """
    _, height, width, colours = frames.shape
    top, left = round(row * (height - size)), round(column * (width - size))
    part = frames[:, top : top + size, left : left + size]
    if frames.strides[-1] == 1:
        return np.ascontiguousarray(part)
    square = np.empty(part.shape, part.dtype)
    for colour in range(colours):  # plane by plane, because NumPy then needs an eighth of the time
        square[..., colour] = part[..., colour]
    return square


def collate(items: list[Item], empty: Allocate = torch.empty) -> Batch:
    """A batch of the decoded items, with the failures of all items, in a block that `empty` makes."""
    decoded = [(item, item.clips) for item in items if item.clips is not None]
    failures = [failure for item in items for failure in item.failures]
    if not decoded:
        return Batch(torch.empty(0, dtype=torch.int64), {}, None, failures)
    parts: dict[tuple[str, str], list[np.ndarray]] = {("index", ""): [np.array([item.index]) for item, _ in decoded]}
    parts |= {("clips", name): [clips[name] for _, clips in decoded] for name in decoded[0][1]}
    if decoded[0][0].draws is not None:
        parts["draws", ""] = [item.draws for item, _ in decoded if item.draws is not None]
    parts |= {("values", name): [item.values[name][None] for item, _ in decoded] for name in decoded[0][0].values}
    shapes = {key: (sum(map(len, arrays)), *arrays[0].shape[1:]) for key, arrays in parts.items()}
    types = {"index": torch.int64, "draws": torch.float32}
    block, places = allocate(
        {key: (types.get(key[0]) or _dtype(parts[key][0]), shape) for key, shape in shapes.items()}, empty
    )
    for key, written in arrays_of(block, places).items():
        if key[0] == "draws":
            spread(np.concatenate(parts[key]), written)
        else:
            np.concatenate(parts[key], out=written)  # straight into its place, with one copy of each clip
    return unpack(block, places, failures)


def _dtype(array: np.ndarray) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype
