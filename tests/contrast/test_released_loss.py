"""The contrast of GDT's released loop: its published figures and gradients, and the lists that grow."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.config import ContrastConfig
from avssl.contrast.axes import Axis
from avssl.contrast.composition import PRESETS, Composition, preset
from avssl.contrast.gather import global_contrastive_loss
from avssl.contrast.loss import contrastive_loss
from avssl.contrast.released_loss import released_loss, released_terms
from avssl.core.errors import UserError

GOLDEN = Path(__file__).parent.parent / "golden" / "gdt_released.npz"
AGREEING = (1, 2, 4)
"""Hypotheses for which the composed form and the released one are one."""


class Mirror(Axis):
    """An axis of a user's own."""

    def __init__(self):
        super().__init__("mirror")


def released(number: int) -> Composition:
    return Composition(**preset(number), form="released")


def embeddings(golden, composition: Composition, process: int) -> torch.Tensor:
    """Of one process, in the order of `Composition.codes`: float32 [2 · 5 · V, 16]."""
    shifts = ["", "2"] if composition.role("time_shift") else [""]
    directions = ["", "R"] if composition.role("reversal") else [""]
    views = np.stack([[golden[m + s + r][process] for s in shifts for r in directions] for m in "va"])
    return torch.from_numpy(views.swapaxes(1, 2).reshape(-1, 16).copy())


@pytest.mark.parametrize("number", PRESETS)
def test_published_figures_and_gradients(number):
    golden, composition = np.load(GOLDEN), released(number)
    losses = []
    for process in range(2):
        unit = embeddings(golden, composition, process).requires_grad_()
        others = embeddings(golden, composition, 1 - process).requires_grad_()
        losses.append(released_loss(unit, others, composition, float(golden["temperature"])))
        losses[-1].backward()
        assert others.grad is None
        if process == 0:
            of_video = unit.grad.view(2, 5, -1, 16)[0, :, 0]  # by the first view's video
            assert np.abs(of_video.numpy() - golden[f"grad_v_h{number}"]).max() < 1e-5
        assert losses[-1].item() == pytest.approx(golden[f"h{number}_by_process"][process], abs=1e-5)
    assert (sum(losses) / 2).item() == pytest.approx(float(golden[f"h{number}"]), abs=1e-5)


def in_words(unit, others, number, temperature):
    """The released loop, transcribed from its description: lists of other processes' clips that grow in place.

    `unit` and `others` float64 [2, videos, views, D].
    """
    shift, reversal = PRESETS[number].get("time_shift"), PRESETS[number].get("reversal")
    first, turned, shifted, both = 0, 1, 2 if reversal else 1, 3
    pairs = {"turn": [(first, turned), (shifted, both)], "shift": [(first, shifted), (turned, both)]}
    pairs["turn"] = pairs["turn"][: 2 if shift else 1] if reversal else []
    pairs["shift"] = pairs["shift"][: 2 if reversal else 1] if shift else []
    calls = [("same", *pairs[name][0]) for name, r in (("turn", reversal), ("shift", shift)) if r == "invariant"]
    calls += [("invariant", y, x) if reversal == "invariant" else ("distinct", x, y) for x, y in pairs["turn"]]
    calls += [(shift, x, y) for x, y in pairs["shift"]]
    lists = [[[*others[m, :, view]] for view in range(others.shape[2])] for m in range(2)]
    calls = calls or [("same", first, None)]
    terms = []
    for relation, x, y in calls:
        of_term = []
        for m in range(2):
            negatives = lists[1 - m][x]
            if y is not None:
                negatives += lists[1 - m][y]  # in place: the next term that takes x finds them too
            for query, other in [(x, y), (y, x)] if y is not None else [(x, None)]:
                positive = other if relation == "invariant" else query
                near = [*unit[1 - m, :, positive]] + ([*unit[1 - m, :, other]] if relation == "distinct" else [])
                for i in range(unit.shape[1]):
                    q = unit[m, i, query]
                    weights = [math.exp(float(q @ k) / temperature) for k in [*near, *negatives]]
                    weight = math.exp(float(q @ unit[1 - m, i, positive]) / temperature)
                    of_term.append(-math.log(weight / sum(weights)))
        terms.append(sum(of_term) / len(of_term))
    return sum(terms) / len(terms)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([*PRESETS]), st.integers(1, 4), st.integers(0, 5), st.sampled_from([0.05, 0.3]), st.integers(0, 99)
)
def test_the_loop_in_words(number, videos, far, temperature, seed):
    composition = released(number)
    views = len(composition.plain)
    generator = torch.Generator().manual_seed(seed)
    unit, others = (
        F.normalize(torch.randn(2, n, views, 4, generator=generator, dtype=torch.float64), dim=-1)
        for n in (videos, far)
    )
    loss = released_loss(unit.view(-1, 4), others.view(-1, 4), composition, temperature)
    assert loss.item() == pytest.approx(in_words(unit, others, number, temperature), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("number", PRESETS)
def test_it_is_the_composed_form_for_three_hypotheses_alone(number):
    golden, composition = np.load(GOLDEN), Composition(**preset(number))
    parts = [embeddings(golden, composition, process) for process in range(2)]
    codes = composition.codes(torch.arange(10))
    together = torch.stack([p.view(2, -1, 16) for p in parts], 1).view(-1, 16)
    composed = contrastive_loss(together, codes, composition).item()
    assert (abs(composed - float(golden[f"h{number}"])) < 1e-5) == (number in AGREEING)


@pytest.mark.parametrize("number", AGREEING)
def test_in_one_process_the_forms_agree_in_value_and_gradient(number):
    one, other = released(number), Composition(**preset(number), stop_gradient="keys")
    codes = one.codes(torch.arange(6))
    z = torch.randn(len(codes), 8, dtype=torch.float64)
    found = []
    for composition in (one, other):
        leaf = z.clone().requires_grad_()
        loss = global_contrastive_loss(leaf, torch.arange(6), composition)
        found.append((loss, *torch.autograd.grad(loss, leaf)))
    assert torch.allclose(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1])


def test_the_lists_grow_in_the_order_of_the_terms():
    assert [t.relation for t in released_terms(released(9))] == ["same", "same"] + ["invariant"] * 4
    assert [t.relation for t in released_terms(released(7))] == ["same"] + ["invariant"] * 2 + ["distinct"] * 2
    assert released_terms(released(7))[1:3] == [("invariant", 1, 0), ("invariant", 3, 2)]
    assert len(released_terms(released(1))) == 1


def test_nothing_is_nan():
    for number in PRESETS:
        composition = released(number)
        codes = composition.codes(torch.arange(3))
        for z in (torch.randn(len(codes), 5), torch.zeros(len(codes), 5), torch.ones(len(codes), 5)):
            leaf = z.clone().requires_grad_()
            loss = global_contrastive_loss(leaf, torch.arange(3), composition, 1e-3)
            loss.backward()
            assert loss.isfinite()
            assert leaf.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    composition = released(8)
    codes = composition.codes(torch.arange(6))
    z = torch.randn(len(codes), 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = global_contrastive_loss(z, torch.arange(6), composition)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        global_contrastive_loss(z.float(), torch.arange(6), composition).item(), abs=1e-6
    )


def test_another_number_of_embeddings_is_refused():
    composition = released(6)
    codes = composition.codes(torch.arange(3))
    z = torch.randn(len(codes), 4)
    for wrong in (z[:-1], z[: len(z) // 2], z[None]):
        with pytest.raises(ValueError, match=r"order of Composition.codes"):
            global_contrastive_loss(wrong, torch.arange(3), composition)
    with pytest.raises(ValueError, match="call global_contrastive_loss"):
        contrastive_loss(z, codes, composition)
    with pytest.raises(ValueError, match="must be positive"):
        global_contrastive_loss(z, torch.arange(3), composition, 0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"axes": {"augmentation": "invariant"}}, "contrast.axes.augmentation=invariant"),
        ({"axes": {"speed": "distinct", "reversal": "distinct"}}, "contrast.axes.speed=distinct"),
        ({"axes": {"sample": "off"}}, "contrast.axes.sample=off"),
        ({"compare": "all"}, "contrast.compare=all"),
        ({"denominator": "without_positives"}, "contrast.denominator=without_positives"),
        (
            {"axes": {"modality": "distinct", "reversal": "invariant"}, "compare": "all"},
            "contrast.axes.modality=distinct",
        ),
        ({"axes": {"augmentation": "invariant"}, "modalities": ["video"], "compare": "within_modal"}, "contrast."),
        ({"block": 8}, "contrast.block=8"),
        ({"custom_axes": [f"{__name__}:Mirror:invariant"]}, "contrast.axes.mirror=invariant"),
    ],
)
def test_what_is_no_hypothesis_is_one_clear_line(options, named):
    config = ContrastConfig(released=["loss"])
    for name, value in options.items():
        if name == "axes":
            for axis, role in value.items():
                setattr(config.axes, axis, role)
        else:
            setattr(config, name, value)
    with pytest.raises(UserError) as error:
        Composition.from_config(config)
    assert named in str(error.value)
    assert "remove loss from contrast.released" in str(error.value)
    assert "\n" not in str(error.value)
