"""The loss against the formula, the published figures, a hand-written InfoNCE, and its own blocked form."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.contrast.composition import Composition, preset
from avssl.contrast.loss import contrastive_loss, fold, normalise
from avssl.contrast.statistics import statistics
from avssl.core.errors import UserError
from benchmarks.contrast import two_view_info_nce

GOLDEN = Path(__file__).parent.parent / "golden" / "gdt_loss.npz"
BASE = {"sample": "distinct", "modality": "invariant"}
VIEWS = ["time_shift", "augmentation", "reversal"]
WITHIN = {"sample": "distinct", "modality": "invariant", "augmentation": "invariant", "reversal": "distinct"}


def by_formula(z, codes, composition, temperature=0.07, anchors=None):
    """The formula, transcribed: a loop over anchors and one over what they are compared with."""
    z = [v / v.norm() for v in z.double()]
    total, count = 0.0, 0
    for i in range(len(z)) if anchors is None else anchors:
        compared, positives = [], []
        for j in range(len(z)):
            c = all(
                codes[i, column] == codes[j, column]
                for column, name in enumerate(composition.columns)
                if composition.axes.get(name) == "distinct"
            )
            same_modality = bool(codes[i, 0] == codes[j, 0])
            w = {"cross_modal": not same_modality, "within_modal": same_modality, "all": True}[composition.compare]
            if w and i != j:
                compared.append(j)
                if c:
                    positives.append(j)
        for j in positives:
            others = compared
            if composition.denominator == "without_positives":
                others = [k for k in compared if k == j or k not in positives]
            denominator = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in others)
            total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / denominator) / len(positives)
        count += 1
    return total / count


@st.composite
def compositions(draw):
    """Valid compositions."""
    axes = {"sample": "distinct", "modality": draw(st.sampled_from(["distinct", "invariant"]))}
    axes |= draw(st.dictionaries(st.sampled_from(VIEWS), st.sampled_from(["distinct", "invariant"])))
    options = {
        "compare": draw(st.sampled_from(["cross_modal", "within_modal", "all"])),
        "denominator": draw(st.sampled_from(["all", "without_positives"])),
        "stop_gradient": draw(st.sampled_from(["none", "keys"])),
        "modalities": draw(st.sampled_from([("video", "audio"), ("video",), ("video", "audio", "text")])),
    }
    try:
        return Composition(axes, **options)
    except UserError:
        return Composition(
            axes | {"modality": "invariant", "augmentation": "invariant"}, **options | {"compare": "all"}
        )


def batch(composition, videos=3, dim=5, seed=0, dtype=torch.float64):
    codes = composition.codes(torch.arange(videos) * 3 + 1)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(codes), dim, generator=generator, dtype=torch.float64).to(dtype), codes


def value_and_gradient(z, *args, **options):
    z = z.clone().requires_grad_()
    loss = contrastive_loss(z, *args, **options)
    return loss.item(), torch.autograd.grad(loss, z)[0]


# Published figures. The embeddings are of unit length already. h1 is preset 1 and h2 preset 2 over the global batch
# of both processes' videos: no factor, no other key set, `denominator: all`. The published code reaches the same
# number process by process, each with its own anchors against the keys of both; the file holds the mean of the two.


@pytest.mark.parametrize(("figure", "number", "names"), [("h1", 1, "v a"), ("h2", 2, "v vR a aR")])
@pytest.mark.parametrize("block", [0, 5])
@pytest.mark.parametrize("stop_gradient", ["none", "keys"])
def test_published_losses(figure, number, names, block, stop_gradient):
    golden = np.load(GOLDEN)
    composition = Composition(**preset(number), stop_gradient=stop_gradient)
    views = np.stack([golden[n] for n in names.split()])  # [modality · reversal, process, video, D]
    views = views.reshape(2, -1, 12, 16).transpose(0, 2, 1, 3)  # nested as modality, video, reversal
    z, codes = torch.from_numpy(views.reshape(-1, 16)), composition.codes(torch.arange(12))
    published = pytest.approx(float(golden[figure]), abs=1e-5)
    assert contrastive_loss(z, codes, composition, 0.07, block=block).item() == published
    of_process = [codes[:, 1] // 6 == process for process in range(2)]
    each = []
    for mine in of_process:  # keys in the order of the processes, as gathered
        order = torch.cat([z[rows] for rows in of_process]), torch.cat([codes[rows] for rows in of_process])
        offset = 0 if mine is of_process[0] else int(of_process[0].sum())
        each.append(
            contrastive_loss(z[mine], codes[mine], composition, keys=order[0], key_codes=order[1], offset=offset)
        )
    assert sum(each).item() / 2 == published


@settings(deadline=None, max_examples=60)
@given(compositions(), st.integers(0, 1000), st.sampled_from([0, 1, 4, 7]), st.sampled_from([0.01, 0.07, 1.0]))
def test_the_formula(composition, seed, block, temperature):
    z, codes = batch(composition, seed=seed)
    loss = contrastive_loss(z, codes, composition, temperature, block=block).item()
    assert loss == pytest.approx(by_formula(z, codes, composition, temperature), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(compositions(), st.integers(0, 1000), st.integers(1, 13), st.sampled_from([torch.float32, torch.float64]))
def test_blocks_change_nothing(composition, seed, block, dtype):
    z, codes = batch(composition, seed=seed, dtype=dtype)
    plain, plain_gradient = value_and_gradient(z, codes, composition)
    blocked, gradient = value_and_gradient(z, codes, composition, block=block)
    assert blocked == pytest.approx(plain, abs=1e-5)
    assert torch.allclose(gradient, plain_gradient, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(compositions(), st.integers(0, 1000))
def test_the_order_of_the_batch_is_of_no_account(composition, seed):
    z, codes = batch(composition, seed=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(z)))
    loss, gradient = value_and_gradient(z, codes, composition)
    permuted, permuted_gradient = value_and_gradient(z[order], codes[order], composition)
    assert permuted == pytest.approx(loss)
    assert torch.allclose(permuted_gradient, gradient[order])


@settings(deadline=None, max_examples=30)
@given(compositions(), st.integers(0, 1000))
def test_what_is_invariant_merges_and_c_is_an_equivalence(composition, seed):
    _, codes = batch(composition, seed=seed)
    rng = np.random.default_rng(seed)
    label, count = fold(codes, composition)
    c = label[:, None] == label
    assert torch.equal(c, c.T)
    assert label.max() + 1 == count == len(codes[:, composition.distinct_columns].unique(dim=0))
    distinct = codes[:, composition.distinct_columns]
    assert torch.equal(c, (distinct[:, None] == distinct).all(-1))
    for column, name in enumerate(composition.columns):
        if composition.axes[name] == "invariant":
            codes[:, column] = torch.from_numpy(rng.integers(0, 9, len(codes)))
    assert torch.equal(fold(codes, composition)[0], label)


@settings(deadline=None, max_examples=20)
@given(st.sets(st.sampled_from(VIEWS)), st.integers(0, 1000))
def test_all_invariant_but_sample_equals_ignoring_them(views, seed):
    named = Composition(BASE | dict.fromkeys(views, "invariant"))
    z, codes = batch(named, seed=seed)
    assert contrastive_loss(z, codes[:, :2], Composition(BASE)).item() == pytest.approx(
        contrastive_loss(z, codes, named).item()
    )


def test_huge_codes_do_not_collide():
    codes = torch.tensor([[0, 2**62], [0, -(2**62)], [0, 0], [1, 2**62], [1, -(2**62)], [1, 0]])
    label, count = fold(codes, Composition(BASE))
    assert count == 3
    assert label.tolist() == [2, 0, 1, 2, 0, 1]


def test_preset_1_is_two_view_info_nce():
    composition = Composition(**preset(1))
    z, codes = batch(composition, videos=20, dim=8)
    by_hand = z.clone().requires_grad_()
    expected = two_view_info_nce(by_hand)
    expected.backward()
    loss, gradient = value_and_gradient(z, codes, composition)
    assert loss == pytest.approx(expected.item())
    assert torch.allclose(gradient, by_hand.grad)


def test_simclr_is_nt_xent():
    composition = Composition(
        {"sample": "distinct", "augmentation": "invariant"}, compare="within_modal", modalities=("video",)
    )
    z, codes = batch(composition, videos=10)
    unit = F.normalize(z, dim=1)
    logits = (unit @ unit.T / 0.5).fill_diagonal_(-torch.inf)
    partner = torch.arange(20) ^ 1
    assert contrastive_loss(z, codes, composition, 0.5).item() == pytest.approx(F.cross_entropy(logits, partner).item())


@pytest.mark.parametrize("compare", ["cross_modal", "within_modal", "all"])
@pytest.mark.parametrize("denominator", ["all", "without_positives"])
@pytest.mark.parametrize("block", [0, 3])
def test_gradients(compare, denominator, block):
    composition = Composition(WITHIN, compare, denominator)
    z, codes = batch(composition, videos=2, dim=3)
    z.requires_grad_()
    for temperature in (0.5, 0.02):
        assert torch.autograd.gradcheck(lambda x, t=temperature: contrastive_loss(x, codes, composition, t), z)
    assert torch.autograd.gradcheck(lambda x: contrastive_loss(x, codes, composition, 0.5, block=block), z)


@pytest.mark.parametrize("denominator", ["all", "without_positives"])
def test_stopped_keys_get_no_gradient(denominator):
    composition = Composition(**preset(2), denominator=denominator, stop_gradient="keys")
    z, codes = batch(composition)
    loss, gradient = value_and_gradient(z, codes, composition)
    through = Composition(**preset(2), denominator=denominator)
    assert loss == pytest.approx(contrastive_loss(z, codes, through).item())
    anchors = z.clone().requires_grad_()
    contrastive_loss(anchors, codes, through, keys=z, key_codes=codes).backward()
    assert torch.allclose(gradient, anchors.grad)
    assert not torch.allclose(gradient, value_and_gradient(z, codes, through)[1])


def test_keys_of_elsewhere():
    composition = Composition(WITHIN, "all")
    z, codes = batch(composition, videos=4)
    mine = slice(5, 14)
    part = contrastive_loss(z[mine], codes[mine], composition, keys=z, key_codes=codes, offset=5, block=4)
    assert part.item() == pytest.approx(by_formula(z, codes, composition, anchors=range(5, 14)))
    # none of the keys is the anchor: its copy among them is a positive like any other
    queue = contrastive_loss(z, codes, composition, keys=z, key_codes=codes, offset=None)
    assert queue.item() < contrastive_loss(z, codes, composition).item()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-8, 1e8, 1e30])
@pytest.mark.parametrize("compare", ["cross_modal", "all"])
@pytest.mark.parametrize("denominator", ["all", "without_positives"])
@pytest.mark.parametrize("temperature", [1e-4, 0.02, 0.07])
def test_nothing_is_nan(scale, compare, denominator, temperature):
    composition = Composition(WITHIN, compare, denominator)
    z, codes = batch(composition, dtype=torch.float32)
    sure = F.one_hot(codes[:, 1] // 3, 5).float()  # every positive at 1, every negative at 0
    for embeddings in (z * scale, sure * scale, -sure, torch.cat([z[:10] * 0, z[10:]])):
        for block in (0, 5):
            loss, gradient = value_and_gradient(embeddings, codes, composition, temperature, block=block)
            assert math.isfinite(loss)
            assert gradient.isfinite().all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.sampled_from([0.0, 1e-30, 1e-8, 1e-5, 1e-3, 0.02]), st.sampled_from(["none", "keys"]))
def test_the_gradient_of_a_short_embedding_is_bounded(seed, length, stop_gradient):
    """A row that a collapsed or dead projection gives, among others of ordinary length."""
    composition = Composition(WITHIN, "all", stop_gradient=stop_gradient)
    z, codes = batch(composition, seed=seed, dtype=torch.float32)
    z[seed % len(z)] *= length / z[seed % len(z)].norm()
    _, gradient = value_and_gradient(z, codes, composition)
    # of the loss by a unit row, at most (2 / τ) / M for each of M anchors; then by the length
    assert gradient.norm(dim=1).max() < 2 / 0.07 / 0.01
    assert value_and_gradient(z * 0, codes, composition)[1].abs().max() < 2 / 0.07 / 0.01


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.floats(0.011, 1e6), st.sampled_from([torch.float32, torch.float64]))
def test_embeddings_of_ordinary_length_become_unit_vectors(seed, length, dtype):
    z = torch.randn(20, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = (z / z.norm(dim=1, keepdim=True) * length).to(dtype).requires_grad_()
    weights = torch.randn(20, 8, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64).to(dtype)
    expected = z / z.norm(dim=1, keepdim=True)
    digits = 1e-6 if dtype == torch.float32 else 1e-12
    assert torch.allclose(normalise(z), expected, rtol=digits, atol=digits)
    ours, theirs = (torch.autograd.grad((x * weights).sum(), z)[0] for x in (normalise(z), expected))
    assert torch.allclose(ours, theirs, rtol=20 * digits, atol=20 * digits / length)


def test_one_video_has_nothing_to_repel():
    composition = Composition(**preset(1))
    z, codes = batch(composition, videos=1, dtype=torch.float32)
    for denominator in ("all", "without_positives"):
        loss, gradient = value_and_gradient(z, codes, Composition(**preset(1), denominator=denominator))
        assert loss == pytest.approx(0, abs=1e-6)
        assert gradient.isfinite().all()


def test_half_precision_is_computed_in_float32():
    composition = Composition(**preset(2))
    z, codes = batch(composition, videos=8, dim=16, dtype=torch.float32)
    exact = contrastive_loss(z.bfloat16().float(), codes, composition)
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(z.bfloat16(), codes, composition)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), abs=1e-6)


@pytest.mark.parametrize("denominator", ["all", "without_positives"])
@pytest.mark.parametrize("compare", ["cross_modal", "all"])
def test_memory(compare, denominator):
    """No tensor is larger than the similarity matrix; with blocks none than rows × block, and little is kept."""
    composition = Composition(WITHIN, compare, denominator)
    z, codes = batch(composition, videos=64, dim=4, dtype=torch.float32)
    rows = len(z)
    kept = []

    def keep(x):
        kept.append(x.numel())
        return x

    for block, most in ((0, rows * rows), (32, rows * 32)):
        with torch.profiler.profile(record_shapes=True) as profile:
            leaf = z.clone().requires_grad_()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
                loss = contrastive_loss(leaf, codes, composition, block=block)
            loss.backward()
        shapes = [s for event in profile.events() for s in event.input_shapes if all(isinstance(n, int) for n in s)]
        assert max(math.prod(s) for s in shapes) <= most
        if block:
            assert max(kept) <= rows * rows // block
        kept.clear()


def test_statistics():
    composition = Composition(BASE | {"reversal": "distinct"})
    codes = composition.codes(torch.arange(6))
    label, count = fold(codes, composition)
    perfect = statistics(F.one_hot(label, count).float(), codes, composition, rows=7)
    assert perfect == pytest.approx(
        {"positive": 1, "negative": 0, "alignment": 0, "uniformity": -4, "retrieval": 1}, abs=1e-6
    )
    collapsed = statistics(torch.ones(len(codes), 4), codes, composition)
    assert collapsed == pytest.approx(
        {"positive": 1, "negative": 1, "alignment": 0, "uniformity": 0, "retrieval": 0}, abs=1e-5
    )
    z, _ = batch(composition, videos=6)
    measured = statistics(z, codes, composition, rows=5)
    unit = F.normalize(z, dim=1)
    w = codes[:, None, 0] != codes[:, 0]
    c = label[:, None] == label
    squared = torch.cdist(unit, unit) ** 2
    assert measured["alignment"] == pytest.approx(squared[w & c].mean().item())
    assert measured["uniformity"] == pytest.approx((-2 * squared[w & ~c]).exp().mean().log().item())
    nearest = (unit @ unit.T).masked_fill(~w, -2).argmax(1)
    assert measured["retrieval"] == pytest.approx((label[nearest] == label).double().mean().item())


def test_statistics_are_of_float32_whatever_autocast_says():
    composition = Composition(BASE)
    codes = composition.codes(torch.arange(40))
    z = F.one_hot(codes[:, 1], 40).float() + 0.9 + 0.01 * torch.randn(80, 40)
    exact = statistics(z, codes, composition)
    with torch.autocast("cpu", torch.bfloat16):
        assert statistics(z, codes, composition) == exact


def test_what_does_not_fit_is_one_line():
    composition = Composition(**preset(1))
    z, codes = batch(composition)
    for options, match in (
        ({"codes": codes[:-1]}, "need codes"),
        ({"codes": codes[:, :1]}, "need codes"),
        ({"temperature": 0}, "must be positive"),
        ({"keys": z}, "must be given together"),
        ({"keys": z, "key_codes": codes, "offset": 1}, "not among"),
    ):
        with pytest.raises(ValueError, match=match):
            contrastive_loss(**{"z": z, "codes": codes, "composition": composition} | options)
