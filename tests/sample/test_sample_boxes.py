"""Boxes and masks say exactly where the digits of the files are."""

import csv
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from avssl.config import FoldersConfig, SampleConfig
from avssl.core.errors import UserError
from avssl.sample.boxes import read_masks, tight_boxes
from avssl.sample.plan import plan_videos, settings_of
from avssl.sample.videos import Picture, make_sample
from avssl.videos.layout import scan


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def content(folder: Path, pattern: str) -> dict[str, tuple[bytes, int]]:
    return {p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob(pattern)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pairs") / "s"
    config = SampleConfig(out=str(out), classes=3, train=2, test=1, distractors=1, masks=True, workers=1)
    return make_sample(config)


def decoded(path: Path) -> np.ndarray:
    """The frames of a file, grey: float [n, height, width]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)])


def test_tight_boxes_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((40, 6, 9)) < rng.uniform(0, 0.2, (40, 1, 1))
    masks[0] = False
    for mask, box in zip(masks, tight_boxes(masks), strict=True):
        y, x = np.nonzero(mask)
        expected = [x.min() / 9, y.min() / 6, (x.max() + 1) / 9, (y.max() + 1) / 6] if len(x) else [np.nan] * 4
        np.testing.assert_allclose(box, expected)
    assert np.isnan(tight_boxes(masks)[0]).all()
    np.testing.assert_array_equal(tight_boxes(np.ones((4, 8), bool)), [0, 0, 1, 1])


def test_every_digit_and_frame_has_a_row(pairs: Path) -> None:
    labels, boxes = rows(pairs / "labels.csv"), rows(pairs / "boxes.csv")
    counts = Counter((row["path"], row["class"], row["sounding"]) for row in boxes)
    for row in labels:
        frames = round(float(row["seconds"]) * 15)
        assert counts.pop((row["path"], row["class"], "1")) == frames
        assert counts.pop((row["path"], row["distractor"], "0")) == frames
        assert row["distractor"] != row["class"]
        assert (row["second"], row["negative"]) == ("", "")
    assert not counts
    for row in boxes:
        assert float(row["time"]) == pytest.approx(int(row["frame"]) / 15, abs=1e-6)
        assert row["class"] == f"digit_{row['digit']}"
        x0, y0, x1, y1 = (float(row[side]) for side in ("x0", "y0", "x1", "y1"))
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


def test_what_stands_out_in_the_files_is_in_the_boxes(pairs: Path) -> None:
    """Digits are the only pixels far from grey; they lie in the boxes, and reach the boxes' sides."""
    boxes = rows(pairs / "boxes.csv")
    for label in rows(pairs / "labels.csv")[::4]:
        grey = decoded(pairs / label["path"])
        far = np.abs(grey - 128) > 75
        masks = read_masks((pairs / "masks" / label["path"]).with_suffix(".npz"))
        assert masks.shape == (2, *grey.shape)
        assert far[~masks.any(axis=0)].mean() < 0.01
        ours = [row for row in boxes if row["path"] == label["path"]]
        for row in ours[::9]:
            box = np.array([float(row[side]) for side in ("x0", "y0", "x1", "y1")])
            digit = 0 if row["sounding"] == "1" else 1
            mask = masks[digit, int(row["frame"])]
            np.testing.assert_allclose(tight_boxes(mask), box, atol=1e-6)
            seen = tight_boxes(far[int(row["frame"])] & mask)
            assert np.abs(seen - box).max() < 0.08  # the rim is soft, and H.264 blurs it
    assert len(scan(FoldersConfig(root=str(pairs)))) == 9  # masks are no videos


def test_an_older_sample_gets_boxes_and_keeps_its_videos(tmp_path: Path) -> None:
    """Its note has none of the newer options, and it may be completed, but not with other videos."""
    root = tmp_path / "s"
    config = SampleConfig(out=str(root), classes=3, train=1, test=1, workers=1)
    assert not {"distractors", "sources", "negatives", "masks"} & settings_of(config).keys()
    make_sample(config)
    boxes = (root / "boxes.csv").read_bytes()
    (root / "boxes.csv").unlink()
    before = content(root, "*.mp4")
    config.masks = True
    make_sample(config)
    assert (root / "boxes.csv").read_bytes() == boxes
    assert content(root, "*.mp4") == before
    masks = content(root, "*.npz")
    assert len(masks) == len(before) == 6
    lost = root / "masks" / "test" / "digit_1" / "digit_1_0000.npz"
    lost.unlink()
    make_sample(config)
    after = content(root, "*.npz")
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in masks.items()}
    assert (root / "boxes.csv").read_bytes() == boxes
    config.distractors = 1
    with pytest.raises(UserError, match="contains a sample with distractors=None, not 1: choose another folder"):
        make_sample(config)


def test_a_sample_with_distractors_is_not_completed_without(pairs: Path) -> None:
    assert json.loads((pairs / "sample.json").read_text())["distractors"] == 1
    with pytest.raises(UserError, match="contains a sample with distractors=1, not 0: choose another folder"):
        make_sample(SampleConfig(out=str(pairs), classes=3, train=2, test=1))
    assert settings_of(SampleConfig(distractors=0.5, sources=1.5)).items() >= {("distractors", 0.5), ("sources", 1.5)}


def test_a_video_that_is_lost_is_made_again(pairs: Path) -> None:
    before = {pattern: content(pairs, pattern) for pattern in ("*.mp4", "*.npz", "*.csv")}
    lost = pairs / "train" / "digit_2" / "digit_2_0001.mp4"
    lost.unlink()
    make_sample(SampleConfig(out=str(pairs), classes=3, train=2, test=1, distractors=1))
    for pattern, files in before.items():
        assert {n: d for n, (d, _) in content(pairs, pattern).items()} == {n: d for n, (d, _) in files.items()}


def test_boxes_of_a_reversed_video_are_reversed(tmp_path: Path) -> None:
    """With a direction, the box rises if the label says so."""
    config = SampleConfig(direction=True, classes=2, train=6, test=0)
    videos = plan_videos(config, tmp_path)
    assert {video.backwards for video in videos} == {True, False}
    for video in videos:
        tops = tight_boxes(Picture(video, config).masks())[0, :, 1]
        assert (tops[-1] < tops[0]) == (video.direction == "rises")
