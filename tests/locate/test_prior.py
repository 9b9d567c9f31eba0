"""The object prior: as EZ-VSL mixes it, from an encoder of the user's own, and encoders that cannot be one."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from avssl.config import ClipConfig
from avssl.core.errors import UserError
from avssl.locate.check_options import check_prior
from avssl.locate.prior import Prior, scaled, with_prior

CLIP = ClipConfig(frames=2, crop=8, short_side_min=8, short_side_max=8, mean=[0.5] * 3, std=[0.5] * 3)


class Brightness(nn.Module):
    """Its map is the brightness of each pixel, with both signs."""

    dim = 2
    clip = {"mean": [0.0] * 3, "std": [1.0] * 3, "crop": 16}

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.feature_map(video).mean((2, 3, 4))

    def feature_map(self, video: torch.Tensor) -> torch.Tensor:
        grey = video.mean(1, keepdim=True)
        assert video.shape[-1] == 16  # its own crop
        return torch.cat([grey, -3 * grey], 1)


class Blind(nn.Module):
    dim = 2

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return video.mean((2, 3, 4))[:, :2]


@pytest.fixture(autouse=True)
def own(monkeypatch):
    module = ModuleType("own_prior")
    module.Brightness, module.Blind = Brightness, Blind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_prior", module)
    monkeypatch.setattr("avssl.models.taken_clip.check_encoder_name", lambda *_: None)
    monkeypatch.setattr("avssl.models.by_name.check_encoder_name", lambda *_: None)


def test_the_prior_is_the_mean_magnitude_of_the_last_map():
    frames = torch.rand(2, 3, 4, 8, 8)
    prior = Prior("own_prior:Brightness", CLIP, torch.device("cpu"))
    maps = prior((frames - 0.5) / 0.5, (2, 8, 8))
    assert maps.shape == (2, 2, 8, 8)
    grey = frames.mean(1)
    expected = torch.nn.functional.interpolate(2 * grey, (16, 16), mode="bilinear", align_corners=False)
    expected = expected.unflatten(1, (2, 2)).mean(2)  # four frames, two moments
    expected = torch.nn.functional.interpolate(expected, (8, 8), mode="bilinear", align_corners=False)
    assert torch.allclose(maps, expected, atol=1e-5)


def test_heat_map_and_prior_are_scaled_by_picture_and_mixed():
    heat = np.array([[[0.2, 0.4], [0.2, 0.3]], [[-1.0, 0.0], [0.0, 0.0]]], np.float32)
    prior = np.array([[[5.0, 5.0], [5.0, 9.0]], [[1.0, 1.0], [1.0, 1.0]]], np.float32)
    mixed = with_prior(heat, prior, 0.6)  # EZ-VSL: α = 0.4
    assert mixed[0] == pytest.approx(np.array([[0, 0.4], [0, 0.4 * 0.5 + 0.6]]))
    assert mixed[1] == pytest.approx(0.4 * np.array([[0, 1], [1, 1]]))  # a prior that is the same everywhere
    assert with_prior(heat, None, 0.6) is heat
    assert scaled(np.ones((2, 2))).tolist() == [[0, 0], [0, 0]]
    unknown = np.full_like(heat, np.nan)  # no other video was in the chunk: the prior alone is no map of its audio
    assert np.isnan(with_prior(unknown, prior, 0.6)).all()


def test_encoders_that_cannot_be_a_prior():
    with pytest.raises(UserError, match=r"prior=own_prior:Blind has no feature map"):
        Prior("own_prior:Blind", CLIP, torch.device("cpu"))
    for name, said in (
        ("resnet_18", "is no encoder"), ("onnx:a.onnx", "has no feature map"), ("no_such_module:net", "no module"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            check_prior(name)
    check_prior("torchvision:resnet18")
    check_prior("tiny")
