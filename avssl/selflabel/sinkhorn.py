"""Sinkhorn–Knopp in the log domain (spec §1; SeLa §3.2; Cuturi 2013).

    Q* = argmax_Q  <Q, log P> + (2/λ) H(Q),   rows summing to 1/N, columns to r

Row scaling and column sums are taken in one blocked pass over log P, so that an iteration reads the matrix once and
holds no second one. Everything is a log-sum-exp or a softmax: no λ and no logits under- or overflow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass
class Transport:
    """A solved problem: `labels` int64 [n] (this process's rows), `log_alpha` float32 [K], and how it ended."""

    labels: torch.Tensor
    log_alpha: torch.Tensor
    cost: float
    """Mean over all rows of −log p at the label: what the labelling costs, in nats. Lower is better."""
    iterations: int
    error: float
    """Σ_n |β_n / β_n_new − 1| over the last iteration."""


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
    max_iterations: int = 2000,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = _same,
    block: int = 8192,
) -> Transport:
    """Labels of the rows of `log_p`, float [n, K], under the column masses `marginal`, float [K] summing to 1.

    `all_reduce` sums a tensor over processes when each holds some of the N rows; a length-K vector is all that
    crosses. A column of zero mass gets no row. The error is looked at every 10 iterations, as published.
    Raises ValueError for evidence that is not finite in any column of a row, or a marginal that is no distribution.
    """
    _check(log_p, marginal, lam)
    n, clusters = log_p.shape
    rows = all_reduce(torch.tensor(float(n), dtype=torch.float64, device=log_p.device))
    log_r = marginal.double().log()
    log_alpha = log_r.clone()
    log_norm = torch.full((n,), torch.inf, dtype=torch.float32, device=log_p.device)
    error, iteration = torch.inf, 0
    while iteration < max_iterations and error > tolerance:
        iteration += 1
        mass = torch.zeros(clusters, dtype=torch.float64, device=log_p.device)
        change = torch.zeros((), dtype=torch.float64, device=log_p.device)
        alpha = log_alpha.float()
        for start in range(0, n, block):
            scores = log_p[start : start + block].float().mul(lam / 2).add_(alpha)
            norm = scores.logsumexp(1)  # −log(N β_n), by rows
            mass += scores.sub_(norm[:, None]).exp_().sum(0)
            # β_n / β_n_new = exp(norm_new − norm_old)
            change += (norm - log_norm[start : start + block]).double().expm1().abs().sum()
            log_norm[start : start + block] = norm
        log_mass = all_reduce(mass).log() - rows.log()
        # a column that no row reaches in float64 keeps its scale: its mass cannot be met from here
        update = torch.where(torch.isfinite(log_mass) & torch.isfinite(log_r), log_r - log_mass, 0)
        log_alpha = log_alpha + update
        if iteration % 10 == 0 or iteration == max_iterations:
            error = float(all_reduce(change))
    labels, cost = assign(log_p, log_alpha, lam, block)
    return Transport(labels, log_alpha.float(), float(all_reduce(cost) / rows), iteration, error)


def assign(
    log_p: torch.Tensor, log_alpha: torch.Tensor, lam: float, block: int = 8192
) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels argmax_k β_n M_nk α_k, int64 [n], and their cost −Σ_n log p, float64, given column scales [K]."""
    n = log_p.shape[0]
    labels = torch.empty(n, dtype=torch.int64, device=log_p.device)
    cost = torch.zeros((), dtype=torch.float64, device=log_p.device)
    for start in range(0, n, block):
        rows = log_p[start : start + block].float()
        labels[start : start + block] = best = (rows * (lam / 2) + log_alpha.float()).argmax(1)
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
