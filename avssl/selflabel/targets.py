"""Targets of distillation: a distribution over K prototypes for each view, from the scores of its embedding (SwAV,
Caron et al. 2020; DINO, Caron et al. 2021).

Nothing is read back from the device, and no shape or number of steps depends on data.
"""

from collections.abc import Callable

import torch

ALTERNATIONS = {"softmax": 1, "sinkhorn": 3}
"""Alternations of columns and rows of each target that is balanced over the batch."""

Exchange = Callable[[torch.Tensor], torch.Tensor]
"""Combines a tensor with those of the other processes, elementwise."""

TINY = 1e-30
"""Smallest mass of a prototype, so that one that no row has gets a finite scale."""


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


@torch.no_grad()
def balanced(
    scores: torch.Tensor,
    temperature: float,
    alternations: int = 3,
    sum_over: Exchange = _same,
    max_over: Exchange = _same,
) -> torch.Tensor:
    """Soft codes that use all prototypes about equally: Sinkhorn–Knopp on exp(scores / ε) (SwAV §3.1, Eq. 3–5).

    Each alternation scales the columns to equal masses and then the rows to distributions. It is computed in log space,
    so no temperature and no scores overflow. With one alternation, this is the target called softmax in DINO's
    appendix.

    Args:
        scores: this process's rows, float [..., n, K]. Each of the leading dimensions is a problem of its own.
        temperature: ε, the divisor of the scores.
        alternations: number of alternations.
        sum_over, max_over: the sum and the maximum over the processes, which have different rows of the same problem.
            They are called `alternations` times and once, with [..., K].

    Returns:
        The codes, float32 [..., n, K], whose rows sum to 1.
    """
    logits = scores.float() / temperature
    top = max_over(logits.amax(-2))
    mass = sum_over((logits - top.unsqueeze(-2)).exp().sum(-2))
    scale = -(top + mass.clamp(min=TINY).log())  # the log of each column's factor, up to a constant
    codes = (logits + scale.unsqueeze(-2)).softmax(-1)
    for _ in range(alternations - 1):
        scale = scale - sum_over(codes.sum(-2)).clamp(min=TINY).log()
        codes = (logits + scale.unsqueeze(-2)).softmax(-1)
    return codes


@torch.no_grad()
def centred(scores: torch.Tensor, centre: torch.Tensor, temperature: float) -> torch.Tensor:
    """softmax((scores − centre) / τ) (DINO §3.1, Eq. 1 and 4), float32 [..., K].

    Args:
        scores: the teacher's scores, float [..., K].
        centre: the mean of past scores, float32 [K], without which one prototype would win for all views.
        temperature: τ; small values prevent uniform targets.
    """
    return ((scores.float() - centre) / temperature).softmax(-1)


def warmed_up(step: float, steps: float, first: float, last: float) -> float:
    """A value that grows linearly from `first` at step 0 to `last` at step `steps`, and then stays (DINO's τ_t)."""
    return last if step >= steps else first + (last - first) * step / steps


@torch.no_grad()
def next_centre(centre: torch.Tensor, mean: torch.Tensor, momentum: float) -> torch.Tensor:
    """c ← m c + (1 − m) · mean (DINO Eq. 4), for the mean of the teacher's scores over the global batch, float [K]."""
    return centre * momentum + mean.float() * (1 - momentum)
