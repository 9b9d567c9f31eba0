"""Labels from optimal transport: Newton on the semi-dual of Sinkhorn–Knopp's problem, in blocks of rows (spec §1).

    Q* = argmax_Q  <Q, log P> + (2/λ) H(Q),   rows summing to 1/N, columns to r      (SeLa §3.2; Cuturi 2013)

The scales of the rows are eliminated: given log α, row n of N·Q is softmax(λ/2·log p_n + log α). The remaining problem
is concave in the K numbers log α. Its gradient is r − c, where c are the plan's column masses. Its Hessian is minus the
Laplacian of the graph that connects clusters i and j with the weight (1/N) Σ_n q_ni q_nj, with q = N·Q. All
exponentials are in a softmax, so nothing underflows or overflows, for any λ and any logits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

SAFE_STEP = 1.0
"""A Newton step that changes no entry of log α by more than this stays within the width of the softmax."""


class DivergedError(ValueError):
    """The evidence is NaN or infinite."""


@dataclass
class Transport:
    """The solution of a transport problem."""

    labels: torch.Tensor
    """Labels of this process's rows, int64 [n]."""
    log_alpha: torch.Tensor
    """log α, the scales of the columns, float32 [K]."""
    cost: float
    """Mean over all rows of −log p at the label, in nats. Lower is better."""
    iterations: int
    """Number of passes over the evidence, without the last one, which assigns the labels."""
    error: float
    """N·‖r − c‖₁, a bound on the published Σ_n |β_n / β_n_new − 1|. Above the tolerance: not converged."""


@dataclass
class BlockwiseEvidence:
    """Evidence log p, [rows, clusters], that does not fit into memory and is recomputed in every pass.

    Args:
        rows: number of rows of this process.
        clusters: K.
        block_of: `block_of(start, stop)` returns the rows start … stop − 1, float [stop − start, clusters], the same at
            every call.
        device: the device to compute on.
    """

    rows: int
    clusters: int
    block_of: Callable[[int, int], torch.Tensor]
    device: torch.device | str = "cpu"

    def blocks(self, size: int) -> Iterator[torch.Tensor]:
        """Yield all rows, `size` at a time. Raises ValueError for a block of the wrong shape."""
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            block = self.block_of(start, stop)
            if block.shape != (stop - start, self.clusters):
                raise ValueError(f"block_of({start}, {stop}) gave {list(block.shape)}, of {self.clusters} clusters")
            yield block.to(self.device)


def joint_evidence(*logits: torch.Tensor, weights: Sequence[torch.Tensor | float] | None = None) -> torch.Tensor:
    """The joint evidence log p_k = log softmax(z_v)_k + log softmax(z_a)_k, float [..., K] (SeLaVi §3).

    Args:
        logits: float [..., K] for each modality. The modalities are treated as augmentations of each other.
        weights: weights of the modalities' log softmax; None: all are 1.
    """
    first, *others = (z.float().log_softmax(-1) for z in logits)
    if weights is None:
        return sum(others, first)
    return sum((w * x for w, x in zip(weights[1:], others, strict=True)), weights[0] * first)


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
    """Labels of rows from optimal transport to clusters of given sizes (SeLa §3.2; Cuturi 2013).

    This is a damped Newton method, which needs tens of passes while Sinkhorn–Knopp needs thousands. A sharp problem
    (λ/2·log p over a wide range) is solved through less sharp ones: λ grows up to twofold as soon as Newton's step is
    within the width of a softmax, and log α / λ carries over.

    The Hessian's N·K² multiplications take most of a pass, beside N·K exponentials; once steps are short, the Hessian
    is reused. This is worthwhile up to thousands of clusters. Scores and sums are float64; within a block, the softmax
    and its products are float32, so masses have a relative precision of about 1e-7 / √(N/K). Beside the evidence,
    memory is a few blocks and K×K matrices.

    The published stopping error, Σ_n |β_n / β_n_new − 1|, is at most N·‖r − c‖₁, which needs no extra pass. This bound
    is compared with `tolerance`.

    Args:
        log_p: evidence of this process's rows, float [n, K].
        marginal: r, the masses of the columns, float [K] that sum to 1. A column of mass below 1e-30 gets no row.
        lam: λ.
        tolerance: largest accepted error, in rows.
        max_iterations: most passes over the evidence.
        all_reduce: sums a tensor over the processes, each of which has some of the N rows, or none. Scalars, vectors of
            length K and the K×K Hessian are exchanged.
        block: rows computed at a time.

    Returns:
        The labels and how the solver ended. `error` is above the tolerance if it did not converge, for example for five
        clusters that can only have the same single row.

    Raises:
        ValueError: in all processes alike, for evidence with NaN or +inf, a row that no cluster of positive mass can
            have, a cluster of positive mass that can have no row, no rows at all, a marginal that is not a
            distribution, or arguments of wrong shapes.
    """
    evidence = log_p if isinstance(log_p, BlockwiseEvidence) else _in_memory(log_p)
    _check(evidence, marginal, lam)
    if not tolerance >= 0 or block < 1:
        raise ValueError(f"tolerance={tolerance} must be at least 0, and block={block} at least 1")
    problem = _Problem(evidence, marginal.to(evidence.device), lam, all_reduce, block)
    point = problem.start()
    damping = 1e-3
    while point.error > tolerance or point.sharpness < 1:
        spent = problem.passes >= max_iterations or damping > 1e8
        if spent and point.sharpness == 1:
            break
        step = problem.newton(point, damping)
        while (longest := float(step.abs().max())) > 20 * SAFE_STEP and damping <= 1e8:
            damping *= 10
            step = problem.newton(point, damping)
        safe = damping <= 1e-2 and longest <= SAFE_STEP
        if point.sharpness < 1 and (safe or spent):
            point = problem.sharpen(point, step if safe else 0 * step, 1.0 if spent else 2 * point.sharpness)
            continue
        # a short step hardly changes the Hessian, whose products take most of a pass
        coupling = point.coupling if longest <= 0.1 * SAFE_STEP else None
        trial = problem.evaluate(point.log_alpha + step, point.sharpness, coupling)
        # values have the precision of float32; if a step can gain less than that, the error decides
        better = trial.value >= point.value if float(point.slope @ step) > 1e-6 else trial.error < point.error
        point, damping = (trial, max(1e-10, damping / 10)) if better else (point, damping * 10)
    labels, cost = assign(evidence, point.log_alpha, lam, block)
    mean_cost = float(all_reduce(cost) / problem.rows)
    return Transport(labels, point.log_alpha.float(), mean_cost, problem.passes, point.error)


@dataclass
class _Point:
    """The semi-dual at `log_alpha`, float64 [K], for the problem with `sharpness`·λ in place of λ."""

    log_alpha: torch.Tensor
    sharpness: float
    value: float
    slope: torch.Tensor
    """r − c, float64 [K]."""
    coupling: torch.Tensor
    """(1/N) Σ_n q_ni q_nj off the diagonal, 0 on it, float64 [K, K]."""
    error: float


class _Problem:
    """The semi-dual over the rows of all processes. `passes` counts the passes over this process's rows."""

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
        """The first point: each cluster's mean score is subtracted, and scores range over about 50 nats."""
        self.passes += 1
        possible_rows, total, best = self._zeros(len(self.r)), self._zeros(len(self.r)), self._zeros()
        for rows in self.evidence.blocks(self.block):
            possible_rows += (rows > -torch.inf).sum(0)
            total += rows.clamp(min=-1e4).sum(0, dtype=torch.float64)
            possible = rows if bool(self.keep.all()) else rows[:, self.keep]
            best += possible.amax(1).clamp(min=-1e4).sum(dtype=torch.float64)
        possible_rows = self.all_reduce(possible_rows)
        mean, top = self.all_reduce(total) / self.rows, self.all_reduce(best) / self.rows
        _finite(mean)
        impossible = (self.keep & (possible_rows == 0)).nonzero().flatten().tolist()
        if impossible:
            raise ValueError(f"log_p is -inf in all rows for the clusters {impossible[:5]}, whose marginal is not zero")
        spread = float(top - mean[self.keep].max()) * self.lam / 2
        sharpness = 1.0 if spread <= 50 else 50 / spread
        # log α is centred here and below, because a common offset has no effect but costs its float32 copy digits
        return self.evaluate(self.r.log() - sharpness * self.lam / 2 * (mean - mean[self.keep].mean()), sharpness)

    def sharpen(self, point: _Point, step: torch.Tensor, sharpness: float) -> _Point:
        """Take `step` from a point, then increase the sharpness, to at most 1; log α − log r grows in proportion."""
        sharpness = min(1.0, sharpness)
        change = torch.where(self.keep, point.log_alpha + step - self.r.log(), 0) * (sharpness / point.sharpness)
        return self.evaluate(self.r.log() + change - change.mean(), sharpness)

    def evaluate(self, log_alpha: torch.Tensor, sharpness: float, coupling: torch.Tensor | None = None) -> _Point:
        """One pass over the evidence, which computes value, slope and, unless given, the coupling."""
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
            if coupling is None:
                square += q.T @ q
        slope = self.r - self.all_reduce(mass) / self.rows
        value = (self.r * log_alpha)[self.keep].sum() - self.all_reduce(norm) / self.rows
        _finite(value)
        if coupling is None:
            coupling = (self.all_reduce(square) / self.rows).fill_diagonal_(0)
        return _Point(log_alpha, sharpness, float(value), slope, coupling, self.rows * float(slope.abs().sum()))

    def newton(self, point: _Point, damping: float) -> torch.Tensor:
        """The damped Newton step from a point, float64 [K].

        The negative Hessian is built from its entries off the diagonal, which are precise to the last digits of
        float32, because the rows of N·Q sum to 1, so that those of the Hessian sum to 0.
        """
        coupling = point.coupling[self.keep][:, self.keep]
        mass = torch.maximum(self.r, self.r - point.slope)[self.keep]
        hessian = torch.diag(coupling.sum(1) + damping * mass) - coupling
        step = self._zeros(len(self.r))
        step[self.keep] = torch.linalg.solve(hessian, point.slope[self.keep])
        return step


@torch.no_grad()
def assign(
    log_p: torch.Tensor | BlockwiseEvidence, log_alpha: torch.Tensor, lam: float, block: int = 1024
) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels argmax_k β_n M_nk α_k, int64 [n], and their cost −Σ_n log p, float64, for column scales log α [K]."""
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
        raise ValueError(f"log_p must have the shape [n, K], not {list(log_p.shape)}")
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
        raise DivergedError("log_p contains NaN, +inf, or a row of only -inf: the model has diverged")
