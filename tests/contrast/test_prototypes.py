"""Prototypes for contrast, beside PCL's published arrays and the formulas in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avssl.contrast.prototypes import (
    NO_PROTOTYPE,
    Prototypes,
    concentration,
    distances_to,
    find_prototypes,
    prototype_loss,
    released_logits,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "pcl.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(x) for name, x in np.load(GOLDEN).items() if x.dtype.kind in "fi"}


def published(golden, number: int) -> Prototypes:
    return Prototypes(golden[f"prototypes_{number}"], golden[f"density_{number}"])


@pytest.mark.parametrize("number", [0, 1])
def test_concentrations_are_the_published_ones(golden, number):
    centres, numbers = golden[f"centroids_in_{number}"], golden[f"im2cluster_{number}"]
    distances, sizes = distances_to(golden["features"], centres, numbers)
    assert torch.equal(sizes.long(), golden[f"cluster_sizes_{number}"])
    assert (sizes < 2).any()
    phi = concentration(distances, sizes, float(golden["T"]))
    torch.testing.assert_close(phi, golden[f"density_{number}"], atol=1e-5, rtol=1e-5)
    directions = F.normalize(centres, dim=1)
    torch.testing.assert_close(directions, golden[f"prototypes_{number}"], atol=1e-5, rtol=1e-5)


def test_the_released_loss_and_its_gradient_are_the_published_ones(golden):
    weight = golden["weight_q"].clone().requires_grad_()
    q = F.normalize(golden["im_q"] @ weight.T)
    keys, t, batch = golden["queue_before"], float(golden["T"]), torch.arange(8)
    instance = torch.cat([(q * golden["k"]).sum(1, keepdim=True), q @ keys], 1) / t
    torch.testing.assert_close(instance, golden["logits_instance"], atol=1e-5, rtol=1e-5)
    losses = []
    for number in range(2):
        own, negatives = golden[f"im2cluster_{number}"][golden["index"]], golden[f"neg_proto_ids_{number}"]
        logits = released_logits(q, published(golden, number), own, negatives)
        torch.testing.assert_close(logits, golden[f"logits_proto_{number}"], atol=1e-5, rtol=1e-5)
        losses.append(F.cross_entropy(logits, batch))
        assert losses[-1].item() == pytest.approx(float(golden[f"loss_proto_{number}"]), abs=1e-5)
    loss = F.cross_entropy(instance, torch.zeros_like(batch)) + sum(losses) / 2
    assert loss.item() == pytest.approx(float(golden["loss"]), abs=1e-5)
    loss.backward()
    torch.testing.assert_close(weight.grad, golden["grad_weight_q"], atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_softmax_over_all_prototypes(golden):
    z = golden["q"].clone().requires_grad_()
    numbers = golden["im2cluster_0"][golden["index"]]
    loss = prototype_loss(z, published(golden, 0), numbers)
    logits = z.double() @ golden["prototypes_0"].double().T / golden["density_0"].double()
    expected = F.cross_entropy(logits, numbers)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    (ours,), (theirs,) = torch.autograd.grad(loss, z), torch.autograd.grad(expected, z)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_an_embedding_without_a_prototype_contributes_nothing(golden):
    z, numbers = golden["q"].clone().requires_grad_(), golden["im2cluster_0"][golden["index"]].clone()
    others = prototype_loss(z[1:], published(golden, 0), numbers[1:]).item()
    numbers[0] = NO_PROTOTYPE
    loss = prototype_loss(z, published(golden, 0), numbers)
    assert loss.item() == pytest.approx(others * 7 / 8)
    loss.backward()
    assert not z.grad[0].any()
    assert z.grad[1:].any()


def places(count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows around five directions, three of them loose, and which."""
    rng = torch.Generator().manual_seed(2)
    which = torch.arange(count) % 5
    spread = torch.tensor([0.02, 0.05, 0.2, 0.25, 0.3])[which, None]
    return F.normalize(torch.eye(8)[which] + spread * torch.randn(count, 8, generator=rng), dim=1), which


def test_prototypes_are_the_means_of_their_rows():
    z, which = places()
    found = find_prototypes(z, 5, 0, 0.1)
    assert [*found.sizes] == [40] * 5
    assert torch.equal(found.numbers.unique(sorted=True), torch.arange(5))
    for number in range(5):
        rows = z[found.numbers == number]
        assert len(which[found.numbers == number].unique()) == 1
        torch.testing.assert_close(
            found.prototypes.directions[number], F.normalize(rows.mean(0), dim=0), atol=1e-5, rtol=0
        )
    phi = found.prototypes.concentration
    assert phi.mean().item() == pytest.approx(0.1, rel=1e-5)
    by_place = torch.stack([phi[found.numbers[place]] for place in range(5)])
    assert (by_place.diff() >= 0).all()  # loose clusters have the larger φ
    centres = torch.stack([z[found.numbers == number].mean(0) for number in range(5)])
    inertia = (z - centres[found.numbers]).square().sum(1).mean()
    assert found.inertia == pytest.approx(inertia.item(), rel=1e-4)


def test_identical_rows_and_fewer_rows_than_clusters():
    alike = find_prototypes(torch.eye(8)[[0] * 6], 3, 0, 0.1)
    assert alike.prototypes.concentration.tolist() == pytest.approx([0.1] * 3)
    few = find_prototypes(torch.eye(8)[:2], 3, 0, 0.1)
    assert len(few.prototypes.directions) == len(few.sizes) == 2
    one = torch.eye(8)[[0] * 5 + [1, 1, 1]]  # both clusters without any spread
    loss = prototype_loss(one, find_prototypes(one, 2, 0, 0.1).prototypes, torch.zeros(8, dtype=torch.int64))
    assert loss.isfinite()


def test_embeddings_that_are_no_numbers_are_an_error():
    with pytest.raises(ValueError, match="NaN or infinite"):
        find_prototypes(torch.full((4, 3), torch.nan), 2, 0, 0.1)
