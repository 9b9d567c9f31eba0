"""The loss of localisation: hand-worked numbers, symmetries, blocks, and two processes that are one."""

import math
import os

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from avssl.contrast.localisation import as_rows, best_similarities, localisation_loss
from avssl.core.collectives import rank_slice
from tests.processes import run_together

TAU = 0.5
FOUR = torch.arange(4)


def clips(count: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Random maps of 2 moments of 3 x 4 positions in 5 channels, and audio."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((count, 5, 2, 3, 4), (count, 5))
    positions, audio = (torch.randn(*size, generator=generator, dtype=dtype) for size in sizes)
    return F.normalize(positions).requires_grad_(), audio.requires_grad_()


def test_the_loss_of_two_clips_by_hand():
    """Clip 0 has its sound at its second position, clip 1 at its first; cosines are 0, 0.6, 0.8 or 1."""
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    between = torch.tensor([0.6, 0.8])
    positions = torch.stack([torch.stack([between, x], 1), torch.stack([y, torch.zeros(2)], 1)])
    positions, audio = positions[:, :, None, None], torch.stack([5 * x, 0.5 * y])
    found = localisation_loss(positions, audio, torch.arange(2), TAU)
    similarities = torch.tensor([[1.0, 0.8], [0.0, 1.0]])
    assert torch.allclose(found.similarities, similarities)
    by_row = math.log1p(math.exp(-0.2 / TAU)) + math.log1p(math.exp(-1 / TAU))
    by_column = math.log1p(math.exp(-1 / TAU)) + math.log1p(math.exp(-0.2 / TAU))
    assert float(found.loss) == pytest.approx((by_row + by_column) / 4)


def test_every_moment_has_its_own_maximum():
    positions, audio = clips()
    heat = torch.einsum("mcthw,nc->mnthw", positions, F.normalize(audio))
    expected = heat.flatten(3).amax(3).mean(2)
    for block in (1, 100, 1 << 20):
        found = best_similarities(as_rows(positions), F.normalize(audio), block)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("form", ["max", "soft"])
def test_the_gradient_is_that_of_the_loss_for_every_block(form):
    positions, audio = clips(4)

    def loss(positions: torch.Tensor, audio: torch.Tensor, block: int = 50) -> torch.Tensor:
        return localisation_loss(positions, audio, FOUR, TAU, form=form, block=block).loss

    assert torch.autograd.gradcheck(loss, (positions, audio))
    whole = torch.autograd.grad(loss(positions, audio, 1 << 20), (positions, audio))
    for one, other in zip(whole, torch.autograd.grad(loss(positions, audio), (positions, audio)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", ["max", "soft"])
def test_neither_the_order_of_clips_nor_that_of_positions_matters(form):
    positions, audio = (x.detach() for x in clips())
    loss = localisation_loss(positions, audio, torch.arange(6), TAU, form=form).loss
    order, places = torch.randperm(6), torch.randperm(12)
    moved = positions.flatten(3)[..., places].view_as(positions)[order]
    torch.testing.assert_close(localisation_loss(moved, audio[order], order, TAU, form=form).loss, loss)
    other = localisation_loss(positions, audio.roll(1, 0), torch.arange(6), TAU, form=form).loss
    assert abs(float(other - loss)) > 1e-3


@pytest.mark.parametrize("form", ["max", "soft"])
def test_clips_of_a_video_are_no_negatives_of_each_other(form):
    """Two clips of each of two videos: as if the other clip were not in the batch."""
    positions, audio = (x.detach() for x in clips(4))
    videos = torch.tensor([7, 7, 3, 3])
    found = localisation_loss(positions, audio, videos, TAU, form=form)
    assert found.similarities.isneginf().nonzero().tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    if form == "max":
        logits = best_similarities(as_rows(positions), F.normalize(audio)) / TAU
        rows = [logits[i, [i, *(j for j in range(4) if videos[j] != videos[i])]] for i in range(4)]
        columns = [logits[[i, *(j for j in range(4) if videos[j] != videos[i])], i] for i in range(4)]
        expected = torch.stack([x.logsumexp(0) - x[0] for x in rows + columns]).mean()
        torch.testing.assert_close(found.loss, expected)


def test_the_soft_form_by_hand():
    """Cosines of 0.95 and 0.2 with the own audio: the first is foreground, the second background, almost fully."""
    own, other = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    near = torch.tensor([0.95, math.sqrt(1 - 0.95**2), 0.0])
    far = torch.tensor([0.2, math.sqrt(1 - 0.2**2), 0.0])
    positions = torch.stack([torch.stack([near, far], 1), torch.stack([other, other], 1)])[:, :, None, None]
    found = localisation_loss(positions, torch.stack([own, other]), torch.arange(2), TAU, form="soft")
    assert float(found.similarities[0, 0]) == pytest.approx(0.95, abs=1e-4)
    assert float(found.similarities[0, 1]) == pytest.approx(0)
    first = math.log(1 + math.exp((0 - 0.95) / TAU) + math.exp((0.2 - 0.95) / TAU))
    second = math.log(1 + math.exp((0 - 1) / TAU) + math.exp((1 - 1) / TAU))  # its background is as near as its object
    assert float(found.loss) == pytest.approx((first + second) / 2, abs=1e-4)


def test_the_soft_form_tells_the_background_from_other_audio():
    positions, audio = (x.detach().float().requires_grad_() for x in clips())
    optimiser = torch.optim.Adam([positions, audio], 0.05)
    for _ in range(60):
        loss = localisation_loss(F.normalize(positions), audio, torch.arange(6), 0.07, form="soft").loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    heat = torch.einsum("mtpc,mc->mtp", as_rows(F.normalize(positions)), F.normalize(audio)).detach()
    assert heat.amax(2).min() > 0.65 > 0.4 > heat.amin(2).max()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"temperature": 0.0}, "must be positive"), ({"form": "mean"}, "not one of"), ({"videos": FOUR}, "need audio")],
)
def test_wrong_arguments_are_refused(change, message):
    positions, audio = clips()
    with pytest.raises(ValueError, match=message):
        localisation_loss(**{"positions": positions, "audio": audio, "videos": torch.arange(6), **change})


VIDEOS = torch.tensor([4, 0, 1, 4, 2, 5, 3])
"""One is twice in the batch, in two processes."""


def both(form: str, rows: range) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of some of seven clips, their gradients, and their similarities."""
    positions, audio = (x.detach()[rows.start : rows.stop].requires_grad_() for x in clips(7))
    sizes = [3, 4] if len(rows) < 7 else [7]
    found = localisation_loss(positions, audio, VIDEOS[rows.start : rows.stop], TAU, form=form, sizes=sizes)
    found.loss.backward()
    assert positions.grad is not None
    assert audio.grad is not None
    return found.loss.detach(), positions.grad, audio.grad, found.similarities


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save({form: both(form, rank_slice(7)) for form in ("max", "soft")}, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_are_one(tmp_path):
    run_together(_process, (str(tmp_path),), 2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for form in ("max", "soft"):
        loss, *expected = both(form, range(7))
        losses, *found = zip(*(part[form] for part in parts), strict=True)
        torch.testing.assert_close(torch.stack(losses).mean(), loss, atol=1e-6, rtol=0)
        for name, one, several in zip(("positions", "audio", "similarities"), expected, found, strict=True):
            together = torch.cat(several) if name == "similarities" else torch.cat(several) / 2  # the mean over both
            torch.testing.assert_close(together, one, atol=1e-5, rtol=0)
