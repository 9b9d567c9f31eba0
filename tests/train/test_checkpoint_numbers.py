"""States of a checkpoint that are no numbers, or no unit vectors: named as it is loaded, not as a loss of NaN."""

from pathlib import Path

import pytest
import torch
from torch import nn

from avssl.contrast.keys import are_unit
from avssl.contrast.queue import KeyQueue
from avssl.core.errors import UserError
from avssl.train.checkpoint_state import check_numbers, check_tables, checkpoint_errors, tensor_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ({"keys": torch.zeros(2, 4, 3, dtype=torch.bool)}, "no unit vectors"),
        ({"keys": torch.full((2, 4, 3), 1e30)}, "no unit vectors"),
        ({"keys": torch.full((2, 4, 3), torch.nan)}, "no unit vectors"),
        ({"videos": torch.zeros(4, dtype=torch.bool)}, "not in the index"),
        ({"videos": torch.full((4,), 9)}, "not in the index"),
    ],
)
def test_a_queue_has_unit_vectors_of_videos(harm, said):
    queue = KeyQueue(4, 2, 3, CPU)
    queue.load_state_dict(queue.state_dict(), 5)
    with pytest.raises(ValueError, match=said):
        queue.load_state_dict(queue.state_dict() | harm, 5)


def test_rounded_unit_vectors_are_unit_vectors():
    generator = torch.Generator().manual_seed(0)
    unit = nn.functional.normalize(torch.randn(1000, 2, generator=generator), dim=1)
    assert are_unit(unit)
    assert are_unit(unit.bfloat16())
    assert are_unit(torch.zeros(0, 3))
    assert not are_unit(3 * unit)


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.register_buffer("mask", torch.full((2,), -torch.inf))  # as some encoders have
    return model


@pytest.mark.parametrize(
    ("name", "value"), [("0.weight", torch.nan), ("0.bias", torch.inf), ("1.running_var", torch.nan)]
)
def test_weights_that_are_no_numbers_are_named(name, value):
    model = network()
    check_numbers(model, "the teacher")
    state = model.state_dict()
    state[name].view(-1)[1] = value
    model.load_state_dict(state)
    with pytest.raises(UserError) as error, checkpoint_errors(Path("run/step_9")):
        check_numbers(model, "the teacher")
    assert str(error.value) == (
        f"the checkpoint run/step_9 does not fit this run (the teacher has values that are no numbers in {name}): "
        "start a new run with another out=…"
    )


def test_labels_and_whole_numbers_are_not_masks():
    with pytest.raises(ValueError, match="not numbers of clusters"):
        check_tables({"labels": torch.zeros(4, 1, dtype=torch.bool)}, 3, {})
    assert not tensor_of(1, False)(torch.zeros(4, dtype=torch.bool))
    assert tensor_of(1, False)(torch.zeros(4, dtype=torch.int32))
