"""Finer feature maps from the same weights."""

import pytest
import torch
from torchvision import models

from avssl.config import ModelConfig
from avssl.core.errors import UserError
from avssl.models import build_multi_stream
from avssl.models.by_name import build_encoder
from avssl.models.encoder import map_width


@pytest.mark.parametrize(
    ("name", "stride", "finer"),
    [("tiny", 8, 2), ("tiny", 4, 4), ("r2plus1d_18", 8, 2), ("torchvision:resnet18", 8, 4)],
)
def test_a_finer_map_has_the_positions_of_the_coarse_one_and_new_ones_between(name, stride, finer):
    torch.manual_seed(0)
    coarse, fine = build_encoder("video", name).eval(), build_encoder("video", name, stride=stride).eval()
    fine.load_state_dict(coarse.state_dict())
    video = torch.randn(1, 3, 2, 64, 64)
    with torch.no_grad():
        before, after = coarse.feature_map(video), fine.feature_map(video)
        assert after.shape[-1] == finer * before.shape[-1] == 64 // stride
        torch.testing.assert_close(after[..., ::finer, ::finer], before, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(after[..., 1::finer, ::finer], before, atol=1e-3)
        torch.testing.assert_close(fine(video), after.mean((2, 3, 4)), atol=1e-5, rtol=1e-4)


def test_a_dilated_bottleneck_network_is_torchvisions():
    theirs = models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    ours = build_encoder("video", "torchvision:resnet50", stride=8).eval()
    state = {key: x for key, x in theirs.state_dict().items() if not key.startswith("fc.")}
    ours.image.base.load_state_dict(state)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            y = layer(y)
        torch.testing.assert_close(ours.image.with_map(x)[1], y)


def test_stride_0_and_the_own_stride_leave_the_encoder_as_it_is():
    video = torch.randn(1, 3, 4, 32, 32)
    maps = []
    for stride in (0, 16):
        torch.manual_seed(0)
        maps.append(build_encoder("video", "tiny", stride=stride).eval().feature_map(video))
    assert torch.equal(*maps)


def test_only_the_video_encoder_has_the_stride():
    model = build_multi_stream(ModelConfig(video="tiny", audio="tiny", video_stride=8)).eval()
    _, maps = model.encode_with_maps(
        {"video": torch.randn(1, 3, 4, 64, 64), "audio": torch.randn(1, 1, 40, 62)}, ("video", "audio")
    )
    assert maps["video"].shape[-2:] == (8, 8)
    assert maps["audio"].shape[-2:] == (5, 8)


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("tiny", 2, "model.video=tiny has the strides 4, 8, 16"),
        ("torchvision:r3d_18", 32, "has the strides 4, 8, 16"),
        ("torchvision:s3d", 8, "cannot be made finer: omit it"),
        ("efficientnet_lite0", 16, "cannot be made finer: omit it"),
    ],
)
def test_a_stride_that_the_encoder_cannot_have_is_refused(name, stride, message):
    with pytest.raises(UserError, match=message):
        build_encoder("video", name, stride=stride)


def test_timm_dilates_its_own_networks_or_refuses():
    pytest.importorskip("timm")
    encoder = build_encoder("video", "timm:resnet10t", stride=8).eval()
    with torch.no_grad():
        found = encoder.feature_map(torch.zeros(1, 3, 1, 64, 64))
    assert found.shape[-2:] == (8, 8)
    with pytest.raises(UserError, match="cannot have model.video_stride=8"):
        build_encoder("video", "timm:vit_tiny_patch16_224", stride=8)


def test_the_width_of_a_map_may_differ_from_that_of_the_features():
    pytest.importorskip("timm")
    encoder = build_encoder("video", "timm:mobilenetv3_small_050").eval()
    with torch.no_grad():
        features, maps = encoder.with_map(torch.zeros(1, 3, 1, 64, 64))
    assert (features.shape[1], maps.shape[1]) == (encoder.dim, map_width(encoder))
    assert encoder.dim != map_width(encoder)
