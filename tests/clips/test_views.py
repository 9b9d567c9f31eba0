"""The views of a composition: decoded from one open file, as much of it as they name and no more."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avssl.clips.dataset import ClipDataset, Pass, Request, collate, crop
from avssl.clips.decode import ClipSpec, read_clips
from avssl.clips.loader import load, train_requests
from avssl.clips.transform import DeviceTransform
from avssl.config import ClipConfig, DataConfig, IndexConfig
from avssl.contrast.axes import AXES, Reversal
from avssl.contrast.composition import Composition, preset
from avssl.core.errors import ClipError, UserError
from avssl.videos.index import index_videos, read_index
from avssl.videos.media import Media
from tests.conftest import write_video

CLIP = ClipConfig(frames=4, fps=4, short_side_min=38, short_side_max=42, crop=36, audio_seconds=1.0)
BASE = {"sample": "distinct", "modality": "invariant"}
SPEC = ClipSpec(frames=8, fps=8.0, audio_rate=24000, audio_seconds=1.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(4):
        write_video(root / f"{i}.mp4", seconds=2.3 + 0.1 * i, fps=10.0)
    index_videos(IndexConfig(DataConfig(root=str(root), index=str(root / "index")), workers=1))
    return root


def dataset(root, composition, clip=CLIP):
    return ClipDataset(read_index(root / "index", "all"), root, clip, 1, composition)


def moments(frames):
    """The time of every frame (s), from the ramp of brightness: frame k of the file has 10 k, at 10 frames a second."""
    return frames.mean((-1, -2, -3)) / 100


def pitch(samples, rate=24000):
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


def test_a_faster_clip_takes_more_of_the_file_and_sounds_higher(root):
    normal, double, slow = read_clips(root / "0.mp4", [0.1, 0.1, 0.1], SPEC, 48, [1.0, 2.0, 0.8])
    assert normal.frames.shape == double.frames.shape == slow.frames.shape
    assert len(normal.samples) == len(double.samples) == len(slow.samples) == 24000
    for clip, speed in ((normal, 1.0), (double, 2.0), (slow, 0.8)):
        assert np.abs(moments(clip.frames) - (0.1 + speed * np.arange(8) / 8)).max() < 0.09
        assert pitch(clip.samples) == pytest.approx(440 * speed, rel=0.01)
    (alone,) = read_clips(root / "0.mp4", [0.1], SPEC, 48)
    assert (alone.frames == normal.frames).all()
    assert (alone.samples == normal.samples).all()


def test_a_stream_that_is_not_asked_for_is_not_decoded(root, monkeypatch):
    decoded = set()
    original = Media.decode

    def spy(media, packet, stream):
        decoded.add(stream.type)
        return original(media, packet, stream)

    monkeypatch.setattr(Media, "decode", spy)
    for start in (0.0, 1.2):
        for spec, kind in ((ClipSpec(8, 8.0, 24000, 0.0), "video"), (ClipSpec(0, 8.0, 24000, 1.0), "audio")):
            decoded.clear()
            (clip,) = read_clips(root / "0.mp4", [start], spec, 48)
            assert decoded == {kind}
            assert (len(clip.frames), len(clip.samples)) == ((8, 0) if kind == "video" else (0, 24000))
    with pytest.raises(ClipError, match="missing"):
        read_clips(root / "0.mp4", [2.1], ClipSpec(8, 8.0, 24000, 0.0), 48)


@pytest.mark.parametrize("number", range(1, 10))
def test_presets_from_files_to_clips(root, number, monkeypatch):
    opened = []
    original = Media.__init__

    def note(self, path, need_sound=True, limit=None, quick=False):
        opened.append(path)
        original(self, path, need_sound, limit, quick)

    monkeypatch.setattr(Media, "__init__", note)
    composition = Composition(**preset(number))
    data = dataset(root, composition)
    batch = collate([data[Request(i, Pass.TRAIN, 0)] for i in (2, 0)])
    plan = composition.plan(2)
    assert len(opened) == 2
    assert len(batch.clips["video"]) == len(batch.clips["audio"]) == 2 * plan.decoded_per_video == len(batch.draws.flip)
    assert batch.index.tolist() == [2, 0]
    transform = DeviceTransform(CLIP, torch.device("cpu"))
    video, sound = composition.expand(transform(batch), batch.values).values()
    assert len(video) + len(sound) == plan.encoded == len(composition.codes(batch.index))
    if composition.role("reversal"):
        assert torch.equal(video[1], video[0].flip(1))
        assert torch.equal(sound[1], sound[0].flip(2))
    if composition.role("time_shift"):
        first, last = moments(batch.clips["video"][0].float().numpy()), moments(batch.clips["video"][1].float().numpy())
        apart = 1.0 if composition.role("time_shift") == "distinct" else 0.0
        assert last[0] - first[0] > apart - 0.1


def test_views_are_a_function_of_the_request(root):
    composition = Composition(BASE | {"time_shift": "invariant", "crop": "invariant", "augmentation": "invariant"})
    data = dataset(root, composition)
    requests = [train_requests(4, 3, 1, step) for step in range(2)]
    for batch, asked in zip(load(data, requests, 2), requests, strict=True):
        alone = [collate([data[r]]) for r in asked]
        for name in ("video", "audio"):
            assert torch.equal(batch.clips[name], torch.cat([b.clips[name] for b in alone]))
        assert torch.equal(batch.values["crop"], torch.cat([b.values["crop"] for b in alone]))
        assert len(batch.clips["video"]) == 3 * 4


def test_copies_are_cropped_and_augmented_anew(root):
    composition = Composition(
        {"sample": "distinct", "augmentation": "invariant"}, compare="within_modal", modalities=("video",)
    )
    batch = collate([dataset(root, composition)[Request(i, Pass.TRAIN, 0)] for i in range(4)])
    assert {name: len(x) for name, x in batch.clips.items()} == {"video": 8}
    assert (batch.draws.flip[::2] != batch.draws.flip[1::2]).all()
    frames = batch.clips["video"].numpy()
    assert np.allclose(moments(frames[::2]), moments(frames[1::2]), atol=0.02)


def test_frames_that_are_reversed_before_augmentation_have_draws_of_their_own(root):
    """Crop, flip and jitter are drawn for each copy; the sound is augmented once, and its spectrogram reversed."""
    reverse = tuple(Reversal(stage="augment") if a.name == "reversal" else a for a in AXES)
    axes = {"time_shift": "distinct", "reversal": "distinct", "augmentation": "invariant"}
    composition = Composition(BASE | axes, known=reverse)
    assert composition.plan(1) == (2, 16, 16)
    clip = replace(CLIP, time_mask=30, freq_mask=20)
    batch = collate([dataset(root, composition, clip)[Request(i, Pass.TRAIN, 0)] for i in range(4)])
    assert len(batch.clips["video"]) == len(batch.draws.flip) == 4 * 8
    forwards, backwards = batch.clips["video"][::2].numpy(), batch.clips["video"][1::2].numpy()
    assert np.allclose(moments(forwards), moments(backwards[:, ::-1]), atol=0.02)
    assert (np.diff(moments(backwards), axis=1) < 0).all()
    assert (batch.draws.flip[::2] != batch.draws.flip[1::2]).all()
    assert torch.equal(batch.draws.time_place[::2], batch.draws.time_place[1::2])
    assert len(batch.draws.time_place.unique()) == 4 * 4
    inputs = DeviceTransform(clip, torch.device("cpu"))(batch)
    video, sound = composition.expand(inputs, batch.values).values()
    assert torch.equal(video, inputs["video"])
    assert torch.equal(sound[::2], inputs["audio"][::2])
    assert torch.equal(sound[1::2], sound[::2].flip(-1))
    assert len(video) + len(sound) == len(composition.codes(batch.index))


def test_a_video_is_evaluated_at_the_short_side_that_is_asked_for(root):
    for side in (0, 36, 60):
        data = dataset(root, None, replace(CLIP, short_side_eval=side))
        start = (data.seconds[0] - data.spec.seconds) / 2
        (clip,) = read_clips(root / "0.mp4", [start], data.decoded_spec, side or 38)
        expected = crop(clip.frames, 36, 0.5, 0.5)
        assert (data[Request(0, Pass.EVALUATE, 0)].clips["video"][0] == expected).all()
    assert min(clip.frames.shape[1:3]) == 60


def test_labels_and_evaluation_take_one_clip(root):
    data = dataset(root, Composition(**preset(9)))
    for kind in (Pass.LABEL, Pass.EVALUATE):
        batch = collate([data[Request(0, kind, 0)]])
        assert len(batch.clips["video"]) == 1
        assert batch.values == {}


def test_videos_too_short_for_the_views_are_one_clear_line(root):
    with pytest.raises(UserError, match=r"4 of 4 videos .* shorter than the 3 s .*time_shift distinct.*min_seconds=3"):
        dataset(root, Composition(**preset(4)), ClipConfig(frames=6, fps=4, audio_seconds=1.5))
    report = index_videos(IndexConfig(DataConfig(root=str(root), index=str(root / "index")), clip_seconds=1.25))
    assert report.short == 2  # of 2.3, 2.4, 2.5 and 2.6 s
