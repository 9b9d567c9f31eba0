"""What the GPU tests do, on the CPU: the bodies themselves are right, and their cases exist."""

from functools import partial

import pytest
import torch

from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.config.option import check_config
from tests.gpu import bodies


@pytest.mark.parametrize("case", ["bank", "both", "features"])
def test_steps(case, data):
    assert len(bodies.no_step_waits(bodies.words_of(case, data), "cpu")) == bodies.STEPS


@pytest.mark.parametrize("case", bodies.OBJECTIVES)
def test_the_words_of_each_case_are_a_run(case):
    words = bodies.words_of(case, ["data.root=x", "data.index=x"])
    check_config(compose_config("train", TrainConfig, words))


def test_a_wait_is_an_error_only_where_a_device_can_wait():
    with bodies.nothing_waits(torch.device("cpu")):
        assert float(torch.ones(1)) == 1


def test_all_that_is_copied_is_found(data):
    batch = bodies.Run(bodies.words_of("both", data), "cpu").batches[0]
    copied = bodies.copied_to_the_device(batch)
    assert {id(x) for x in [*batch.clips.values(), *batch.values.values()]} <= {id(x) for x in copied}
    assert len(copied) > len(batch.clips) + len(batch.values)  # and the random values
    stored = bodies.Run(bodies.words_of("features", data), "cpu").batches[0]
    assert {id(x) for x in stored.features.values()} <= {id(x) for x in bodies.copied_to_the_device(stored)}


def test_kernels_are_named(data):
    run = bodies.Run(bodies.words_of("labels", data), "cpu")
    assert "aten::conv3d" in bodies.kernels(run.step, run.device)


def test_compiled(data, monkeypatch):
    """With autograd's part of the compiler, not inductor, which compiles C++ for minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    bodies.compiled_alike(bodies.words_of("frozen", data), "cpu")


def test_resumed(data, tmp_path):
    bodies.resumed_on(bodies.words_of("features", data), "cpu", "cpu", tmp_path)


def test_solved():
    bodies.solved_alike("cpu")


@pytest.mark.slow
def test_two_are_one(data, tmp_path):
    """One encoder is frozen, both are compiled."""
    words = bodies.words_of("contrast", data, "model.freeze=[video]", "compile=true")
    bodies.two_are_one(words, "cpu", tmp_path, bodies.without_inductor)
