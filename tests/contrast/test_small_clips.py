"""Small clips as further anchors of the contrastive loss."""

import pytest
import torch

from avssl.contrast.composition import Composition, preset
from avssl.contrast.gather import global_contrastive_loss
from avssl.contrast.loss import contrastive_loss

AXES = {"sample": "distinct", "modality": "invariant", "reversal": "distinct", "augmentation": "invariant"}
COMPOSITIONS = [
    Composition(AXES),
    Composition(AXES, "within_modal", "without_positives"),
    Composition(AXES, "all", stop_gradient="keys"),
    Composition({"sample": "distinct", "augmentation": "invariant"}, "within_modal", modalities=("video",)),
]
VIDEOS, SMALL = torch.tensor([7, 3, 7, 9]), 3


def small_codes(composition: Composition, videos: torch.Tensor) -> torch.Tensor:
    """The codes of the small clips: those of level 0 of every axis, int64 [modalities · B · SMALL, A]."""
    codes = composition.codes(videos)
    return codes[:: len(composition.plain)].repeat_interleave(SMALL, 0)


@pytest.mark.parametrize("composition", COMPOSITIONS, ids=["cross_modal", "within_modal", "all", "video"])
@pytest.mark.parametrize("block", [0, 5])
def test_small_clips_are_anchors_whose_keys_are_the_whole_clips(composition, block):
    codes, few = composition.codes(VIDEOS), small_codes(composition, VIDEOS)
    g = torch.Generator().manual_seed(0)
    z, small = (torch.randn(len(x), 5, generator=g, dtype=torch.float64).requires_grad_() for x in (codes, few))
    found = global_contrastive_loss(z, VIDEOS, composition, 0.2, block=block, small=small)
    of_whole = contrastive_loss(z, codes, composition, 0.2)
    of_small = contrastive_loss(small, few, composition, 0.2, keys=z, key_codes=codes, offset=None)
    expected = (len(z) * of_whole + len(small) * of_small) / (len(z) + len(small))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(found, [z, small]), torch.autograd.grad(expected, [z, small]), strict=True
    ):
        assert theirs.abs().max() > 1e-4
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-14)


def test_without_small_clips_the_loss_is_what_it_was():
    composition, z = COMPOSITIONS[0], torch.randn(32, 5)
    without = global_contrastive_loss(z, VIDEOS, composition)
    assert torch.equal(global_contrastive_loss(z, VIDEOS, composition, small=z[:0]), without)


def test_wrong_numbers_of_small_clips_are_errors():
    released = Composition(**preset(1), form="released")
    with pytest.raises(ValueError, match="no embeddings of small clips"):
        global_contrastive_loss(torch.randn(8, 5), VIDEOS, released, small=torch.randn(8, 5))
    with pytest.raises(ValueError, match="no embeddings of small clips"):
        global_contrastive_loss(torch.randn(8, 5), VIDEOS, Composition(**preset(1)), small=torch.randn(9, 5))
