"""The transport problem: parity with published labels, and right answers at the edges."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.selflabel.alignment import align
from avssl.selflabel.marginals import match_to_mass, uniform, zipf
from avssl.selflabel.sinkhorn import BlockwiseEvidence, joint_evidence, sinkhorn

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


def published_error(log_p: torch.Tensor, r: torch.Tensor, lam: float, log_alpha: torch.Tensor) -> float:
    """Σ_n |β_n / β_n_new − 1| in float64, β being the row scales of log α."""
    q = (log_p.double() * (lam / 2) + log_alpha).softmax(1)
    return float((q @ torch.where(r > 0, r / q.mean(0), 0) - 1).abs().sum())


@pytest.mark.parametrize("lam", [1.0, 20.0, 200.0])
@pytest.mark.parametrize("marginal", [uniform(15), zipf(15)])
def test_the_error_is_what_it_bounds(lam, marginal):
    torch.manual_seed(0)
    log_p = (2 * torch.randn(3000, 15)).log_softmax(1)
    solved = sinkhorn(log_p, marginal, lam)
    assert solved.error <= 0.1
    assert published_error(log_p, marginal, lam, solved.log_alpha) <= 0.1 + 1e-3


@pytest.mark.parametrize("lam", [1.0, 20.0, 1000.0])
@pytest.mark.parametrize("spread", [30.0, 1000.0])
@pytest.mark.parametrize(("n", "clusters"), [(600, 8), (20, 30), (1, 5), (7, 1)])
@pytest.mark.parametrize("marginal", [uniform, zipf])
def test_confident_evidence_converges(lam, spread, n, clusters, marginal):
    torch.manual_seed(2)
    log_p = (spread * torch.randn(n, clusters)).log_softmax(1)  # probabilities down to 1e-300 and far below
    solved = sinkhorn(log_p, marginal(clusters), lam)
    assert solved.error <= 0.1
    assert solved.log_alpha.isfinite().all()


@pytest.mark.parametrize("floor", [1e-30, 1e-300])
def test_a_cluster_that_no_row_wants_is_filled(floor):
    log_p = torch.randn(400, 5, generator=torch.Generator().manual_seed(0)).log_softmax(1).double()
    log_p[:, 2] += torch.tensor(floor, dtype=torch.float64).log()
    solved = sinkhorn(log_p, uniform(5))
    assert solved.error <= 0.1
    assert abs(int((solved.labels == 2).sum()) - 80) <= 4


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_zero_masses_leave_the_others_as_they_would_be_alone(scale):
    log_p = (scale * torch.randn(300, 9, generator=torch.Generator().manual_seed(1))).log_softmax(1)
    log_p[:, 4] = -torch.inf  # no mass: may be impossible
    r = zipf(9)
    r[[0, 4]] = 0
    r /= r.sum()
    solved, keep = sinkhorn(log_p, r, tolerance=1e-4), r > 0
    alone = sinkhorn(log_p[:, keep], r[keep], tolerance=1e-4)
    assert solved.error <= 1e-4
    assert (solved.labels == keep.nonzero().flatten()[alone.labels]).all()
    assert (solved.log_alpha[~keep] == -torch.inf).all()


def test_it_says_when_it_has_not_converged():
    log_p = (30 * torch.randn(400, 10, generator=torch.Generator().manual_seed(0))).log_softmax(1)
    solved = sinkhorn(log_p, zipf(10), max_iterations=4)
    assert solved.error > 0.1
    assert solved.iterations <= 6
    assert solved.log_alpha.isfinite().all()


def test_a_problem_without_a_solution_ends():
    log_p = torch.full((40, 3), -torch.inf)
    log_p[:, 0] = 0
    log_p[0] = 0  # one row alone fits the other two clusters, whose masses are 13 rows each
    solved = sinkhorn(log_p, uniform(3))
    assert solved.error > 0.1
    assert not solved.log_alpha.isnan().any()


def test_blocks_made_on_demand_are_the_tensor():
    log_p = (3 * torch.randn(1000, 7, generator=torch.Generator().manual_seed(0))).log_softmax(1)
    whole = sinkhorn(log_p, zipf(7))
    read: list[tuple[int, int]] = []

    def block_of(start: int, stop: int) -> torch.Tensor:
        read.append((start, stop))
        return log_p[start:stop].clone()

    streamed = sinkhorn(BlockwiseEvidence(1000, 7, block_of), zipf(7), block=300)
    assert (streamed.labels == whole.labels).all()
    torch.testing.assert_close(streamed.log_alpha, whole.log_alpha, atol=1e-5, rtol=1e-5)
    assert read == [(0, 300), (300, 600), (600, 900), (900, 1000)] * (streamed.iterations + 1)


@pytest.mark.parametrize("bad", ["row", "cluster", "infinite", "none", "lambda"])
def test_what_no_plan_can_do_is_refused(bad):
    log_p, r, lam = torch.randn(6, 3).log_softmax(1), uniform(3), 20.0
    if bad == "row":
        r = torch.tensor([0.5, 0.5, 0.0])
        log_p[2, :2] = -torch.inf
    elif bad == "cluster":
        log_p[:, 1] = -torch.inf
    elif bad == "infinite":
        log_p[3, 1] = torch.inf
    elif bad == "none":
        log_p = log_p[:0]
    else:
        lam = float("nan")
    with pytest.raises(ValueError, match="log_p|lambda"):
        sinkhorn(log_p, r, lam)


@pytest.mark.parametrize("marginal", [uniform(12), zipf(12)])
@pytest.mark.parametrize("lam", [5.0, 20.0])
def test_agrees_with_pot(marginal, lam):
    ot = pytest.importorskip("ot")
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        log_p = joint_evidence(*torch.randn(2, 400, 12, generator=g).mul_(1.5))
        n, r = len(log_p), marginal
        solved = sinkhorn(log_p, r, lam)
        plan = ot.sinkhorn(
            np.full(n, 1 / n), r.numpy(), -log_p.double().numpy(), 2 / lam,
            method="sinkhorn_log", numItermax=100_000, stopThr=1e-12,
        )  # fmt: skip
        theirs = torch.from_numpy(plan)
        ours = (log_p.double() * (lam / 2) + solved.log_alpha).softmax(1) / n

        def objective(q: torch.Tensor, log_p: torch.Tensor = log_p, lam: float = lam) -> float:
            return float((q * log_p).sum() - 2 / lam * torch.special.xlogy(q, q).sum())

        assert (solved.labels == theirs.argmax(1)).all()
        assert objective(ours) == pytest.approx(objective(theirs), rel=1e-3)
        assert float((ours * log_p).sum()) == pytest.approx(float((theirs * log_p).sum()), rel=1e-3)
        torch.testing.assert_close(ours.sum(0), r, rtol=1e-3, atol=0)
        torch.testing.assert_close(ours.sum(1), torch.full((n,), 1 / n, dtype=torch.float64), rtol=1e-3, atol=0)


def test_logits_with_gradients_leave_no_graph():
    log_p = joint_evidence(torch.randn(50, 4, requires_grad=True), torch.randn(50, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not sinkhorn(log_p, uniform(4)).log_alpha.requires_grad


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"tolerance": float("nan")}, "tolerance"),
        ({"block": 0}, "block"),
    ],
)
def test_arguments_that_do_not_fit(words, said):
    with pytest.raises(ValueError, match=said):
        sinkhorn(torch.randn(20, 4).log_softmax(1), uniform(4), **words)


def test_a_block_that_is_too_short_is_no_label():
    short = BlockwiseEvidence(20, 4, lambda start, stop: torch.zeros(stop - start - 1, 4))
    with pytest.raises(ValueError, match="block_of"):
        sinkhorn(short, uniform(4))
