"""Heat maps of models with and without a localisation objective."""

import pytest
import torch
from torch import nn

from avssl.config import ModelConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.models import MultiStream, build_multi_stream
from avssl.models.localise import Localiser, Projection, heat_maps
from avssl.objectives.build import build_model

CLIPS = {
    "video": torch.randn(2, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0)),
    "audio": torch.randn(2, 1, 40, 62, generator=torch.Generator().manual_seed(1)),
}


def model(*words: str) -> MultiStream:
    torch.manual_seed(0)
    return build_model(compose_config("train", TrainConfig, ["model=tiny", "clip=tiny", "data.root=x", *words]))


def test_a_projection_is_a_linear_layer_at_every_position():
    layer, x = Projection(3, 5), torch.randn(2, 3, 4, 6, 7)
    assert torch.allclose(layer(x)[:, :, 1, 2, 3], layer(x[:, :, 1, 2, 3]), atol=1e-6)


def test_a_window_is_the_mean_of_the_positions_around():
    layer, x = Projection(3, 5, window=3), torch.randn(2, 3, 4, 6, 7)
    inside, corner = x[:, :, 1, 1:4, 2:5].mean((2, 3)), x[:, :, 3, :2, 5:].mean((2, 3))
    torch.testing.assert_close(layer(x)[:, :, 1, 2, 3], nn.functional.linear(inside, layer.weight, layer.bias))
    torch.testing.assert_close(layer(x)[:, :, 3, 0, 6], nn.functional.linear(corner, layer.weight, layer.bias))


def test_positions_and_audio_are_unit_vectors_of_the_objectives_heads():
    made = model("objective=localisation", "model.video_stride=8", "localisation.projection=16")
    localiser = Localiser(made)
    assert not localiser.weak
    positions, audio = localiser.embed(CLIPS)
    assert (positions.shape, audio.shape) == ((2, 16, 2, 8, 8), (2, 16))
    assert not made.training
    assert not positions.requires_grad
    torch.testing.assert_close(positions.norm(dim=1), torch.ones(2, 2, 8, 8))
    heat = heat_maps(positions, audio)
    assert heat.shape == (2, 2, 8, 8)
    heads = made.heads["localisation"]
    features, maps = made.encode_with_maps(CLIPS, ("video",))
    one = nn.functional.cosine_similarity(
        heads["video"](maps["video"])[1, :, 0, 3, 5], heads["audio"](features["audio"])[1], 0
    )
    assert float(heat[1, 0, 3, 5]) == pytest.approx(float(one.detach()), abs=1e-5)


@pytest.mark.parametrize("words", [["task=gdt"], ["objective=jepa", "model.standardise=true"]])
def test_a_run_without_the_objective_gives_weak_maps_from_its_heads_for_features(words):
    made = model(*words)
    localiser = Localiser(made)
    assert localiser.weak
    positions, audio = localiser.embed(CLIPS)
    one = made.encode_with_maps(CLIPS, ("video",))[1]["video"][1, :, 0, 2, 3][None]
    expected = made.embed(made.adapt({"video": one})["video"], "video")[0]
    torch.testing.assert_close(positions[1, :, 0, 2, 3], expected / expected.norm(), atol=1e-5, rtol=1e-4)
    assert heat_maps(positions, audio).abs().max() <= 1 + 1e-5


class WithoutMap(nn.Module):
    dim = 7

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3, 4)).repeat(1, 3)[:, :7]


def test_what_cannot_be_located_is_one_line():
    with pytest.raises(UserError, match="no heads that compare frames with audio.*objective=localisation"):
        Localiser(model("objective=rotation", "contrast.modalities=[video,audio]"))
    alone = build_multi_stream(ModelConfig(video="tiny"), 0, projection=4, modalities=("video",))
    with pytest.raises(UserError, match="does not encode audio"):
        Localiser(alone)
    without = build_multi_stream(ModelConfig(video="tiny", audio="tiny"), 0, projection=4)
    without.encoders["video"] = WithoutMap()
    with pytest.raises(UserError, match="WithoutMap has no feature map"):
        Localiser(without)
