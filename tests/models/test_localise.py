"""Heat maps of models with and without a localisation objective."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from avssl.config import ModelConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.models import MultiStream, build_multi_stream
from avssl.models.localise import Localiser, PositionHead, heat_maps
from avssl.objectives.build import build_model

CLIPS = {
    "video": torch.randn(2, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0)),
    "audio": torch.randn(2, 1, 40, 62, generator=torch.Generator().manual_seed(1)),
}


def model(*words: str) -> MultiStream:
    torch.manual_seed(0)
    return build_model(compose_config("train", TrainConfig, ["model=tiny", "clip=tiny", "data.root=x", *words]))


def test_positions_are_unit_embeddings_of_a_linear_layer():
    head, x = PositionHead(3, 5), torch.randn(2, 3, 4, 6, 7)
    one = F.normalize(F.linear(x[:, :, 1, 2, 3], head.weight, head.bias))
    torch.testing.assert_close(head(x)[:, :, 1, 2, 3], one)


def test_a_window_is_the_mean_of_the_unit_embeddings_around():
    head, x = PositionHead(3, 5, window=3), torch.randn(2, 3, 4, 6, 7)
    unit = F.normalize(F.linear(x.movedim(1, -1), head.weight, head.bias), dim=-1).movedim(-1, 1)
    inside, corner = unit[:, :, 1, 1:4, 2:5].sum((2, 3)) / 9, unit[:, :, 3, :2, 5:].sum((2, 3)) / 9
    torch.testing.assert_close(head(x)[:, :, 1, 2, 3], inside)
    torch.testing.assert_close(head(x)[:, :, 3, 0, 6], corner)


def test_with_a_window_the_similarity_is_largest_at_the_centre_of_an_object():
    """Features of an object that fills 3 x 3 positions of a larger map, off its centre."""
    head, x = PositionHead(2, 2, window=3), torch.zeros(1, 2, 1, 9, 9)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
        head.bias.zero_()
        x[:, 0] = 1  # the background
        x[0, :, 0, 1:4, 4:7] = torch.tensor([0.0, 5.0])[:, None, None]
        heat = heat_maps(head(x), torch.tensor([[0.0, 1.0]]))[0, 0]
    assert divmod(int(heat.argmax()), 9) == (2, 5)
    assert float(heat[2, 5]) == pytest.approx(1)
    assert float(heat[1, 5]) == pytest.approx(2 / 3)  # a third of its square is background


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
