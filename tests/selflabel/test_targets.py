"""Targets and loss of distillation: the published figures of SwAV and DINO, and properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from avssl.selflabel.embedding_queue import EmbeddingQueue
from avssl.selflabel.swapped import swapped_loss
from avssl.selflabel.targets import balanced, centred, next_centre, warmed_up

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def swav() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "swav.npz") as arrays:
        return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays}


@pytest.fixture(scope="module")
def dino() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "dino.npz") as arrays:
        return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays}


@pytest.mark.parametrize("number", range(3))
def test_codes_are_those_of_swav(swav, number):
    codes = balanced(swav[f"sk_scores_{number}"], 0.05, 3)
    torch.testing.assert_close(codes, swav[f"sk_q_{number}"], rtol=1e-4, atol=1e-6)


def swav_loss(z: torch.Tensor, prototypes: torch.Tensor, queue: EmbeddingQueue | None = None) -> torch.Tensor:
    """The loss of four crops z [4, B, D], of which the first two give targets."""
    embeddings = F.normalize(z, dim=-1)
    given = embeddings[:2].detach()
    rows = given if queue is None else torch.cat([queue.full_rows(), given], 1)
    codes = balanced(rows @ prototypes.detach().T, 0.05, 3)[:, -given.shape[1] :]
    if queue is not None:
        queue.write(given)
    return swapped_loss(codes, embeddings @ prototypes.T / 0.1)


def test_loss_and_gradients_are_those_of_swav(swav):
    z = swav["z"].clone().requires_grad_()
    prototypes = F.normalize(swav["prototypes_raw"], dim=1)
    torch.testing.assert_close(prototypes, swav["prototypes_normalised"])
    prototypes.requires_grad_()
    loss = swav_loss(z, prototypes)
    loss.backward()
    assert loss.item() == pytest.approx(float(swav["loss_noqueue"]), rel=1e-5)
    torch.testing.assert_close(z.grad, swav["grad_z_noqueue"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prototypes.grad, swav["grad_prototypes_noqueue"], rtol=1e-4, atol=1e-5)


def test_queue_is_that_of_swav(swav):
    queue = EmbeddingQueue(2, int(swav["queue_length"]), int(swav["dim"]))
    for step, z in enumerate(swav["queue_z"]):
        torch.testing.assert_close(queue.rows, swav["queue_states"][step])
        assert queue.is_full == bool(swav["queue_used_for_codes"][step])
        z = z.clone().requires_grad_()
        loss = swav_loss(z, swav["prototypes_normalised"], queue)
        loss.backward()
        assert loss.item() == pytest.approx(float(swav["queue_loss"][step]), rel=1e-5)
        torch.testing.assert_close(z.grad, swav["queue_grad_z"][step], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(queue.rows, swav["queue_states"][-1])


def test_loss_centre_and_temperature_are_those_of_dino(dino):
    centre, warmup = dino["centers"][0, 0], int(dino["warmup_teacher_temp_epochs"])
    for epoch, temperature in enumerate(dino["teacher_temp_schedule"]):
        assert warmed_up(epoch, warmup - 1, 0.04, 0.07) == pytest.approx(float(temperature), rel=1e-9)
    for step, epoch in enumerate(dino["epoch"]):
        student = dino["student_output"][step].unflatten(0, (4, -1)).requires_grad_()
        teacher = dino["teacher_output"][step].unflatten(0, (2, -1))
        temperature = float(dino["teacher_temp_schedule"][epoch])
        loss = swapped_loss(centred(teacher, centre, temperature), student / 0.1)
        loss.backward()
        assert loss.item() == pytest.approx(float(dino["loss"][step]), rel=1e-5)
        torch.testing.assert_close(student.grad.flatten(0, 1), dino["grad_student"][step], rtol=1e-4, atol=1e-5)
        centre = next_centre(centre, teacher.flatten(0, 1).mean(0), 0.9)
        torch.testing.assert_close(centre, dino["centers"][step + 1, 0], rtol=1e-4, atol=1e-5)


@given(st.integers(0, 1000), st.sampled_from([0.005, 0.05, 1.0]), st.sampled_from([1.0, 30.0]))
def test_codes_are_finite_distributions_and_balanced(seed, temperature, size):
    scores = size * torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(seed))
    codes = balanced(scores, temperature, 3)
    assert codes.isfinite().all()
    torch.testing.assert_close(codes.sum(-1), torch.ones(2, 40))
    # a problem beside another is solved as if it were alone
    torch.testing.assert_close(codes[1], balanced(scores[1], temperature, 3))
    many = balanced(scores, 30 * size, 50)
    torch.testing.assert_close(many.sum(-2), torch.full((2, 6), 40 / 6), rtol=1e-3, atol=1e-3)


def test_equal_embeddings_get_uniform_codes():
    scores = torch.randn(6).expand(8, 6)
    torch.testing.assert_close(balanced(scores, 0.05, 1), torch.full((8, 6), 1 / 6))


def test_the_loss_is_that_of_a_loop_over_pairs():
    targets, logits = torch.rand(2, 5, 7).softmax(-1), torch.randn(3, 5, 7)
    pairs = [(t, v) for t in range(2) for v in range(3) if t != v]
    each = [-(targets[t] * logits[v].log_softmax(-1)).sum(-1).mean() for t, v in pairs]
    torch.testing.assert_close(swapped_loss(targets, logits), torch.stack(each).mean())


@pytest.mark.parametrize(
    ("targets", "logits"), [((1, 2, 3), (1, 2, 3)), ((3, 2, 3), (2, 2, 3)), ((1, 2, 3), (2, 4, 3))]
)
def test_views_that_do_not_fit_are_refused(targets, logits):
    with pytest.raises(ValueError, match="at least two views"):
        swapped_loss(torch.ones(targets), torch.ones(logits))
