"""The exact boxes and masks of the digits in a sample: `boxes.csv`, and `masks/`."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from ..core.atomic import atomic_path
from ..core.csv_cells import quoted
from .plan import SampleVideo

BOX_COLUMNS = ("path", "frame", "time", "digit", "sounding", "x0", "y0", "x1", "y1", "class")
VISIBLE = 0.5
"""A pixel belongs to a digit if the digit covers at least this share of it, rim included."""


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """The tight box of every mask, x0, y0, x1, y1 as fractions of the picture; NaN for an empty mask.

    Args:
        masks: bool [..., height, width].

    Returns:
        float64 [..., 4].
    """
    sides = []
    for other_axis in (-2, -1):
        line = np.asarray(masks.any(axis=other_axis))
        length = line.shape[-1]
        sides.append((line.argmax(axis=-1) / length, 1 - line[..., ::-1].argmax(axis=-1) / length))
    (x0, x1), (y0, y1) = sides
    boxes = np.stack([x0, y0, x1, y1], axis=-1)
    boxes[~masks.any(axis=(-2, -1))] = np.nan
    return boxes


class BoxTable(Protocol):
    """Writes the boxes of a video."""

    def __call__(self, video: SampleVideo, boxes: np.ndarray) -> None: ...


@contextmanager
def box_table(root: Path, fps: float) -> Iterator[BoxTable]:
    """A context that writes `boxes.csv`: a row for each digit and frame, when all videos have been added.

    It yields a function of a video and of its boxes, float [digits, frames, 4]. A frame in which a digit has no pixel
    gets no row.

    Args:
        root: the folder of the sample.
        fps: frames a second.
    """
    with atomic_path(root / "boxes.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(BOX_COLUMNS)

        def add(video: SampleVideo, boxes: np.ndarray) -> None:
            path = quoted(video.path.relative_to(root).as_posix())
            for (digit, kind, sounding), track in zip(video.digits, boxes.tolist(), strict=True):
                for frame, box in enumerate(track):
                    if box[0] == box[0]:  # no NaN
                        sides = (round(side, 6) for side in box)
                        rows.writerow((path, frame, round(frame / fps, 6), digit, int(sounding), *sides, quoted(kind)))

        yield add


def mask_path(root: Path, video: SampleVideo) -> Path:
    """The file of a video's masks."""
    return root / "masks" / video.path.relative_to(root).with_suffix(".npz")


def write_masks(path: Path, video: SampleVideo, masks: np.ndarray) -> None:
    """Write the masks of a video.

    Args:
        path: the file. It contains `bits` (the masks, packed by `numpy.packbits`), `shape` (digits, frames, height,
            width), `digits` int [digits] and `sounding` bool [digits].
        video: the video.
        masks: bool [digits, frames, height, width].
    """
    digits = np.array([digit for digit, _, _ in video.digits], np.int64)
    sounding = np.array([heard for _, _, heard in video.digits], bool)
    with atomic_path(path) as part:
        np.savez_compressed(
            part, bits=np.packbits(masks), shape=np.array(masks.shape), digits=digits, sounding=sounding
        )


def read_masks(path: Path) -> np.ndarray:
    """The masks that `write_masks` wrote: bool [digits, frames, height, width], in the order of `boxes.csv`."""
    with np.load(path) as file:
        shape = tuple(int(side) for side in file["shape"])
        return np.unpackbits(file["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)
