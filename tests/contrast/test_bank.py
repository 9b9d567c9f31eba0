"""NPID's bank: the published losses, gradients and memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from avssl.contrast import bank as bank_room
from avssl.contrast.bank import (
    KeyBank,
    bank_terms,
    drawn_videos,
    nce_normaliser,
    nce_terms,
    sampled_scores,
    sampled_terms,
)
from avssl.contrast.composition import Composition
from avssl.core.collectives import gather, rank_slice

GOLDEN = Path(__file__).parent.parent / "golden" / "npid.npz"
CPU = torch.device("cpu")
ONE = Composition({"sample": "distinct"}, "within_modal", modalities=("video",), keys="bank")
AXES = {"sample": "distinct", "modality": "invariant"}
VIDEOS = 11


def bank_of(memory: torch.Tensor) -> KeyBank:
    bank = KeyBank(range(len(memory)), 1, memory.shape[1], 0, CPU)
    bank.keys[0, :-1] = memory
    return bank


def test_the_released_nce_loss_is_npids():
    golden = {name: torch.from_numpy(x) for name, x in np.load(GOLDEN).items()}
    bank, temperature, normaliser = bank_of(golden["memory_before"]), float(golden["T"]), None
    for step in range(3):
        x, y, drawn = (golden[f"nce_{name}"][step] for name in ("x", "y", "idx"))
        x = x.clone().requires_grad_()
        scores = torch.einsum("bd,bkd->bk", x, bank.fetch(drawn.flatten())[0].view(*drawn.shape, -1)) / temperature
        near, far = scores[None, :, None, :1], scores[None, :, None, None, 1:]
        if normaliser is None:
            normaliser = nce_normaliser(near, far, 64, len(x))
        assert normaliser.item() == pytest.approx(float(golden["nce_Z"][step]), rel=1e-5)
        assert torch.allclose(scores.exp() / normaliser.flatten(), golden["nce_out"][step], atol=1e-5, rtol=1e-4)
        loss = nce_terms(near, far, normaliser, 64).mean()
        loss.backward()
        assert loss.item() == pytest.approx(float(golden["nce_loss"][step]), abs=1e-5)
        assert torch.allclose(x.grad, golden["nce_grad_x"][step], atol=1e-5)
        bank.update(y, x.detach()[None])
        assert torch.allclose(bank.keys[0, :-1], golden["nce_memory_after"][step], atol=1e-5)


@pytest.mark.parametrize("block", [0, 10])
def test_the_softmax_over_all_is_npids(block):
    golden = {name: torch.from_numpy(x) for name, x in np.load(GOLDEN).items()}
    bank, x, y = bank_of(golden["full_memory_before"]), golden["full_x"].clone().requires_grad_(), golden["full_y"]
    terms = bank_terms(x[None, :, None], y, bank, ONE, 0.07, block=block)
    assert torch.allclose(terms.flatten(), F.cross_entropy(golden["full_out"], y, reduction="none"), atol=1e-5)
    terms.mean().backward()
    assert terms.mean().item() == pytest.approx(float(golden["full_loss"]), abs=1e-5)
    assert torch.allclose(x.grad, golden["full_grad_x"], atol=1e-5)
    bank.update(y, x.detach()[None])
    assert torch.allclose(bank.keys[0, :-1], golden["full_memory_after"], atol=1e-5)


def test_drawing_every_other_video_once_is_the_softmax_over_all():
    compositions = [Composition(AXES, c, d) for c in ("cross_modal", "all") for d in ("all", "without_positives")]
    bank, videos = KeyBank(range(VIDEOS), 2, 6, 3, CPU), torch.tensor([8])
    x = F.normalize(torch.randn(2, 1, 3, 6), dim=-1)
    for composition in compositions:
        scores = sampled_scores(x, videos, bank, torch.arange(VIDEOS), composition, 0.2)
        drawn = sampled_terms(*scores, videos, torch.arange(VIDEOS), composition.denominator)
        assert torch.allclose(drawn, bank_terms(x, videos, bank, composition, 0.2), atol=1e-5)


def test_draws_are_uniform_and_differ():
    drawn = [drawn_videos(7000, 7, 0, number, CPU) for number in range(3)]
    for one in drawn:
        counts = one.bincount(minlength=7)
        assert len(counts) == 7
        assert ((counts - 1000).abs() < 150).all()
    agreement = (drawn[0] == drawn[1]).float().mean()
    assert 0.1 < agreement < 0.19
    assert torch.equal(drawn[2], drawn_videos(7000, 7, 0, 2, CPU))
    assert not torch.equal(drawn[2], drawn_videos(7000, 7, 1, 2, CPU))


def test_the_first_keys_depend_on_the_row_alone(monkeypatch):
    monkeypatch.setattr(bank_room, "CHUNK", 4)
    whole = KeyBank(range(VIDEOS), 2, 6, 3, CPU)
    assert torch.allclose(whole.keys[:, :-1].norm(dim=-1), torch.ones(2, VIDEOS))
    assert len(whole.keys[:, :-1].flatten(0, 1).unique(dim=0)) == 2 * VIDEOS
    for rows in (range(3), range(3, 9), range(9, VIDEOS), range(4, 8), range(5, 5)):
        part = KeyBank(rows, 2, 6, 3, CPU)
        assert torch.equal(part.keys[:, :-1], whole.keys[:, rows.start : rows.stop])
        assert not part.keys[:, -1].any()


def test_of_a_video_that_comes_twice_the_first_counts():
    bank, x = KeyBank(range(4, 9), 1, 6, 0, CPU), F.normalize(torch.randn(1, 4, 6), dim=-1)
    before = bank.keys.clone()
    bank.update(torch.tensor([5, 2, 5, 8]), x)
    for video, seen in ((5, 0), (8, 3)):
        expected = F.normalize(before[0, video - 4] + x[0, seen], dim=0)
        assert torch.allclose(bank.keys[0, video - 4], expected, atol=1e-6)
    assert torch.equal(bank.keys[0, [0, 2, 3, 5]], before[0, [0, 2, 3, 5]])


TOGETHER = [
    ("cross_modal", "all", 0, [3, 2]),
    ("all", "without_positives", 4, [1, 4]),
    ("within_modal", "all", 0, [4, 2]),
]
"""How queries are compared, and the videos of each process, for the two processes of `test_gathered`."""


def inputs(videos: torch.Tensor) -> torch.Tensor:
    """Float [modalities, B, Q, D], a function of the videos alone."""
    return torch.randn(VIDEOS, 2, 2, 6, generator=torch.Generator().manual_seed(0)).double()[videos].transpose(0, 1)


def step_of(rank: int, case: int, weight: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """The losses of all videos, of drawn ones and of NCE, with their gradients; and the bank's rows after it."""
    compare, denominator, block, sizes = TOGETHER[case]
    split = sizes if dist.is_initialized() else [sum(sizes)]
    composition, number = Composition(AXES, compare, denominator, keys="bank"), torch.arange(sum(sizes)) * 2
    videos = number.split(split)[rank]
    bank = KeyBank(rank_slice(VIDEOS), 2, 6, 3, CPU)
    bank.keys = bank.keys.double()
    queries = F.normalize(inputs(videos) @ weight, dim=-1)
    drawn = drawn_videos(5, VIDEOS, 0, case, CPU)
    scores = sampled_scores(queries, videos, bank, drawn, composition, 0.2, split)
    normaliser = nce_normaliser(*scores, VIDEOS, len(number))
    terms = [
        bank_terms(queries, videos, bank, composition, 0.2, sizes=split if case else None, block=block),
        sampled_terms(*scores, videos, drawn, denominator),
        nce_terms(*scores, normaliser, VIDEOS),
    ]
    losses = [each.mean() * len(videos) * len(split) / len(number) for each in terms]
    gradients = torch.stack([torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses])
    seen = gather(queries[:, :, 0].detach().transpose(0, 1).contiguous(), split).transpose(0, 1)
    bank.update(gather(videos, split), seen)
    return torch.stack(losses).detach(), gradients, bank.keys[:, :-1].clone()


def weight_of() -> torch.Tensor:
    return torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
