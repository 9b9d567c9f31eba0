"""MoCo's queue: the published logits, loss, gradient and queue; and the composed loss by a sum over pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avssl.contrast.composition import Composition
from avssl.contrast.keys import NOTHING, pairs_of_video
from avssl.contrast.queue import KeyQueue, queue_terms

GOLDEN = Path(__file__).parent.parent / "golden" / "moco.npz"
CPU = torch.device("cpu")
ONE = Composition({"sample": "distinct", "augmentation": "invariant"}, "within_modal", modalities=("video",))
AXES = {"sample": "distinct", "modality": "invariant", "reversal": "distinct", "augmentation": "invariant"}


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def queue_of(keys: torch.Tensor, videos: torch.Tensor) -> KeyQueue:
    queue = KeyQueue(len(videos), len(keys), keys.shape[-1], CPU)
    queue.keys, queue.videos = keys.clone(), videos.clone()
    return queue


def test_it_is_moco():
    """Each call's logits, loss, gradient and queue; the published form has the queries of one view alone."""
    golden = {name: torch.from_numpy(x) for name, x in np.load(GOLDEN).items() if x.ndim}
    size, batch = golden["queue_before"].shape[2], golden["q"].shape[1]
    queue = queue_of(golden["queue_before"][:1].transpose(1, 2), torch.full((size,), 10_000))
    for step in range(len(golden["loss"])):
        assert torch.equal(queue.keys[0], golden["queue_before"][step].T)
        assert queue.next == int(golden["ptr_before"][step])
        weight = golden["weight_q_used"][step].clone().requires_grad_()
        query = F.normalize(golden["im_q"][step] @ weight.T + golden["bias_q_used"][step], dim=1)
        key, none = golden["k"][step], torch.zeros(batch, query.shape[1])
        queries, keys = torch.stack([query, none], 1)[None], torch.stack([none, key], 1)[None]
        videos = torch.arange(batch) + batch * step
        terms = queue_terms(queries, keys, videos, queue, ONE, 0.07)[0, :, 0]
        published = golden["logits"][step]
        expected = F.cross_entropy(published, torch.zeros(batch, dtype=torch.int64), reduction="none")
        assert torch.allclose(terms, expected, atol=1e-5)
        assert torch.allclose(query @ queue.keys[0].T / 0.07, published[:, 1:], atol=1e-5)
        assert terms.mean().item() == pytest.approx(float(golden["loss"][step]), abs=1e-5)
        terms.mean().backward()
        assert torch.allclose(weight.grad, golden["grad_weight_q"][step], atol=1e-5)
        queue.add(key[None, :, None], videos)
        assert torch.equal(queue.keys[0], golden["queue_after"][step].T)
        assert queue.next == int(golden["ptr_after"][step])
    assert sorted(queue.videos.tolist()) == [*range(batch, 5 * batch)]  # the last 32 of 40


def by_pairs(queries, keys, videos, queue, composition, temperature, small=0):
    """The same loss, pair by pair."""
    modalities, clips = len(composition.modalities), keys.shape[2]
    codes = composition.codes(torch.zeros(1, dtype=torch.int64)).view(modalities, clips, -1)
    terms = torch.zeros(modalities, len(videos), clips + small, dtype=torch.float64)
    for m in range(modalities):
        others = [n for n in range(modalities) if composition.compare != "cross_modal" or n != m]
        others = [m] if composition.compare == "within_modal" else others
        for b, video in enumerate(videos):
            for q in range(clips + small):
                own = codes[m, q if q < clips else 0]
                score = [(queries[m, b, q] @ k / temperature).exp() for n in others for k in queue.keys[n, :]]
                far = [
                    s
                    for s, number in zip(score, queue.videos.repeat(len(others)), strict=True)
                    if number not in (video, NOTHING)
                ]
                positive, negative = [], []
                for n in others:
                    for k in range(clips):
                        if (n, k) == (m, q):
                            continue
                        same = all(own[c] == codes[n, k, c] for c in composition.distinct_columns)
                        (positive if same else negative).append((queries[m, b, q] @ keys[n, b, k] / temperature).exp())
                rest = sum(far) + sum(negative)
                every = rest + sum(positive)
                total = [every] * len(positive)
                if composition.denominator == "without_positives":
                    total = [rest + p for p in positive]
                terms[m, b, q] = -sum((p / t).log() for p, t in zip(positive, total, strict=True)) / len(positive)
    return terms


@pytest.mark.parametrize(
    ("composition", "small"),
    [
        (Composition(AXES), 0),
        (Composition(AXES, "within_modal"), 2),
        (Composition(AXES, "all", "without_positives"), 1),
        (Composition({"sample": "distinct", "modality": "distinct", "augmentation": "invariant"}, "all"), 1),
        (ONE, 0),
    ],
)
@pytest.mark.parametrize("block", [0, 3])
def test_a_composed_queue_is_the_sum_over_its_pairs(composition, small, block):
    modalities, clips = len(composition.modalities), len(composition.plain)
    queries, keys = unit(modalities, 3, clips + small, 5).requires_grad_(), unit(modalities, 3, clips, 5, seed=1)
    queue = queue_of(unit(modalities, 8, 5, seed=2), torch.tensor([7, 2, NOTHING, 4, 9, 9, 4, NOTHING]))
    videos = torch.tensor([4, 2, 11])
    found = queue_terms(queries, keys, videos, queue, composition, 0.3, block)
    expected = by_pairs(queries, keys, videos, queue, composition, 0.3, small)
    assert torch.allclose(found, expected, atol=1e-12)
    (gradient,) = torch.autograd.grad(found.sum(), queries)
    (other,) = torch.autograd.grad(expected.sum(), queries)
    assert torch.allclose(gradient, other, atol=1e-10)


def test_an_empty_queue_has_no_negatives():
    queries, keys = unit(1, 3, 2, 5).float().requires_grad_(), unit(1, 3, 2, 5, seed=1).float()
    for denominator in ("all", "without_positives"):
        one = Composition(dict(ONE.axes), "within_modal", denominator, modalities=("video",))
        terms = queue_terms(queries, keys, torch.arange(3), KeyQueue(4, 1, 5, CPU), one)
        assert torch.equal(terms, torch.zeros(1, 3, 2))
        (gradient,) = torch.autograd.grad(terms.sum(), queries)
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("size", [1, 5, 6, 7, 100])
def test_the_newest_keys_stay(size):
    queue, added = KeyQueue(size, 2, 3, CPU), []
    for step in range(7):
        keys, videos = unit(2, 3, 2, 3, seed=step).float(), torch.arange(3) + 3 * step
        queue.add(keys, videos)
        added += [(int(v), keys[:, b, c]) for b, v in enumerate(videos) for c in range(2)]
        there = {
            (int(v), *map(float, k.flatten())) for v, k in zip(queue.videos, queue.keys.transpose(0, 1), strict=True)
        }
        newest = {(v, *map(float, k.flatten())) for v, k in added[-size:]}
        assert {x for x in there if x[0] != NOTHING} == newest
    other = KeyQueue(size, 2, 3, CPU)
    other.load_state_dict(queue.state_dict(), 21)
    for one in (queue, other):
        one.add(unit(2, 3, 2, 3, seed=9).float(), torch.arange(3))
    assert torch.equal(queue.keys, other.keys)
    assert torch.equal(queue.videos, other.videos)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"keys": torch.zeros(2, 5, 3)}, "has the shape"),
        ({"keys": torch.full((2, 4, 3), torch.nan)}, "no unit vectors"),
        ({"keys": torch.zeros(2, 4, 3, dtype=torch.int64)}, "no unit vectors"),
        ({"videos": torch.tensor([0, 9, 1, 1])}, "not in the index"),
        ({"videos": torch.tensor([0, -2, 1, 1])}, "not in the index"),
        ({"next": 4}, "has no place 4"),
        ({"next": -1}, "has no place -1"),
        ({"next": 1.0}, "has no place 1.0"),
    ],
)
def test_a_queue_that_does_not_fit_is_refused(changed, match):
    queue = KeyQueue(4, 2, 3, CPU)
    with pytest.raises(ValueError, match=match):
        queue.load_state_dict(queue.state_dict() | changed, 9)


def test_a_small_view_has_the_codes_of_the_first_clip():
    positive, negative = pairs_of_video(Composition(AXES, "within_modal"), 1, CPU)
    assert positive[0, 4].tolist() == [True, False, True, False, *[False] * 4]  # both augmentations, played forwards
    assert negative[0, 4].tolist() == [False, True, False, True, *[False] * 4]
