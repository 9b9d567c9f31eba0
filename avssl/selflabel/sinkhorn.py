"""Sinkhorn–Knopp in the log domain (spec §1; SeLa §3.2; Cuturi 2013).

    Q* = argmax_Q  <Q, log P> + (2/λ) H(Q),   rows summing to 1/N, columns to r

Row scaling and column sums are taken in one blocked pass over log P, so that an iteration reads the matrix once and
holds no second one. Everything is a log-sum-exp or a softmax: no λ and no logits under- or overflow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

ALTERNATIONS = 5
"""Plain Sinkhorn steps before Newton's: they bring every cluster within reach of some row."""


@dataclass
class Transport:
    """A solved problem: `labels` int64 [n] (this process's rows), `log_alpha` float32 [K], and how it ended."""

    labels: torch.Tensor
    log_alpha: torch.Tensor
    cost: float
    """Mean over all rows of −log p at the label: what the labelling costs, in nats. Lower is better."""
    iterations: int
    error: float
    """N·‖r − c‖₁, a bound on the published Σ_n |β_n / β_n_new − 1|."""


def joint_evidence(logits_video: torch.Tensor, logits_audio: torch.Tensor) -> torch.Tensor:
    """log p_k = log softmax(z_v)_k + log softmax(z_a)_k, float [..., K]: each modality an augmentation of the other."""
    return logits_video.float().log_softmax(-1) + logits_audio.float().log_softmax(-1)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def sinkhorn(
    log_p: torch.Tensor,
    marginal: torch.Tensor,
    lam: float = 20.0,
    tolerance: float = 0.1,
    max_iterations: int = 500,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = _same,
    log_alpha: torch.Tensor | None = None,
    block: int = 8192,
) -> Transport:
    """Labels of the rows of `log_p`, float [n, K], under the column masses `marginal`, float [K] summing to 1.

    A few Sinkhorn alternations find the neighbourhood of the solution; from there damped Newton steps on the
    semi-dual, concave in log α (its gradient is r − c with c the plan's column masses, its Hessian K×K), take tens of
    passes where alternation takes hundreds or thousands. `log_alpha` [K] is a solution to start from.

    The published stopping error, Σ_n |β_n / β_n_new − 1|, is at most N·‖r − c‖₁, which needs no pass of its own: that
    bound is what is compared with `tolerance`. `all_reduce` sums a tensor over processes when each holds some of the N
    rows; vectors of length K and the K×K Hessian are all that crosses. A column of zero mass gets no row.

    Raises ValueError for evidence that holds NaN or a row of only -inf, or a marginal that is no distribution.
    """
    _check(log_p, marginal, lam)
    keep = marginal > 0
    r = marginal[keep].double() / marginal[keep].double().sum()
    evidence = log_p if bool(keep.all()) else log_p[:, keep]
    rows = float(all_reduce(torch.tensor(float(len(log_p)), dtype=torch.float64)))
    a = r.log() if log_alpha is None else log_alpha[keep].double().to(r.device).nan_to_num(neginf=-100.0)

    def dual(at: torch.Tensor, hessian: bool) -> tuple[float, torch.Tensor, torch.Tensor | None]:
        mass, norm, square = _pass(evidence, at, lam, hessian, block)
        mass = all_reduce(mass) / rows
        value = float((r * at).sum() - all_reduce(norm) / rows)
        return value, mass, all_reduce(square) / rows if square is not None else None

    iteration, damping = 0, 1e-3
    for _ in range(min(ALTERNATIONS, max_iterations)):
        _, mass, _ = dual(a, False)
        iteration += 1
        if rows * float((r - mass).abs().sum()) <= tolerance:
            break
        a = a + r.log() - mass.clamp(min=1e-30).log()
    value, mass, square = dual(a, True)
    error = rows * float((r - mass).abs().sum())
    while error > tolerance and iteration < max_iterations and damping < 1e8:
        iteration += 1
        assert square is not None
        # the Hessian is singular along the constant vector, and nearly so for clusters far from any row
        system = torch.diag(mass + damping * torch.maximum(mass, r)) - square
        step = torch.linalg.solve(system, r - mass).clamp(-50, 50)
        tried = dual(a + step, True)
        if tried[0] >= value - 1e-13 * abs(value) and bool(step.isfinite().all()):
            a = a + step
            value, mass, square = tried
            error = rows * float((r - mass).abs().sum())
            damping = max(1e-10, damping / 10)
        else:
            damping *= 10
    scale = torch.full(marginal.shape, -torch.inf, dtype=torch.float64, device=log_p.device)
    scale[keep] = a
    labels, cost = assign(log_p, scale, lam, block)
    return Transport(labels, scale.float(), float(all_reduce(cost) / rows), iteration, error)


def _pass(
    log_p: torch.Tensor, log_alpha: torch.Tensor, lam: float, hessian: bool, block: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """One read of log P [n, K]: column sums of Q = softmax(λ/2·log p + log α), the sum of the rows' log-normalisers,
    and QᵀQ where asked for. All float64, in blocks of rows."""
    clusters = log_p.shape[1]
    mass = torch.zeros(clusters, dtype=torch.float64, device=log_p.device)
    norm = torch.zeros((), dtype=torch.float64, device=log_p.device)
    square = torch.zeros(clusters, clusters, dtype=torch.float64, device=log_p.device) if hessian else None
    for start in range(0, len(log_p), block):
        scores = log_p[start : start + block].double().mul_(lam / 2).add_(log_alpha)
        lse = scores.logsumexp(1)
        q = scores.sub_(lse[:, None]).exp_()
        mass += q.sum(0)
        norm += lse.sum()
        if square is not None:
            square.addmm_(q.T, q)
    return mass, norm, square


def assign(
    log_p: torch.Tensor, log_alpha: torch.Tensor, lam: float, block: int = 8192
) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels argmax_k β_n M_nk α_k, int64 [n], and their cost −Σ_n log p, float64, given column scales [K]."""
    n = log_p.shape[0]
    labels = torch.empty(n, dtype=torch.int64, device=log_p.device)
    cost = torch.zeros((), dtype=torch.float64, device=log_p.device)
    for start in range(0, n, block):
        rows = log_p[start : start + block].float()
        labels[start : start + block] = best = (rows.double() * (lam / 2) + log_alpha).argmax(1)
        cost -= rows.gather(1, best[:, None]).double().sum()
    return labels, cost


def _check(log_p: torch.Tensor, marginal: torch.Tensor, lam: float) -> None:
    if log_p.dim() != 2 or marginal.shape != log_p.shape[1:]:
        raise ValueError(f"log_p [n, K] and marginal [K] needed, not {list(log_p.shape)} and {list(marginal.shape)}")
    if lam <= 0:
        raise ValueError(f"lambda must be positive, not {lam}")
    if bool((marginal < 0).any()) or not bool(marginal.isfinite().all()) or abs(float(marginal.sum()) - 1) > 1e-4:
        raise ValueError("the marginal must be non-negative and sum to 1")
    if bool(log_p.isnan().any()) or bool((log_p.amax(1) == -torch.inf).any()) or bool((log_p == torch.inf).any()):
        raise ValueError("log_p holds NaN, +inf, or a row of only -inf: the model has diverged")
