"""The slow copy of the model."""

import numpy as np
import pytest
import torch

from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.config.teacher import TeacherConfig
from avssl.objectives.build import build_model
from avssl.objectives.teacher import Teacher, momentum

WORDS = ["task=gdt", "model=tiny", "clip=tiny", "data.root=x"]


def pair(*words: str, m: float = 0.9) -> tuple[torch.nn.Module, Teacher]:
    torch.manual_seed(0)
    model = build_model(compose_config("train", TrainConfig, [*WORDS, *words]))
    return model, Teacher(model, TeacherConfig(momentum=m, momentum_end=m), 10)


def test_momentum_follows_a_cosine_and_may_be_constant():
    schedule = [momentum(TeacherConfig(0.996, 1.0), step, 100) for step in range(101)]
    expected = 1 - 0.004 * 0.5 * (1 + np.cos(np.pi * np.arange(101) / 100))
    np.testing.assert_allclose(schedule, expected, rtol=1e-12)
    assert {momentum(TeacherConfig(0.999, 0.999), step, 7) for step in range(8)} == {0.999}


def test_it_moves_a_tenth_of_the_way_to_the_model():
    model, teacher = pair()
    before = [p.clone() for p in teacher.model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    teacher.update(0)
    for slow, was, fast in zip(teacher.model.parameters(), before, model.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.9 * was + 0.1 * fast)
        assert not slow.requires_grad


def test_it_has_the_statistics_of_the_batch_and_drops_nothing():
    model, teacher = pair("model.dropout=0.5")
    clips = {"video": torch.randn(4, 3, 4, 36, 36)}
    assert torch.equal(teacher.encode(clips)["video"], teacher.encode(clips)["video"])
    features = teacher.encode(clips)["video"]
    z = teacher.model.embed(features, "video")
    assert torch.equal(z, teacher.model.embed(features, "video"))
    model.train()
    torch.testing.assert_close(model.encode(clips)["video"], features)  # equal weights, batch statistics in both
    model.eval()
    assert not torch.allclose(model.encode(clips)["video"], features)


def test_its_norms_follow_those_of_the_model():
    """While the encoders do not learn, the model's norms use their running statistics."""
    model, teacher = pair()
    clips = {"video": torch.randn(4, 3, 4, 36, 36)}
    for encoder in model.encoders.values():
        encoder.eval()
    teacher.train()
    assert torch.equal(model.encode(clips)["video"], teacher.encode(clips)["video"])


def test_frozen_encoders_are_not_copied():
    torch.manual_seed(0)
    model = build_model(compose_config("train", TrainConfig, WORDS))
    model.freeze(["audio"])
    teacher = Teacher(model, TeacherConfig(), 10)
    assert teacher.model.encoders["audio"] is model.encoders["audio"]
    assert teacher.model.encoders["video"] is not model.encoders["video"]
    assert not any(module.training for module in model.encoders["audio"].modules())


@pytest.mark.parametrize(
    ("words", "has"), [([], False), (["contrast.keys=queue"], True), (["contrast.prototypes=[4]"], False)]
)
def test_a_run_has_one_only_if_an_objective_needs_it(words, has):
    assert compose_config("train", TrainConfig, [*WORDS, *words]).has_teacher == has
