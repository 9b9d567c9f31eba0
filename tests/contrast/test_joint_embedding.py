"""LeJEPA's loss: its published forms, its gradient, what it says about collapse, and two processes that are one."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.contrast import sigreg as module
from avssl.contrast.joint_embedding import joint_embedding_loss
from avssl.contrast.sigreg import sigreg, unit_directions
from tests.processes import run_together

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "lejepa.npz")
CPU = torch.device("cpu")
FORMS = {
    "ours": {},
    "minimal": {"centre": "all"},
    "stable": {"sample": "all", "weights": "sigreg"},
}
SIZES = [[5, 3], [4, 4], [1, 6]]
"""The videos of each of two processes."""


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name])


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(found: torch.Tensor, name: str) -> None:
    expected = golden(name)
    assert torch.allclose(found.float(), expected, rtol=1e-5, atol=1e-5), (found, expected)


# the published forms


def test_the_statistic_of_the_released_package():
    z, directions = golden("proj").requires_grad_(), golden("directions")
    each = torch.stack([sigreg(z[:1], directions[:, [k]]) for k in range(directions.shape[1])])
    check(each.detach(), "a_stat_view0_per_slice")
    check(sigreg(z[:1], directions).detach(), "a_stat_view0_mean")
    loss = sigreg(z, directions)
    check(loss.detach(), "a_stat_allviews_mean")
    loss.backward()
    check(z.grad, "a_grad_allviews")


@pytest.mark.parametrize(("last", "points"), [(5, 21), (3, 17), (4, 33)])
def test_other_grids_of_the_integral(last, points):
    found = sigreg(golden("proj")[:1], golden("directions"), points=points, last=last)
    check(found, f"a_stat_view0_tmax{last}_n{points}")


@pytest.mark.parametrize(
    ("form", "letter", "directions"), [("minimal", "b", "b_directions"), ("stable", "c", "directions")]
)
def test_the_published_losses(form, letter, directions):
    z = golden("proj").requires_grad_()
    lam, number = float(GOLDEN["lamb"]), int(GOLDEN["n_global"])
    found = joint_embedding_loss(z, number, golden(directions), lam, **FORMS[form])
    for name, value in (("loss", found.loss), ("inv", found.prediction), ("sigreg", found.sigreg)):
        check(value.detach(), f"{letter}_{name}")
    found.loss.backward()
    check(z.grad, f"{letter}_grad")


def test_our_form_has_the_terms_of_the_published_ones():
    z, lam = golden("proj"), 0.02
    found = joint_embedding_loss(z, int(GOLDEN["n_global"]), golden("directions"), lam)
    check(found.prediction, "c_inv")
    check(found.sigreg, "a_stat_allviews_mean")
    assert torch.allclose(found.loss, 0.98 * found.prediction + 0.02 * found.sigreg)


# the gradient


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("block", [1, 2**22])
def test_the_gradient(block, form, monkeypatch):
    """In blocks of one point and at once, against finite differences."""
    monkeypatch.setattr(module, "BLOCK", block)
    z, directions = draws(2, 3, 2).double().requires_grad_(), draws(2, 3, seed=1).double()
    assert torch.autograd.gradcheck(lambda z: joint_embedding_loss(z, 1, directions, 0.3, **form).loss, (z,))


def test_half_precision_is_computed_in_float32():
    z, directions = draws(3, 20, 8).bfloat16(), unit_directions(8, 32, 0, 0, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        found = joint_embedding_loss(z, 2, directions, 0.1)
    assert found.loss.dtype == torch.float32
    assert torch.equal(found.loss, joint_embedding_loss(z.float(), 2, directions, 0.1).loss)


# what it says


@settings(deadline=None, max_examples=20)
@given(st.integers(64, 256), st.integers(12, 48), st.integers(0, 99))
def test_a_collapsed_embedding_has_a_high_loss_and_a_normal_one_a_low_one(rows, width, seed):
    directions = unit_directions(width, 256, seed, 0, CPU)
    normal = draws(1, rows, width, seed=seed)
    floor = sigreg(normal, directions)
    assert floor < 2.5
    constant = torch.ones(1, rows, width) * draws(width, seed=seed)
    rank_one = draws(1, rows, 1, seed=seed) * draws(width, seed=seed)
    for collapsed in (constant, torch.zeros_like(constant), rank_one / rank_one.std(), 10 * normal, 0.1 * normal):
        assert sigreg(collapsed, directions) > 2 * floor


def test_the_floor_does_not_depend_on_the_number_of_rows_and_a_collapse_grows_with_it():
    directions = unit_directions(16, 512, 0, 0, CPU)
    floors = [float(sigreg(draws(1, n, 16), directions)) for n in (32, 256, 2048)]
    expected = sum(float(w) * (1 - float(p) ** 2) for w, p in zip(golden("weights"), golden("phi"), strict=True))
    assert floors == pytest.approx([expected] * 3, rel=0.3)
    zeros = [float(sigreg(torch.zeros(1, n, 16), directions)) for n in (32, 64)]
    assert zeros[1] == pytest.approx(2 * zeros[0])


def test_a_descent_makes_a_collapsed_embedding_normal():
    z = (0.01 * draws(1, 64, 4)).requires_grad_()
    optimiser = torch.optim.Adam([z], 0.1)
    for step in range(60):
        optimiser.zero_grad()
        sigreg(z, unit_directions(4, 32, 0, step, CPU)).backward()
        optimiser.step()
    assert z.detach()[0].std(0) == pytest.approx(torch.ones(4), abs=0.2)
    assert torch.corrcoef(z.detach()[0].T).fill_diagonal_(0).abs().max() < 0.2


# the directions


def test_directions_are_uniform_and_differ_by_step_and_seed():
    width, count = 6, 20_001
    found = [unit_directions(width, count, seed, step, CPU).double() for seed, step in ((0, 0), (0, 1), (1, 0))]
    for directions in found:
        assert torch.allclose(directions.norm(dim=0), torch.ones(count).double(), atol=1e-6)
        assert torch.allclose(directions @ directions.T / count, torch.eye(width).double() / width, atol=0.01)
        assert directions.mean(1).abs().max() < 0.015
        # the fourth moment tells a sphere from a cube
        assert torch.allclose(
            (directions**4).mean(1), torch.full((width,), 3 / (width * (width + 2))).double(), atol=0.004
        )
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (found[one] * found[other]).sum(0).mean().abs() < 0.02
    assert torch.equal(found[0], unit_directions(width, count, 0, 0, CPU).double())
    neighbours = (found[0][:, 1:] * found[0][:, :-1]).sum(0)
    assert neighbours.mean().abs() < 0.02


def test_a_direction_is_what_it_was():
    """A run that resumes on another machine has the same."""
    expected = [0.670493, -0.903877, 0.531657, 0.271719, -0.517474, 0.330415]
    assert unit_directions(3, 2, 7, 1000, CPU).flatten().tolist() == pytest.approx(expected, abs=1e-5)


# several processes


def _parts(sizes: list[int], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [part.clone().requires_grad_() for part in draws(3, sum(sizes), 4).to(dtype).split(sizes, 1)]


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    for number, sizes in enumerate(SIZES):
        for name, form in FORMS.items():
            z, directions = _parts(sizes)[rank], unit_directions(4, 16, 0, number, CPU).double()
            scale = 2 * sizes[rank] / sum(sizes)
            found = joint_embedding_loss(z, 2, directions, 0.2, rows=sum(sizes), scale=scale, **form)
            found.loss.backward()
            results[number, name] = [x.detach() for x in found], z.grad
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gloo")
    run_together(_process, (str(path),), 2)
    return path


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("number", range(len(SIZES)))
def test_two_processes_are_one(folder, number, name):
    """The mean over the processes of the losses, and of the gradients, which DistributedDataParallel computes."""
    parts, directions = _parts(SIZES[number]), unit_directions(4, 16, 0, number, CPU).double()
    expected = joint_embedding_loss(torch.cat(parts, 1), 2, directions, 0.2, **FORMS[name])
    expected.loss.backward()
    found = [torch.load(folder / f"{rank}.pt")[number, name] for rank in range(2)]
    for value, first, second in zip(expected, *(terms for terms, _ in found), strict=True):
        assert (first + second).item() / 2 == pytest.approx(value.item(), rel=1e-9)
    for part, (_, gradient) in zip(parts, found, strict=True):
        assert part.grad.abs().max() > 1e-4
        assert torch.allclose(gradient / 2, part.grad, rtol=1e-8, atol=1e-12)


# wrong words


@pytest.mark.parametrize(("options", "message"), [
    ({"centre": "first"}, "centre='first' is not one of global, all"),
    ({"sample": "rows"}, "sample='rows'"),
    ({"weights": "one"}, "weights='one'"),
    ({"global_views": 0}, "0 of 3 views are global"),
    ({"global_views": 4}, "4 of 3 views"),
])  # fmt: skip
def test_wrong_words_are_refused(options, message):
    words = {"global_views": 1} | options
    with pytest.raises(ValueError, match=message):
        joint_embedding_loss(draws(3, 4, 2), directions=draws(2, 5), lam=0.1, **words)


def test_a_standard_normal_is_the_minimum_over_scales():
    directions = unit_directions(8, 256, 0, 0, CPU)
    losses = [float(sigreg(draws(1, 2048, 8) * scale, directions)) for scale in (0.7, 0.85, 1, 1.2, 1.4)]
    assert losses.index(min(losses)) == 2
    assert math.isfinite(sum(losses))
