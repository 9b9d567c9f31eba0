"""Two digits stand side by side so that only the audio tells which one sounds, and so that the measures can."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avssl.config import SampleConfig
from avssl.sample.boxes import tight_boxes
from avssl.sample.plan import SampleVideo, plan_videos
from avssl.sample.sound import INSTRUMENTS, record, synthesise
from avssl.sample.videos import Picture, label_row, make_audio, make_video

SIDE = 224
"""The measures of sound localisation compare maps of this size."""


def boxes_of(videos: list[SampleVideo], config: SampleConfig) -> list[np.ndarray]:
    return [tight_boxes(Picture(video, config).masks()) for video in videos]


def area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None), axis=-1)


def filled(box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = np.round(box * SIDE).astype(int)
    result = np.zeros((SIDE, SIDE), bool)
    result[y0:y1, x0:x1] = True
    return result


def iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    return (prediction & truth).sum() / (truth.sum() + (prediction & ~truth).sum())


@pytest.mark.parametrize("options", [{"distractors": 1}, {"sources": 2, "size": 96}])
def test_the_measures_can_tell(options: dict, tmp_path: Path) -> None:
    """A perfect map reaches an IoU of 0.5, and neither the centre of the picture nor the other digit does."""
    config = SampleConfig(train=4, test=0, fps=5, **options)
    boxes = boxes_of(plan_videos(config, tmp_path), config)
    areas = np.concatenate([area(one).ravel() for one in boxes])
    assert areas.min() > 0.28
    assert areas.max() < 0.44
    assert np.mean((areas > 0.3) & (areas < 0.42)) > 0.97
    for first, second in boxes:
        both = np.concatenate([np.maximum(first, second)[:, :2], np.minimum(first, second)[:, 2:]], axis=1)
        assert (area(both) == 0).all()  # they never overlap
    edge = round(SIDE * (1 - np.sqrt(0.5)) / 2)
    centre = filled(np.array([edge, edge, SIDE - edge, SIDE - edge]) / SIDE)
    assert centre.mean() == pytest.approx(0.5, abs=0.01)
    for digits in boxes:
        for frame in (0, len(digits[0]) // 2):
            truth, other = (filled(one[frame]) for one in digits)
            assert iou(centre, truth) < 0.45
            assert 0.55 < truth.mean() / 0.5 < 0.9  # the IoU of the best half of the pixels
            assert iou(other, truth) == 0


def test_only_the_audio_tells_which_one_sounds(tmp_path: Path) -> None:
    """Place, size, handwriting and class of the two digits have the same distributions."""
    config = SampleConfig(classes=5, train=300, test=0, distractors=1)
    videos = plan_videos(config, tmp_path)
    assert all(video.second.digit != video.digit for video in videos)
    for digit in range(5):
        beside = Counter(v.second.digit for v in videos if v.digit == digit)
        assert len(beside) == 4
        assert min(beside.values()) > 50  # of 75
        sources = [Counter(v.source for v in videos if v.digit == digit),
                   Counter(v.second.source for v in videos if v.second.digit == digit)]  # fmt: skip
        assert len(sources[0].keys() & sources[1].keys()) > 80
    config.train = 30
    few = plan_videos(config, tmp_path)
    first, second = np.array(boxes_of([replace(v, frames=1) for v in few], config))[:, :, 0].swapaxes(0, 1)
    left = first[:, 0] + first[:, 2] < second[:, 0] + second[:, 2]
    above = first[:, 1] + first[:, 3] < second[:, 1] + second[:, 3]
    beside_each_other = (first[:, 2] <= second[:, 0]) | (second[:, 2] <= first[:, 0])
    assert 0.35 < beside_each_other.mean() < 0.65
    assert 0.35 < left[beside_each_other].mean() < 0.65
    assert 0.35 < above[~beside_each_other].mean() < 0.65
    assert area(first).mean() == pytest.approx(area(second).mean(), rel=0.03)


@pytest.mark.parametrize("options", [{"distractors": 1}, {"sources": 2}])
def test_splits_share_no_handwriting(options: dict, tmp_path: Path) -> None:
    videos = plan_videos(SampleConfig(train=90, test=40, **options), tmp_path)
    sources = {
        split: {source for v in videos if v.split == split for source in (v.source, v.second.source)}
        for split in ("train", "test")
    }
    assert not sources["train"] & sources["test"]


def test_rare_classes_are_rare_distractors(tmp_path: Path) -> None:
    videos = plan_videos(SampleConfig(train=200, test=0, distractors=1, longtail=1.0), tmp_path)
    beside = Counter(v.second.digit for v in videos)
    assert beside[0] > 3 * beside[9]


def test_digits_move_smoothly(tmp_path: Path) -> None:
    config = SampleConfig(train=2, test=0, distractors=1)
    boxes = np.concatenate([one.swapaxes(0, 1)[:20] for one in boxes_of(plan_videos(config, tmp_path), config)], 1)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert np.abs(np.diff(centres, axis=0)).max() < 0.06
    assert np.median(np.ptp(centres, axis=0).max(axis=-1)) > 0.03


def test_two_sources_are_both_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixture has both sounds, neither of them more than a little louder, and the second one is its digit's."""
    config = SampleConfig(train=2, test=0, sources=2)
    played, mixed = [], []

    def play(rng, instrument, seconds, rate, glide):
        wave = synthesise(rng, instrument, seconds, rate, glide)
        played.append((INSTRUMENTS.index(instrument), wave / np.sqrt(np.mean(wave**2))))
        return wave

    def keep(rng, wave, rate):
        mixed.append(wave)
        return record(rng, wave, rate)

    monkeypatch.setattr("avssl.sample.videos.synthesise", play)
    monkeypatch.setattr("avssl.sample.videos.record", keep)
    for video in plan_videos(config, tmp_path)[::3]:
        played.clear()
        samples = make_audio(video, config)
        assert [heard for _, _, heard in video.digits] == [True, True]
        assert [sound for sound, _ in played] == [video.digit, video.second.digit]
        levels = np.linalg.lstsq(np.stack([wave for _, wave in played], 1), mixed[-1], rcond=None)[0]
        assert levels[0] == pytest.approx(1, abs=1e-3)
        assert 0.7 < levels[1] < 1.42
        assert 0.05 < np.abs(samples).max() <= 1


def test_a_mixture_has_videos_of_each_kind(tmp_path: Path) -> None:
    """Its videos with a distractor, and those with two sources, are the ones of samples that have nothing else."""
    mixed = plan_videos(SampleConfig(classes=5, train=60, test=0, distractors=0.5, sources=1.25), tmp_path)
    kinds = [sum(heard for _, _, heard in video.digits) if video.second else 0 for video in mixed]
    assert [0.42 < kinds.count(1) / 300 < 0.58, 0.18 < kinds.count(2) / 300 < 0.32] == [True, True]
    for kind, options in ((0, {}), (1, {"distractors": 1}), (2, {"sources": 2})):
        alone = plan_videos(SampleConfig(classes=5, train=60, test=0, **options), tmp_path)
        same = [(one.digits, one.source, one.frames) == (other.digits, other.source, other.frames)
                for one, other, which in zip(mixed, alone, kinds, strict=True) if which == kind]  # fmt: skip
        assert same
        assert all(same)
    assert len({video.kind for video, kind in zip(mixed, kinds, strict=True) if kind == 1}) == 5  # each sounds alone


def test_negatives(tmp_path: Path) -> None:
    """Their share, what is heard, what is seen, and their rows; the other videos are those without negatives."""
    config = SampleConfig(classes=5, train=60, test=0, distractors=1, negatives=0.3)
    videos = plan_videos(config, tmp_path)
    kinds = Counter(video.negative for video in videos)
    assert sum(kinds.values()) == 300
    assert 0.2 < 1 - kinds.pop("") / 300 < 0.4
    assert set(kinds) == {"silence", "noise", "offscreen"}
    assert min(kinds.values()) > 15
    plain = plan_videos(replace(config, negatives=0.0), tmp_path)
    assert [v.seed for v in plain] == [v.seed for v in videos]
    chosen = {video.negative: number for number, video in enumerate(videos)}
    cells = {}
    for kind, number in chosen.items():
        video = videos[number]
        frames, samples = make_video(video, config)
        theirs = make_video(plain[number], config)
        assert np.array_equal(samples, theirs[1]) == (kind in ("", "offscreen"))
        assert np.array_equal(frames, theirs[0]) == (kind != "offscreen")
        assert any(heard for _, _, heard in video.digits) == (kind == "")
        assert len(video.digits) == len(Picture(video, config).masks()) == (1 if kind == "offscreen" else 2)
        assert video.digits[-1][:2] == (video.second.digit, video.second.kind)
        assert (np.abs(samples).max() < 0.02) == (kind == "silence")
        cells[kind] = label_row(tmp_path, video, config)
    assert [bool(str(cells[kind][3])) for kind in ("", "silence", "noise", "offscreen")] == [True, True, True, False]
    assert [bool(str(cells[kind][4])) for kind in ("", "silence", "noise", "offscreen")] == [True, False, False, True]
    assert all(row[-1] == kind and row[10] for kind, row in cells.items())


@pytest.mark.parametrize("options", [{}, {"sources": 2}])
def test_a_picture_without_digits(options: dict, tmp_path: Path) -> None:
    """Without distractors, a sound off screen leaves an empty background, and no boxes."""
    config = SampleConfig(classes=3, train=12, test=0, negatives=1.0, **options)
    video = next(v for v in plan_videos(config, tmp_path) if v.negative == "offscreen")
    frames, samples = make_video(video, config)
    assert np.mean(np.abs(frames.astype(int) - 128) > 75) < 0.01
    assert np.abs(samples).max() > 0.05
    assert tight_boxes(Picture(video, config).masks()).shape == (0, video.frames, 4)
