"""Two real processes give the gradient and the loss of one."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from avssl.contrast.composition import Composition
from avssl.contrast.gather import global_contrastive_loss
from avssl.contrast.loss import contrastive_loss

AXES = {"sample": "distinct", "modality": "invariant", "reversal": "distinct", "augmentation": "invariant"}
CASES = [
    (Composition(AXES), [4, 4], 0),
    (Composition(AXES), [5, 2], 3),
    (Composition(AXES, "within_modal"), [1, 4], 0),
    (Composition(AXES, "all", "without_positives"), [3, 2], 5),
    (Composition(AXES, "all", stop_gradient="keys"), [3, 2], 0),
    (Composition(AXES, stop_gradient="keys"), [1, 6], 4),
]


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


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for number, (composition, sizes, block) in enumerate(CASES):
        model = DistributedDataParallel(_model())
        videos = torch.arange(sum(sizes)).split(sizes)[rank] + 100
        loss = global_contrastive_loss(
            model(_inputs(composition, videos)), composition.codes(videos), composition, 0.2, block=block
        )
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        torch.save([mean / 2, [p.grad for p in model.parameters()]], f"{folder}/{number}-{rank}.pt")
    dist.barrier()
    os._exit(0)  # torch 2.14 may abort when the interpreter ends after DistributedDataParallel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gloo")
    multiprocessing.spawn(_process, (str(path),), nprocs=2)
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


def test_without_a_process_group_it_is_the_plain_loss():
    composition = CASES[0][0]
    codes = composition.codes(torch.arange(3))
    z = torch.randn(len(codes), 4)
    assert global_contrastive_loss(z, codes, composition) == contrastive_loss(z, codes, composition)
