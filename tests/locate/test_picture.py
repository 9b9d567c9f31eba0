"""Boxes in a crop are placed in the whole picture: of landscape videos, and of those that a phone turned."""

from pathlib import Path

import numpy as np
import pytest

from avssl.clips.dataset import crop
from avssl.clips.decode import ClipSpec, read_clips
from avssl.config import ClipConfig
from avssl.locate.picture import crop_extent, crop_extents, to_crop, to_picture
from avssl.videos.probe import ProbeRequest, probe
from tests.media.make_media import noise, turned, write_media

CLIP = ClipConfig(frames=2, fps=5.0, crop=24, short_side_min=32, short_side_max=40)


def bright_in_crop(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The tight box of the bright pixels of an evaluation clip, as fractions of its crop, and the crop's extent."""
    (clip,) = read_clips(path, [0.2], ClipSpec(2, 5.0, 16000, 0.4), CLIP.short_side_min)
    bright = crop(clip.frames, CLIP.crop, 0.5, 0.5)[0].mean(-1) > 128
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / CLIP.crop
    found = probe(ProbeRequest(path, False, -60))
    return box, np.array(crop_extent(found["width"], found["height"], CLIP))


def test_a_landscape_video(tmp_path):
    image = np.full((72, 128, 3), 20, np.uint8)
    image[30:54, 48:88] = 235
    path = write_media(tmp_path / "wide.mp4", [i / 15 for i in range(23)], [image] * 23, noise(16000, 1.5), 16000)
    box, extent = bright_in_crop(path)
    assert to_picture(box, extent) == pytest.approx([48 / 128, 30 / 72, 88 / 128, 54 / 72], abs=1 / 32)
    assert to_crop(to_picture(box, extent), extent) == pytest.approx(box)


def test_a_video_that_a_phone_turned(tmp_path):
    box, extent = bright_in_crop(turned(tmp_path / "phone.mp4"))  # its upper half is white
    assert extent[3] - extent[1] < extent[2] - extent[0]  # it is upright
    assert to_picture(box, extent) == pytest.approx([extent[0], extent[1], extent[2], 0.5], abs=1 / 32)


def test_extents_of_many_pictures_and_boxes_outside_the_crop():
    sizes = np.array([[128, 72], [72, 128], [128, 72], [50, 50]])
    extents = crop_extents(*sizes.T, CLIP)
    assert extents.tolist() == [list(crop_extent(w, h, CLIP)) for w, h in sizes.tolist()]
    low, high = extents[:, :2], extents[:, 2:]
    assert ((low >= 0) & (high <= 1) & (low < high)).all()
    assert np.allclose((low + high) / 2, 0.5, atol=1 / 32)
    x0, y0, x1, y1 = to_crop(np.array([0.0, 0.0, extents[0, 0] / 2, 1.0]), extents[0])
    assert x0 == x1 == 0
    assert (y0, y1) == (0, 1)
