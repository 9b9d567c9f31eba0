"""Training batches of a detector: a function of the seed and the step, so that a resumed training sees the same."""

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np
import torch

from ..clips.decode import ClipSpec, read_clips
from ..core.errors import ClipError, UserError
from ..core.transfer import to_device
from ..videos.storage import Folder, Shards
from .training_frames import TrainingFrames

STILL = ClipSpec(frames=1, fps=25, audio_rate=16_000, audio_seconds=0)
"""A clip of a single frame."""

CACHE_BYTES = 512 << 20
"""Frames are kept if all of them take at most this much memory; else each is decoded when it is needed."""

AHEAD = 4
"""Batches that are decoded ahead of the step."""

TRIES = 20
"""Videos that are tried for a place in a batch before the training gives up."""

TIMEOUT = 60.0
"""Longest time of decoding a file, s."""


@dataclass
class Picture:
    """A training picture: uint8 [h, w, 3], boxes float32 [n, 4] in px, and labels int64 [n] from 1."""

    pixels: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class FrameReader:
    """Draws training pictures. Threads decode them, because PyAV releases Python's lock.

    Args:
        frames: what to train on.
        storage: the videos.
        short_side: short side of decoded frames, px.
        batch: pictures per step.
        seed: of the order and of the flips.
        flip: whether pictures are mirrored at random.
        threads: decoding threads.
    """

    def __init__(
        self, frames: TrainingFrames, storage: Folder | Shards, short_side: int, batch: int, seed: int, flip: bool,
        threads: int,
    ):  # fmt: skip
        self.frames, self.storage, self.short_side = frames, storage, short_side
        self.batch, self.seed, self.flip, self.threads = batch, seed, flip, max(1, threads)
        self.caches = len(frames.times) * short_side**2 * 16 / 9 * 3 <= CACHE_BYTES
        self.cache: dict[int, list[np.ndarray]] = {}
        self.failures: OrderedDict[str, str] = OrderedDict()
        """The reason for each video that could not be decoded."""
        self.lock = Lock()
        self.order = lru_cache(2)(self._order)

    def batches(self, start: int, stop: int) -> Iterator[list[Picture]]:
        """The batches of the steps from `start` to `stop`, decoded a few steps ahead."""
        with ThreadPoolExecutor(self.threads, "decode") as pool:
            waiting: list[list[Future[Picture]]] = []
            try:
                for step in range(start, stop):
                    while len(waiting) < AHEAD and step + len(waiting) < stop:
                        ahead = (step + len(waiting)) * self.batch
                        waiting.append([pool.submit(self.draw, ahead + i) for i in range(self.batch)])
                    yield [future.result() for future in waiting.pop(0)]
            finally:
                pool.shutdown(cancel_futures=True)

    def draw(self, number: int) -> Picture:
        """Picture `number` of the training. Every video comes once before any comes again; its moment is random.

        A video that cannot be decoded is replaced by a random one.

        Raises:
            UserError: one video after the other cannot be decoded.
        """
        videos = len(self.frames.paths)
        rng = np.random.default_rng([self.seed, 1, number])
        video = int(self.order(number // videos)[number % videos])
        for _ in range(TRIES):
            moment, mirrored = rng.random(), bool(rng.random() < 0.5)
            among = self.frames.of_video(video)
            frame = among.start + int(moment * (among.stop - among.start))
            pixels = self.pixels(video, frame)
            if pixels is not None:
                return self._picture(frame, pixels, self.flip and mirrored)
            video = int(rng.integers(videos))
        path, why = next(iter(self.failures.items()))
        raise UserError(f"{TRIES} videos in a row cannot be decoded, such as {path} ({why}): check the folder")

    def pixels(self, video: int, frame: int) -> np.ndarray | None:
        """A decoded frame, uint8 [h, w, 3]; None if the video cannot be decoded."""
        among = self.frames.of_video(video)
        kept = self.cache.get(video)
        if kept is not None:
            return kept[frame - among.start]
        path = self.frames.paths[video]
        if path in self.failures:
            return None
        wanted = range(among.start, among.stop) if self.caches else range(frame, frame + 1)
        times = [float(self.frames.times[i]) for i in wanted]
        try:
            clips = read_clips(self.storage.locate(path), times, STILL, self.short_side, limit=TIMEOUT)
        except (ClipError, OSError, UserError) as error:
            with self.lock:
                self.failures[path] = str(error) or type(error).__name__
            return None
        decoded = [np.ascontiguousarray(clip.frames[0]) for clip in clips]
        if self.caches:
            self.cache[video] = decoded
        return decoded[frame - wanted.start]

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.frames.paths))

    def _picture(self, frame: int, pixels: np.ndarray, mirrored: bool) -> Picture:
        rows = self.frames.of_frame(frame)
        height, width = pixels.shape[:2]
        boxes = self.frames.boxes[rows]
        if mirrored:
            pixels, boxes = pixels[:, ::-1], np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
        scale = np.array([width, height, width, height], np.float32)
        return Picture(pixels, boxes * scale, self.frames.labels[rows] + 1)


def as_tensors(pictures: list[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Pictures uint8 [h, w, 3] for a detector: float32 [3, h, w] in [0, 1], on the device."""
    moved = [to_device(torch.from_numpy(np.ascontiguousarray(x)), device) for x in pictures]
    return [x.permute(2, 0, 1).float().div_(255) for x in moved]


def targets_of(pictures: list[Picture], device: torch.device) -> list[dict[str, torch.Tensor]]:
    """The boxes and labels of pictures, as torchvision's detectors take them."""
    return [
        {
            "boxes": to_device(torch.from_numpy(np.ascontiguousarray(x.boxes, np.float32)), device),
            "labels": to_device(torch.from_numpy(np.ascontiguousarray(x.labels)), device),
        }
        for x in pictures
    ]
