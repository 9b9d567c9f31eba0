"""Two real processes give the gradient and the loss of one."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from avssl.contrast.composition import Composition, preset
from avssl.contrast.gather import global_contrastive_loss
from avssl.contrast.loss import contrastive_loss, normalise
from avssl.contrast.released_loss import released_loss
from tests.contrast.test_bank import TOGETHER, step_of, weight_of
from tests.processes import run_together

AXES = {"sample": "distinct", "modality": "invariant", "reversal": "distinct", "augmentation": "invariant"}
CASES = [
    (Composition(AXES), [4, 4], 0),
    (Composition(AXES), [5, 2], 3),
    (Composition(AXES, "within_modal"), [1, 4], 0),
    (Composition(AXES, "all", "without_positives"), [3, 2], 5),
    (Composition(AXES, "all", stop_gradient="keys"), [3, 2], 0),
    (Composition(AXES, stop_gradient="keys"), [1, 6], 4),
]
CROSS_MODAL = Composition(**preset(1))
RELEASED = [(7, [4, 4]), (9, [5, 2]), (2, [3, 4]), (1, [1, 3])]
"""Hypotheses in the released form, and the videos of each process."""


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).double()


def _inputs(composition: Composition, videos: torch.Tensor) -> torch.Tensor:
    """A function of the codes alone, the same on whichever process."""
    codes = composition.codes(videos).double()
    return (
        torch.cat(
            [(codes * f + 0.3).sin() @ torch.ones(codes.shape[1], 3).double() * s for f, s in ((1.7, 1), (3.1, 2))], 1
        )
        + (codes @ torch.arange(1, 1 + codes.shape[1]).double())[:, None].cos() * torch.arange(6).double()
    )


def _small_inputs(composition: Composition, videos: torch.Tensor) -> torch.Tensor:
    """Two small clips of each video and modality."""
    first = _inputs(composition, videos)[:: len(composition.plain)]
    return torch.stack([first.cos(), first * 0.5 + 1], 1).flatten(0, 1)


def _short_embeddings() -> torch.Tensor:
    """Float [2, 4, 3] of four videos, among them one of zeros and one that is almost so."""
    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    z[0, 0], z[1, 3] = 0, z[1, 3] / z[1, 3].norm() * 0.004
    return z


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for number, (composition, sizes, block) in enumerate(CASES):
        model = DistributedDataParallel(_model())
        videos = torch.arange(sum(sizes)).split(sizes)[rank] + 100
        loss = global_contrastive_loss(
            model(_inputs(composition, videos)),
            videos,
            composition,
            0.2,
            block=block,
            sizes=sizes if number % 2 else None,
        )
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        torch.save([mean / 2, [p.grad for p in model.parameters()]], f"{folder}/{number}-{rank}.pt")
    for number, (composition, sizes, block) in enumerate(CASES):
        model, videos = DistributedDataParallel(_model()), torch.arange(sum(sizes)).split(sizes)[rank] + 100
        z = model(torch.cat([_inputs(composition, videos), _small_inputs(composition, videos)]))
        whole, small = z.split([len(composition.codes(videos)), len(z) - len(composition.codes(videos))])
        loss = global_contrastive_loss(whole, videos, composition, 0.2, block=block, sizes=sizes, small=small)
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        torch.save([mean / 2, [p.grad for p in model.parameters()]], f"{folder}/small-{number}-{rank}.pt")
    for number, sizes in RELEASED:
        composition, model = Composition(**preset(number), form="released"), DistributedDataParallel(_model())
        videos = torch.arange(sum(sizes)).split(sizes)[rank] + 100
        loss = global_contrastive_loss(model(_inputs(composition, videos)), videos, composition, 0.2)
        loss.backward()
        torch.save([loss.detach(), [p.grad for p in model.parameters()]], f"{folder}/released-{number}-{rank}.pt")
    short = _short_embeddings()[:, 2 * rank : 2 * rank + 2].reshape(4, 3).requires_grad_()
    loss = global_contrastive_loss(short, torch.arange(2) + 2 * rank, CROSS_MODAL)
    loss.backward()
    torch.save([loss.detach(), short.grad], f"{folder}/short-{rank}.pt")
    torch.save([step_of(rank, case, weight_of()) for case in range(len(TOGETHER))], f"{folder}/bank-{rank}.pt")
    dist.barrier()
    os._exit(0)  # torch 2.14 may abort when the interpreter ends after DistributedDataParallel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gloo")
    run_together(_process, (str(path),), 2)
    return path


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_are_one(folder, number):
    composition, sizes, _ = CASES[number]
    model, videos = _model(), torch.arange(sum(sizes)) + 100
    expected = contrastive_loss(model(_inputs(composition, videos)), composition.codes(videos), composition, 0.2)
    expected.backward()
    for rank in range(2):
        loss, gradients = torch.load(folder / f"{number}-{rank}.pt")
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad.abs().max() > 1e-4
            assert torch.allclose(gradient, parameter.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_with_small_clips_are_one(folder, number):
    composition, sizes, _ = CASES[number]
    model, videos = _model(), torch.arange(sum(sizes)) + 100
    inputs = _inputs(composition, videos)
    z = model(torch.cat([inputs, _small_inputs(composition, videos)]))
    small = z[len(inputs) :]
    expected = global_contrastive_loss(z[: len(inputs)], videos, composition, 0.2, small=small)
    expected.backward()
    for rank in range(2):
        loss, gradients = torch.load(folder / f"small-{number}-{rank}.pt")
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            assert torch.allclose(gradient, parameter.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("number", "sizes"), RELEASED)
def test_the_released_form_takes_the_other_processes_clips_as_negatives(folder, number, sizes):
    """Each process's loss by its own clips and the other's, and their mean over all videos."""
    composition, model = Composition(**preset(number), form="released"), _model()
    parts = (torch.arange(sum(sizes)) + 100).split(sizes)
    units = [normalise(model(_inputs(composition, videos))) for videos in parts]
    losses = [
        released_loss(units[rank], units[1 - rank], composition, 0.2) * 2 * sizes[rank] / sum(sizes)
        for rank in range(2)
    ]
    (sum(losses) / 2).backward()
    for rank in range(2):
        loss, gradients = torch.load(folder / f"released-{number}-{rank}.pt")
        assert loss.item() == pytest.approx(losses[rank].item(), rel=1e-9)
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad.abs().max() > 1e-4
            assert torch.allclose(gradient, parameter.grad, rtol=1e-8, atol=1e-12)
    if number in (1, 2):  # where the forms agree: the global batch in one process
        whole, composed = _model(), Composition(**preset(number), stop_gradient="keys")
        videos = torch.cat(parts)
        loss = contrastive_loss(whole(_inputs(composed, videos)), composed.codes(videos), composed, 0.2)
        loss.backward()
        assert loss.item() == pytest.approx(sum(losses).item() / 2, rel=1e-9)
        for one, other in zip(whole.parameters(), model.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, rtol=1e-8, atol=1e-12)


def test_short_embeddings_are_those_of_one_process(folder):
    z = _short_embeddings().reshape(8, 3).requires_grad_()
    expected = contrastive_loss(z, CROSS_MODAL.codes(torch.arange(4)), CROSS_MODAL)
    expected.backward()
    found = [torch.load(folder / f"short-{rank}.pt") for rank in range(2)]
    assert sum(loss for loss, _ in found).item() / 2 == pytest.approx(expected.item())
    gradient = torch.stack([g.view(2, 2, 3) for _, g in found], 1).view(8, 3) / 2
    assert z.grad[0].abs().max() > 1
    assert torch.allclose(gradient, z.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", range(len(TOGETHER)))
def test_a_bank_in_two_parts_is_the_whole_one(folder, case):
    """The softmax over all videos, over drawn ones, and NCE; and the rows afterwards."""
    found = [torch.load(folder / f"bank-{rank}.pt")[case] for rank in range(2)]
    losses, gradients, keys = step_of(0, case, weight_of())
    for place, one in ((0, losses), (1, gradients)):
        mean = sum(each[place] for each in found) / 2
        assert torch.allclose(mean, one, rtol=1e-9, atol=1e-12)
    assert gradients.abs().amax((1, 2)).min() > 1e-3
    assert torch.allclose(torch.cat([each[2] for each in found], 1), keys, atol=1e-12)


def test_without_a_process_group_it_is_the_plain_loss():
    composition = CASES[0][0]
    codes = composition.codes(torch.arange(3))
    z = torch.randn(len(codes), 4)
    assert global_contrastive_loss(z, torch.arange(3), composition) == contrastive_loss(z, codes, composition)
