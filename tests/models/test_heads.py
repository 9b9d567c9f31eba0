"""Stacked heads equal separate ones; both ways of sharing give [H, B, K]."""

import pytest
import torch
from torch import nn

from avssl.config import ModelConfig
from avssl.models import build_multi_stream
from avssl.models.heads import MLPHeads


@pytest.mark.parametrize("training", [True, False])
def test_stacked_heads_equal_separate_mlps(training):
    torch.manual_seed(0)
    heads = MLPHeads(6, 5, 4, heads=3, dropout=0.0).train(training)
    x = torch.randn(7, 6)
    together = heads(x)
    for h in range(3):
        alone = nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))
        alone[0].weight.data = heads.hidden.weight[h]
        alone[3].weight.data, alone[3].bias.data = heads.out.weight[h], heads.out.bias[h]
        torch.testing.assert_close(together[h], alone.train(training)(x))


@pytest.mark.parametrize("sharing", ["shared", "per_modality"])
def test_logits_of_both_modalities(sharing):
    model = build_multi_stream(ModelConfig(video="tiny", audio="tiny", hidden=16), clusters=5, heads=3, sharing=sharing)
    clips = {"video": torch.randn(4, 3, 4, 36, 36), "audio": torch.randn(4, 1, 40, 60)}
    z_v, z_a = model(clips).values()
    assert z_v.shape == z_a.shape == (3, 4, 5)


@pytest.mark.parametrize(("video", "audio"), [("r2plus1d_18", "resnet9"), ("r2plus1d_34", "resnet18")])
def test_published_encoders_give_512_features(video, audio):
    model = build_multi_stream(ModelConfig(video=video, audio=audio), clusters=3).eval()
    with torch.no_grad():
        clips = {"video": torch.randn(1, 3, 4, 32, 32), "audio": torch.randn(1, 1, 40, 50)}
        f_v, f_a = model.encode(clips).values()
    assert f_v.shape == f_a.shape == (1, 512)
