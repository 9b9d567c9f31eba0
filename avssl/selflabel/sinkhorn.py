"""Labels by optimal transport: Newton on the semi-dual of Sinkhorn–Knopp's problem, in blocks of rows (spec §1).

    Q* = argmax_Q  <Q, log P> + (2/λ) H(Q),   rows summing to 1/N, columns to r      (SeLa §3.2; Cuturi 2013)

The rows' scales are eliminated: given log α, row n of N·Q is softmax(λ/2·log p_n + log α). What is left is concave in
the K numbers log α, with gradient r − c (c the plan's column masses) and, for Hessian, minus the Laplacian of the graph
that joins clusters i and j by (1/N) Σ_n q_ni q_nj, with q = N·Q. Everything is a softmax: no λ and no logits under- or
overflow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

INSIDE = 1.0
"""A Newton step in log α that changes no entry by more than this stays within the width of the softmax."""


class DivergedError(ValueError):
    """The evidence is not finite."""


@dataclass
class Transport:
    """A solved problem: `labels` int64 [n] (this process's rows), `log_alpha` float32 [K], and how it ended."""

    labels: torch.Tensor
    log_alpha: torch.Tensor
    cost: float
    """Mean over all rows of −log p at the label: what the labelling costs, in nats. Lower is better."""
    iterations: int
    """Passes over the data, without the last one, which gives the labels."""
    error: float
    """N·‖r − c‖₁, a bound on the published Σ_n |β_n / β_n_new − 1|. Above the tolerance: not converged."""


@dataclass
class BlockwiseEvidence:
    """Evidence log p, [rows, clusters], made anew at every pass, block by block: for what does not fit in memory.

    `block_of(start, stop)` gives rows start … stop − 1, float [stop − start, clusters]: the same at every call.
    """

    rows: int
    clusters: int
    block_of: Callable[[int, int], torch.Tensor]
    device: torch.device | str = "cpu"

    def blocks(self, size: int) -> Iterator[torch.Tensor]:
        """All rows, `size` at a time. ValueError for a block of another shape than asked for."""
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            block = self.block_of(start, stop)
            if block.shape != (stop - start, self.clusters):
                raise ValueError(f"block_of({start}, {stop}) gave {list(block.shape)}, of {self.clusters} clusters")
            yield block.to(self.device)


def joint_evidence(*logits: torch.Tensor) -> torch.Tensor:
    """log p_k = log softmax(z_v)_k + log softmax(z_a)_k, float [..., K]: modalities are augmentations of each other."""
    first, *others = (z.float().log_softmax(-1) for z in logits)
    return sum(others, first)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


@torch.no_grad()
def sinkhorn(
    log_p: torch.Tensor | BlockwiseEvidence,
    marginal: torch.Tensor,
    lam: float = 20.0,
    tolerance: float = 0.1,
    max_iterations: int = 500,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = _same,
    block: int = 1024,
) -> Transport:
    """Labels of the rows of `log_p`, float [n, K], under the column masses `marginal`, float [K] summing to 1.

    Damped Newton, tens of passes where alternation takes thousands. A sharp problem (λ/2·log p over a wide range) is
    approached through blunter ones: λ grows up to twofold as soon as Newton's step is within the width of a softmax,
    log α / λ carrying over.

    Most of a pass is the Hessian's N·K² multiplications, beside N·K exponentials; once steps are short it is kept. That
    is worth it up to thousands of clusters.
    Scores and sums are float64, the softmax and its products float32 within `block` rows: masses are exact to about
    1e-7 / √(N/K), relative. Beside the evidence, memory is a few blocks and K×K matrices.

    The published stopping error, Σ_n |β_n / β_n_new − 1|, is at most N·‖r − c‖₁, which needs no pass of its own: that
    bound is what is compared with `tolerance`. `all_reduce` sums a tensor over processes when each holds some of the N
    rows, perhaps none: scalars, vectors of length K and the K×K Hessian are all that crosses. A column of zero mass
    (below 1e-30) gets no row.

    Raises ValueError, on all processes alike, for evidence that holds NaN or +inf, a row that no cluster of mass can
    take, a cluster of mass that can take no row, no rows at all, a marginal that is no distribution, or arguments of
    the wrong shape. Other problems without a solution (five clusters for one row that they can take) end with an
    `error` above the tolerance.
    """
    evidence = log_p if isinstance(log_p, BlockwiseEvidence) else _in_memory(log_p)
    _check(evidence, marginal, lam)
    if not tolerance >= 0 or block < 1:
        raise ValueError(f"tolerance={tolerance}, block={block}: at least 0, and 1")
    problem = _Problem(evidence, marginal.to(evidence.device), lam, all_reduce, block)
    at = problem.start()
    damping = 1e-3
    while at.error > tolerance or at.sharpness < 1:
        spent = problem.passes >= max_iterations or damping > 1e8
        if spent and at.sharpness == 1:
            break
        step = problem.newton(at, damping)
        while (longest := float(step.abs().max())) > 20 * INSIDE and damping <= 1e8:
            damping *= 10
            step = problem.newton(at, damping)
        inside = damping <= 1e-2 and longest <= INSIDE
        if at.sharpness < 1 and (inside or spent):
            at = problem.sharpen(at, step if inside else 0 * step, 1.0 if spent else 2 * at.sharpness)
            continue
        # a short step hardly changes the Hessian, whose products are most of a pass
        joined = at.joined if longest <= 0.1 * INSIDE else None
        tried = problem.evaluate(at.log_alpha + step, at.sharpness, joined)
        # values are exact to the rounding of float32: where less than that is to be gained, the error decides
        better = tried.value >= at.value if float(at.slope @ step) > 1e-6 else tried.error < at.error
        at, damping = (tried, max(1e-10, damping / 10)) if better else (at, damping * 10)
    labels, cost = assign(evidence, at.log_alpha, lam, block)
    return Transport(labels, at.log_alpha.float(), float(all_reduce(cost) / problem.rows), problem.passes, at.error)


@dataclass
class _Point:
    """The semi-dual at `log_alpha`, float64 [K], of the problem with `sharpness`·λ in place of λ."""

    log_alpha: torch.Tensor
    sharpness: float
    value: float
    slope: torch.Tensor
    """r − c, float64 [K]."""
    joined: torch.Tensor
    """(1/N) Σ_n q_ni q_nj off the diagonal, float64 [K, K]."""
    error: float


class _Problem:
    """The semi-dual over all processes' rows; `passes` counts the reads of this one's."""

    def __init__(
        self,
        evidence: BlockwiseEvidence,
        marginal: torch.Tensor,
        lam: float,
        all_reduce: Callable[[torch.Tensor], torch.Tensor],
        block: int,
    ):
        self.evidence, self.lam, self.all_reduce, self.block = evidence, lam, all_reduce, block
        self.keep = marginal > 1e-30
        self.r = torch.where(self.keep, marginal, 0).double()
        self.r /= self.r.sum()
        self.rows = float(all_reduce(self._zeros() + evidence.rows))
        self.passes = 0
        if self.rows == 0:
            raise ValueError("log_p has no rows")

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.r.device)

    def start(self) -> _Point:
        """Where the scores range over some 50 nats, with each cluster's mean score taken out."""
        self.passes += 1
        takes, total, best = self._zeros(len(self.r)), self._zeros(len(self.r)), self._zeros()
        for rows in self.evidence.blocks(self.block):
            takes += (rows > -torch.inf).sum(0)
            total += rows.clamp(min=-1e4).sum(0, dtype=torch.float64)
            possible = rows if bool(self.keep.all()) else rows[:, self.keep]
            best += possible.amax(1).clamp(min=-1e4).sum(dtype=torch.float64)
        takes, mean, top = self.all_reduce(takes), self.all_reduce(total) / self.rows, self.all_reduce(best) / self.rows
        _finite(mean)
        lost = (self.keep & (takes == 0)).nonzero().flatten().tolist()
        if lost:
            raise ValueError(f"log_p is -inf in all rows of clusters {lost[:5]}, whose marginal is not zero")
        spread = float(top - mean[self.keep].max()) * self.lam / 2
        sharpness = 1.0 if spread <= 50 else 50 / spread
        # centred, here and below: a common offset of log α means nothing, but would cost its float32 copy digits
        return self.evaluate(self.r.log() - sharpness * self.lam / 2 * (mean - mean[self.keep].mean()), sharpness)

    def sharpen(self, at: _Point, step: torch.Tensor, sharpness: float) -> _Point:
        """After `step`, the problem of a greater sharpness, at most 1: log α less log r grows in proportion."""
        sharpness = min(1.0, sharpness)
        change = torch.where(self.keep, at.log_alpha + step - self.r.log(), 0) * (sharpness / at.sharpness)
        return self.evaluate(self.r.log() + change - change.mean(), sharpness)

    def evaluate(self, log_alpha: torch.Tensor, sharpness: float, joined: torch.Tensor | None = None) -> _Point:
        """One read of the evidence, for value and slope, and for the curvature unless it is given."""
        self.passes += 1
        clusters = len(self.r)
        mass, square, norm = self._zeros(clusters), self._zeros(clusters, clusters), self._zeros()
        size = min(self.block, self.evidence.rows)
        wide, narrow = self._zeros(size, clusters), torch.empty(size, clusters, device=self.r.device)
        for rows in self.evidence.blocks(self.block):
            scores = wide[: len(rows)].copy_(rows).mul_(sharpness * self.lam / 2).add_(log_alpha)
            top = scores.amax(1, keepdim=True)
            q = narrow[: len(rows)].copy_(scores.sub_(top))
            torch.softmax(q, 1, out=q)
            norm += top.sum() - q.amax(1).log().sum(dtype=torch.float64)
            mass += scores.copy_(q).sum(0)
            if joined is None:
                square += q.T @ q
        slope = self.r - self.all_reduce(mass) / self.rows
        value = (self.r * log_alpha)[self.keep].sum() - self.all_reduce(norm) / self.rows
        _finite(value)
        if joined is None:
            joined = (self.all_reduce(square) / self.rows).fill_diagonal_(0)
        return _Point(log_alpha, sharpness, float(value), slope, joined, self.rows * float(slope.abs().sum()))

    def newton(self, at: _Point, damping: float) -> torch.Tensor:
        """The damped Newton step from a point, float64 [K].

        Minus the Hessian is built from its entries off the diagonal, which float32 has exact to their last digits:
        rows of Q sum to 1, so those of the Hessian sum to 0.
        """
        joined = at.joined[self.keep][:, self.keep]
        mass = torch.maximum(self.r, self.r - at.slope)[self.keep]
        step = self._zeros(len(self.r))
        step[self.keep] = torch.linalg.solve(torch.diag(joined.sum(1) + damping * mass) - joined, at.slope[self.keep])
        return step


@torch.no_grad()
def assign(
    log_p: torch.Tensor | BlockwiseEvidence, log_alpha: torch.Tensor, lam: float, block: int = 1024
) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels argmax_k β_n M_nk α_k, int64 [n], and their cost −Σ_n log p, float64, given column scales [K]."""
    evidence = log_p if isinstance(log_p, BlockwiseEvidence) else _in_memory(log_p)
    labels = torch.empty(evidence.rows, dtype=torch.int64, device=evidence.device)
    cost = torch.zeros((), dtype=torch.float64, device=evidence.device)
    start = 0
    for rows in evidence.blocks(block):
        best = torch.add(log_alpha.double(), rows, alpha=lam / 2).argmax(1)
        labels[start : start + len(rows)] = best
        cost -= rows.gather(1, best[:, None]).sum(dtype=torch.float64)
        start += len(rows)
    return labels, cost


def _in_memory(log_p: torch.Tensor) -> BlockwiseEvidence:
    if log_p.dim() != 2:
        raise ValueError(f"log_p [n, K] needed, not {list(log_p.shape)}")
    return BlockwiseEvidence(len(log_p), log_p.shape[1], lambda start, stop: log_p[start:stop], log_p.device)


def _check(evidence: BlockwiseEvidence, marginal: torch.Tensor, lam: float) -> None:
    if marginal.shape != (evidence.clusters,):
        raise ValueError(f"the marginal of log_p [n, {evidence.clusters}] cannot have shape {list(marginal.shape)}")
    if not 0 < lam < float("inf"):
        raise ValueError(f"lambda must be positive, not {lam}")
    if bool((marginal < 0).any()) or not bool(marginal.isfinite().all()) or abs(float(marginal.sum()) - 1) > 1e-4:
        raise ValueError("the marginal must be non-negative and sum to 1")


def _finite(sums: torch.Tensor) -> None:
    if not bool(sums.isfinite().all()):
        raise DivergedError("log_p holds NaN, +inf, or a row of only -inf: the model has diverged")
