"""Small clips: what is cut out of decoded clips, and where."""

import numpy as np
import pytest
import torch

from avssl.clips.augment import DRAWS, Draws
from avssl.clips.batch import Batch
from avssl.clips.transform import DeviceTransform
from avssl.config import ClipConfig
from avssl.config.crops import CropsConfig
from avssl.contrast.axes import ClipRequest
from avssl.contrast.view_plan import GroupInput
from avssl.objectives.small_views import PLACES, SmallViews, cut_audio, cut_frames

CLIP = ClipConfig(
    frames=4, fps=4.0, crop=32, short_side_min=36, short_side_max=40, audio_rate=4000, mels=20, color_jitter=0.4
)
GROUP = SmallViews(clips=3, side=16, frames=2, samples=2000)


def batch_of(videos: list[int], clips: int = 2) -> tuple[Batch, torch.Tensor]:
    """A batch of decoded clips and the values of its small clips; each video's are a function of its number."""
    frames, audio, values = [], [], []
    for video in videos:
        rng = np.random.default_rng(video)
        frames.append(rng.integers(0, 256, (clips, 4, 32, 32, 3), dtype=np.uint8))
        audio.append(rng.standard_normal((clips, 4000)).astype(np.float32) / 10)
        values.append(GROUP.sample(rng, 3.0, 1.0, ClipRequest(0.0))[1])
    stacked = {"video": torch.from_numpy(np.concatenate(frames)), "audio": torch.from_numpy(np.concatenate(audio))}
    draws = Draws(torch.rand(clips * len(videos), DRAWS))
    return Batch(torch.tensor(videos), stacked, draws, []), torch.from_numpy(np.stack(values))


def small_of(videos: list[int], clips: int = 2, config: ClipConfig = CLIP) -> dict[str, torch.Tensor]:
    raw, values = batch_of(videos, clips)
    transform = DeviceTransform(config, torch.device("cpu"))
    return GROUP.expand(GroupInput({}, {}, {}, values, raw, transform))


def test_the_shapes_and_the_order_are_video_by_video():
    small = small_of([5, 8])
    assert small["video"].shape == (6, 3, 2, 16, 16)
    assert small["audio"].shape[:2] == (6, 1)
    assert small["audio"].shape[3] < DeviceTransform(CLIP, torch.device("cpu"))(batch_of([5])[0])["audio"].shape[3]
    for name, x in small_of([8]).items():
        assert torch.equal(small[name][3:], x), name


@pytest.mark.parametrize("videos", [[5, 8, 2], [2, 5], [8, 1, 3, 4, 2, 5, 6]])
def test_a_small_clip_is_the_same_in_every_batch(videos):
    """It depends on the video's first clip and its own random values alone."""
    for name, x in small_of(videos).items():
        for number, video in enumerate(videos):
            alone = small_of([video])[name]
            assert torch.equal(x.unflatten(0, (-1, 3))[number], alone), (name, video)


def test_small_clips_are_augmented_with_values_of_their_own():
    plain = ClipConfig(**{**vars(CLIP), "flip": False, "color_jitter": 0.0, "volume_jitter": 0.0})
    changed = [
        not torch.equal(a, b) for a, b in zip(*(small_of([5], config=x)["video"] for x in (CLIP, plain)), strict=True)
    ]
    assert all(changed)
    _, values = batch_of([5])
    assert values.shape == (1, 3, len(PLACES) + DRAWS)
    strengths = values[..., len(PLACES) + 1 : len(PLACES) + 5]
    assert strengths.min() < 0  # from −1 to 1
    assert values[..., : len(PLACES)].min() >= 0
    assert len(values[0].unique(dim=0)) == 3


def test_the_square_is_where_its_values_say():
    """Frames whose red is the column and whose green is the row, in all frames alike; blue is the time."""
    side, length = 64, 6
    ramp = torch.arange(side, dtype=torch.uint8)
    frames = torch.zeros(1, length, side, side, 3, dtype=torch.uint8)
    frames[..., 0], frames[..., 1] = ramp, ramp[:, None]
    frames[..., 2] = torch.arange(length)[:, None, None]
    squares = torch.tensor([[0.25, 0.0, 0.0], [0.25, 1.0, 0.5], [1.0, 0.3, 0.9]])
    start = torch.tensor([0.0, 0.999999, 1.0])
    cut = cut_frames(frames, squares, start, 2, 16)
    assert cut.shape == (3, 2, 16, 16, 3)
    centre = torch.arange(16.0)
    assert torch.allclose(cut[0, 0, 0, :, 0], centre, atol=1e-3)  # a quarter of the side: pixel by pixel
    assert torch.allclose(cut[0, 0, :, 0, 1], centre, atol=1e-3)
    assert torch.allclose(cut[1, 0, 0, :, 0], centre + 24, atol=1e-3)
    assert torch.allclose(cut[1, 0, :, 0, 1], centre + 48, atol=1e-3)
    assert torch.allclose(cut[2, 0, 0, :, 0], 4 * centre + 1.5, atol=1e-3)
    assert cut[:, :, 0, 0, 2].tolist() == [[0, 1], [4, 5], [4, 5]]


def test_all_places_in_time_are_equally_probable():
    audio = torch.arange(6.0)[None]
    cut = cut_audio(audio, torch.arange(0, 1, 1 / 30), 4)
    assert cut.shape == (30, 4)
    assert cut[:, 0].unique(return_counts=True)[1].tolist() == [10, 10, 10]
    assert torch.equal(cut_audio(audio, torch.ones(2), 6), audio.expand(2, -1))
    assert torch.equal(cut[:, 3] - cut[:, 0], torch.full((30,), 3.0))


@pytest.mark.parametrize(
    ("crop", "fraction", "side"), [(36, 0.43, 16), (112, 0.43, 48), (224, 0.43, 96), (12, 0.43, 12), (36, 1.0, 36)]
)
def test_the_side_is_a_multiple_of_the_stride(crop, fraction, side):
    assert CropsConfig(small_side=fraction).clip(ClipConfig(crop=crop)).crop == side


def test_a_small_clip_is_a_part_of_the_time():
    small = CropsConfig(small_time=0.5).clip(ClipConfig(frames=30, audio_seconds=1.0, audio_rate=4001))
    assert (small.frames, round(small.audio_seconds * small.audio_rate)) == (15, 2000)
    assert CropsConfig(small_time=0.05).clip(ClipConfig(frames=2)).frames == 1
