"""Labels are of float32 logits, in whatever precision the encoders compute."""

import pytest
import torch

from avssl.clips.transform import DeviceTransform
from avssl.config import ModelConfig, TrainConfig
from avssl.evaluate.predictions import agreement_score, cluster_logits, head_labels
from avssl.models import build_multi_stream
from avssl.models.build import build_model
from avssl.objectives.labelling import Labelling
from avssl.objectives.objective import Context

CPU = torch.device("cpu")


@pytest.fixture(params=["shared", "per_modality", "concat"])
def model(request):
    torch.manual_seed(0)
    tiny = ModelConfig(video="tiny", audio="tiny", hidden=64)
    return build_multi_stream(tiny, clusters=64, heads=3, sharing=request.param).eval()


@pytest.fixture
def features(model):
    """As an encoder under autocast gives them."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(500, part.dim, generator=generator).bfloat16() for name, part in model.encoders.items()}


@torch.no_grad()
def test_labels_under_autocast_are_those_of_float32_heads(model, features, monkeypatch):
    monkeypatch.setattr(type(model), "encode", lambda self, clips: features)
    expected = model.cluster({name: x.float() for name, x in features.items()})
    for name, (labels, sure) in head_labels(model, {}, CPU, "bfloat16").items():
        if name != "joint":
            assert torch.equal(labels, expected[name].argmax(-1))
            torch.testing.assert_close(sure, expected[name].softmax(-1).amax(-1))
    with torch.autocast("cpu", torch.bfloat16):
        logits = cluster_logits(model, features)
        rounded = model.cluster(features)
    for name, z in logits.items():
        assert z.dtype == torch.float32
        assert torch.equal(z, expected[name])
        assert (rounded[name].argmax(-1) != z.argmax(-1)).any()  # what bfloat16 would change
    assert torch.equal(agreement_score(logits), agreement_score(expected))


@torch.no_grad()
def test_a_labelling_pass_sees_float32_logits():
    torch.manual_seed(0)
    config = TrainConfig()
    config.model, config.precision = ModelConfig(video="tiny", audio="tiny", hidden=64), "bfloat16"
    config.labelling.clusters, config.labelling.heads = 64, 2
    model = build_model(config).eval()
    task = Labelling(Context(config, model, CPU, DeviceTransform(config.clip, CPU), 500, 10, 16))
    features = {name: torch.randn(500, part.dim).bfloat16() for name, part in task.model.encoders.items()}
    expected = task.model.cluster({name: x.float() for name, x in features.items()})
    with torch.autocast("cpu", torch.bfloat16):
        for head in range(2):
            for name, z in task._logits(head, features).items():
                assert z.dtype == torch.float32
                assert torch.equal(z.argmax(-1), expected[name][head].argmax(-1))
