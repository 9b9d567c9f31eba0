"""Batch norms that keep their running statistics."""

import torch
from torch import nn

from avssl.models.running_statistics import keep_statistics


def test_running_statistics_stay_and_the_output_is_that_of_training():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
    model[1](torch.randn(4, 3, 5, 5) + 2)
    before, x = {name: value.clone() for name, value in model.state_dict().items()}, torch.randn(4, 1, 5, 5)
    with keep_statistics(model):
        kept = model(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(x), kept)
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    assert [norm.track_running_stats for norm in model[1:]] == [True, False]


def test_in_evaluation_they_are_used():
    norm = nn.BatchNorm1d(3)
    norm(torch.randn(8, 3) * 4)
    norm.eval()
    x = torch.randn(2, 3)
    expected = norm(x)
    with keep_statistics(norm):
        assert torch.equal(norm(x), expected)
