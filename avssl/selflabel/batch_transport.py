"""Labels of a batch from optimal transport, for all heads at once: a few alternations on the device (SwAV, Caron et al.
2020, §3.1). Nothing is read back from it, and no shape or number of steps depends on data."""

from typing import NamedTuple

import torch

ALTERNATIONS = 3
"""Alternations of Sinkhorn–Knopp per batch, as in SwAV. They begin at the column scales of the batch before, so that
over a run they converge to those of its data."""


class BatchSolution(NamedTuple):
    """Labels, int64 [H, n]; the scales of the columns, log α, float32 [H, K]; and the mean of −log p at the labels of
    the rows that count, float32 [H]."""

    labels: torch.Tensor
    log_alpha: torch.Tensor
    cost: torch.Tensor


@torch.no_grad()
def alternate(
    log_p: torch.Tensor,
    counts: torch.Tensor,
    masses: torch.Tensor,
    log_alpha: torch.Tensor,
    lam: float,
    times: int = ALTERNATIONS,
) -> BatchSolution:
    """Alternate between the scales of rows and columns, in log space (spec §1): β_n = (1/N) / Σ_k M_nk α_k, then
    α_k = r_k / Σ_n β_n M_nk, with M = exp(λ/2 · log p). The label of a row is argmax_k M_nk α_k.

    Args:
        log_p: evidence, float32 [H, n, K].
        counts: the rows that have mass, bool [n]; the others only get labels.
        masses: r, [H, K]. A cluster of mass 0 gets no row.
        log_alpha: the scales to begin with, float32 [H, K].
        lam: λ.
        times: number of alternations.
    """
    scores = lam / 2 * log_p
    log_r, hidden = masses.float().log(), torch.where(counts, 0.0, -torch.inf)
    rows = counts.sum().clamp(min=1)
    # a column that had no mass in the batch before begins like an average one
    log_alpha = torch.where(log_r > -torch.inf, log_alpha.nan_to_num(0.0, neginf=0.0), -torch.inf)
    for _ in range(times):
        log_beta = hidden - rows.log() - (scores + log_alpha[:, None]).logsumexp(2)
        log_alpha = log_r - (scores + log_beta[..., None]).logsumexp(1)
    labels = (scores + log_alpha[:, None]).argmax(2)
    at_labels = log_p.gather(2, labels[..., None]).squeeze(2)
    cost = -torch.where(counts, at_labels, 0.0).sum(1) / rows
    return BatchSolution(labels, log_alpha, cost)
