"""The transport problem: parity with published labels, and right answers at the edges."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.selflabel.alignment import align
from avssl.selflabel.marginals import match_to_mass, uniform, zipf
from avssl.selflabel.sinkhorn import joint_evidence, sinkhorn

GOLDEN = Path(__file__).parents[1] / "golden" / "sinkhorn.npz"


@pytest.mark.parametrize("problem", ["a", "b"])
def test_published_labels_and_cost(problem):
    golden = np.load(GOLDEN)
    log_p = joint_evidence(*(torch.from_numpy(golden[f"{problem}_logits_{m}"]) for m in "va"))
    solved = sinkhorn(log_p, uniform(log_p.shape[1]))
    published = torch.from_numpy(golden[f"{problem}_labels"]).long()
    assert (solved.labels == published).float().mean() >= 0.995
    # the published cost is per modality: half of ours
    assert solved.cost / 2 <= float(golden[f"{problem}_cost"]) * 1.001


def plain_sinkhorn(log_p: torch.Tensor, r: torch.Tensor, lam: float, iterations: int) -> torch.Tensor:
    """α and β by the definition: multiplicative, float64. The plan Q [N, K]."""
    m = (log_p.double() * lam / 2).exp()
    n = len(m)
    beta = torch.full((n,), 1 / n, dtype=torch.float64)
    for _ in range(iterations):
        alpha = r / (beta @ m)
        beta = (1 / n) / (m @ alpha)
    return beta[:, None] * m * alpha


@pytest.mark.parametrize("marginal", [uniform(6), zipf(6)])
def test_plan_equals_plain_alternation(marginal):
    torch.manual_seed(1)
    log_p = (2 * torch.randn(60, 6)).log_softmax(1)
    solved = sinkhorn(log_p, marginal, lam=3, tolerance=1e-8)
    plan = plain_sinkhorn(log_p, marginal, 3, 3000)
    ours = (log_p.double() * 1.5 + solved.log_alpha).softmax(1) / 60
    torch.testing.assert_close(ours, plan, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(ours.sum(0), marginal, atol=1e-6, rtol=1e-4)
    assert (solved.labels == plan.argmax(1)).all()


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 60),
    clusters=st.integers(1, 12),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1000.0]),
    lam=st.sampled_from([1.0, 20.0, 1000.0]),
    seed=st.integers(0, 1000),
)
def test_any_problem_gives_labels(n, clusters, scale, lam, seed):
    torch.manual_seed(seed)
    log_p = (scale * torch.randn(n, clusters)).log_softmax(1)
    solved = sinkhorn(log_p, uniform(clusters), lam=lam)
    assert solved.labels.shape == (n,)
    assert int(solved.labels.min()) >= 0
    assert int(solved.labels.max()) < clusters
    assert solved.log_alpha.isfinite().all()


def test_confident_logits_fill_every_cluster():
    torch.manual_seed(0)
    log_p = (300 * torch.randn(800, 10)).log_softmax(1)
    counts = torch.bincount(sinkhorn(log_p, uniform(10)).labels, minlength=10)
    assert (counts - 80).abs().max() <= 2


def test_a_cluster_of_no_mass_gets_no_row():
    r = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    log_p = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    assert int(sinkhorn(log_p, r).labels.max()) < 2


def test_starting_from_a_solution_ends_at_once():
    log_p = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    first = sinkhorn(log_p, uniform(8))
    again = sinkhorn(log_p, uniform(8), log_alpha=first.log_alpha, tolerance=1.0)
    assert again.iterations == 1
    assert (again.labels == first.labels).all()


@pytest.mark.parametrize(
    ("log_p", "marginal", "lam"),
    [
        (torch.full((3, 2), torch.nan), uniform(2), 20),
        (torch.full((3, 2), -torch.inf), uniform(2), 20),
        (torch.zeros(3, 2), torch.tensor([0.9, 0.9]), 20),
        (torch.zeros(3, 2), torch.tensor([1.5, -0.5]), 20),
        (torch.zeros(3, 2), uniform(3), 20),
        (torch.zeros(3, 2), uniform(2), 0),
    ],
)
def test_what_is_no_problem_is_refused(log_p, marginal, lam):
    with pytest.raises(ValueError, match="marginal|log_p|lambda"):
        sinkhorn(log_p, marginal, lam)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_matched_marginal_beats_any_random_order(seed):
    g = torch.Generator().manual_seed(seed)
    r, mass = zipf(7), torch.rand(7, generator=g, dtype=torch.float64)
    matched = match_to_mass(r, mass)
    assert sorted(matched.tolist()) == sorted(r.tolist())
    other = r[torch.randperm(7, generator=g)]
    assert (matched * mass).sum() >= (other * mass).sum() - 1e-12


def test_alignment_recovers_a_permutation():
    g = torch.Generator().manual_seed(0)
    p_video = (4 * torch.randn(300, 9, generator=g)).softmax(1)
    hidden = torch.randperm(9, generator=g)
    p_audio = p_video[:, hidden]  # cluster j of the sound is the video's hidden[j]
    order = align(p_video, p_audio)
    torch.testing.assert_close(p_audio[:, order], p_video)
