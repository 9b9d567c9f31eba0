"""Requested cluster sizes: points r of the K-simplex, one class per family (spec §1, "Marginals r").

`draw` draws the masses of every head once, at the start of a run. `masses` assigns them to the clusters in every
labelling pass.
"""

import csv
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.errors import UserError
from .sinkhorn import DivergedError

if TYPE_CHECKING:
    from ..config import LabellingConfig

MIN_DRAW = 0.01
"""Smallest mass of a Gaussian draw, times 1/K, so that no cluster is requested to be empty."""


def uniform(clusters: int) -> torch.Tensor:
    """r_k = 1/K, float64 [K]."""
    return torch.full((clusters,), 1 / clusters, dtype=torch.float64)


def zipf(clusters: int, exponent: float = 1.0) -> torch.Tensor:
    """r_k ∝ k^-s, float64 [K], largest first."""
    return _normalised(torch.arange(1, clusters + 1, dtype=torch.float64) ** -exponent)


def soft_counts(log_p: torch.Tensor) -> torch.Tensor:
    """Σ_n p_nk, float64 [K], with p_n = softmax(log p_n) of the evidence `log_p`, float [n, K].

    softmax(log p / 2), the mean of the modalities, orders clusters worse: when the two orders differed, this one had
    the higher transport objective in 49 of 68 random problems of two modalities, and in 69 of 100 of one.
    """
    return log_p.softmax(-1).sum(0, dtype=torch.float64)


def match_to_mass(marginal: torch.Tensor, soft_count: torch.Tensor) -> torch.Tensor:
    """`marginal` [..., K] reordered so that the largest mass goes to the cluster with the largest soft count [..., K].

    The order of the clusters changes, so this is done in every labelling pass. If videos differ only in the cluster
    that they prefer, or not at all, no other order has a higher transport objective (rearrangement inequality). In
    general, another order may be slightly better if clusters or masses have similar sizes.
    """
    order = soft_count.argsort(dim=-1, descending=True, stable=True).to(marginal.device)
    return torch.empty_like(marginal).scatter_(-1, order, marginal.sort(-1, descending=True).values)


class Marginal(ABC):
    """A family of cluster sizes. A subclass draws the masses of one head."""

    @abstractmethod
    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        """Masses of one head, float64 [K] summing to 1, in any order."""

    def draw(self, clusters: int, heads: int, seed: int = 0) -> torch.Tensor:
        """Draw the masses of each head, float64 [H, K]; rows sum to 1, in any order.

        The row of head h depends only on (`seed`, h), not on the number of heads. Raises ValueError for a seed < 0.
        """
        return torch.stack([self._draw(clusters, np.random.default_rng([seed, head])) for head in range(heads)])

    def masses(self, drawn: torch.Tensor, soft_count: torch.Tensor) -> torch.Tensor:
        """The r of one labelling pass, float64 [K]: `drawn` [K], assigned to clusters by their soft counts [K]."""
        return self.masses_by_head(drawn, soft_count)

    def masses_by_head(self, drawn: torch.Tensor, soft_counts: torch.Tensor) -> torch.Tensor:
        """`masses` of several heads, [..., K], on their device, without checks that would wait for it."""
        return match_to_mass(drawn.double(), soft_counts)


@dataclass(frozen=True)
class Uniform(Marginal):
    """r_k = 1/K."""

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        return uniform(clusters)


@dataclass(frozen=True)
class Gaussian(Marginal):
    """r_k ∝ max(1 + σ ε_k, small), with ε_k standard normal, drawn once per head (SeLaVi §3, arbitrary priors)."""

    sigma: float = 0.1

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        noise = torch.from_numpy(rng.standard_normal(clusters))
        return _normalised((1 + self.sigma * noise).clamp(min=MIN_DRAW))


@dataclass(frozen=True)
class Zipf(Marginal):
    """r_k ∝ k^-s, k = 1 … K."""

    exponent: float = 1.0

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        return zipf(clusters, self.exponent)


@dataclass(frozen=True)
class Exponential(Marginal):
    """r_k ∝ exp(-k/τ), τ in clusters. τ = 0 means K/3: the largest cluster is then about e³ ≈ 20 times the smallest."""

    scale: float = 0.0

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        rank = torch.arange(clusters, dtype=torch.float64)  # from 0, so that the largest never underflows
        return _normalised((-rank / (self.scale or clusters / 3)).exp())


@dataclass(frozen=True)
class Given(Marginal):
    """r_k ∝ sizes_k, K counts or masses in any order. A cluster of size 0 gets no video.

    `draw` raises ValueError unless there are K sizes, all finite and not negative, and at least one above 0.
    """

    sizes: tuple[float, ...]

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        if fault := _fault(self.sizes, clusters):
            raise ValueError(f"the given sizes are invalid: {fault}")
        return _normalised(torch.tensor(self.sizes, dtype=torch.float64))


@dataclass(frozen=True)
class Empirical(Marginal):
    """r is proportional to the soft counts, but at least `floor`/K: r_k = max(floor/K, t Σ_n p_nk), with t such that
    Σ_k r_k = 1.

    Of all r above the floor, this is the closest to the counts' shares in KL(r ‖ share). Shares above the floor keep
    their proportions, and if all are above it, none changes; a mixture with 1/K would drift to uniform over repeated
    passes. floor = 1 is uniform; floor = 0 lets clusters die. `draw` is uniform, because there are no counts yet.
    """

    floor: float = 0.1

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        return uniform(clusters)

    def masses(self, drawn: torch.Tensor, soft_count: torch.Tensor) -> torch.Tensor:
        """The r of one labelling pass, float64 [K], on the device of `drawn` [K], whose values are not used.

        Raises DivergedError, a ValueError, for soft counts that are NaN, infinite, negative or all 0.
        """
        count = soft_count.to(drawn.device).double()
        if not bool(count.isfinite().all()) or bool((count < 0).any()) or not bool((count > 0).any()):
            raise DivergedError("soft counts must be finite, at least 0, and not all 0: the model has diverged")
        return self.masses_by_head(drawn, count)

    def masses_by_head(self, drawn: torch.Tensor, soft_counts: torch.Tensor) -> torch.Tensor:
        share = _normalised(soft_counts.double())
        clusters = share.shape[-1]
        floor = self.floor / clusters
        high = share.sort(-1, descending=True).values
        below = torch.arange(clusters - 1, -1, -1, dtype=share.dtype, device=share.device)
        scale = (1 - floor * below) / high.cumsum(-1)  # t if the `below` smallest clusters are at the floor
        above = (scale * high >= floor).sum(-1, keepdim=True).clamp(min=1)  # holds for the first clusters only
        return (scale.gather(-1, above - 1) * share).clamp(min=floor)


PARAMETRIC: dict[str, tuple[Callable[..., Marginal], float]] = {
    "gaussian": (Gaussian, 10), "zipf": (Zipf, 10), "exponential": (Exponential, 1e6), "empirical": (Empirical, 1),
}  # fmt: skip
"""The families with a parameter, and its maximum; each family has a default."""


def make_marginal(config: "LabellingConfig") -> Marginal:
    """The marginal that the options describe. Raises UserError, which names the invalid option."""
    if config.marginal != "given" and config.sizes:
        raise UserError(f"labelling.sizes needs labelling.marginal=given, not {config.marginal}: change one of them")
    if config.marginal in PARAMETRIC:
        family, maximum = PARAMETRIC[config.marginal]
        value = config.marginal_parameter
        return family() if value is None else family(_number(float(value), config.marginal, maximum))
    if config.marginal_parameter is not None:
        raise UserError(
            f"labelling.marginal_parameter has no effect with labelling.marginal={config.marginal}: omit it, or "
            f"choose {', '.join(PARAMETRIC)}"
        )
    if config.marginal == "uniform":
        return Uniform()
    if config.marginal == "given":
        return _given(config)
    names = "uniform, gaussian, zipf, exponential, given, empirical"
    raise UserError(f"labelling.marginal={config.marginal} is not one of {names}")


def _normalised(r: torch.Tensor) -> torch.Tensor:
    """r / Σ r of [..., K]. Dividing by the maximum first keeps the sum from overflowing."""
    r = r / r.amax(-1, keepdim=True)
    return r / r.sum(-1, keepdim=True)


def _number(value: float, marginal: str, maximum: float) -> float:
    if not math.isfinite(value) or not 0 <= value <= maximum:
        raise UserError(
            f"labelling.marginal_parameter={value:g}: give a number from 0 to {maximum:g}, for "
            f"labelling.marginal={marginal}"
        )
    return value


def _given(config: "LabellingConfig") -> Given:
    if not config.sizes:
        raise UserError(
            "labelling.marginal=given needs the sizes: add labelling.sizes=50,30,20, or a file, such as "
            "labelling.sizes=[sizes.csv]"
        )
    option = "labelling.sizes"
    try:
        sizes = [float(size) for size in config.sizes]
    except ValueError:
        if len(config.sizes) > 1:
            raise UserError(f"{option}: give only numbers, or one file with them") from None
        option = f"labelling.sizes=[{config.sizes[0]}]"
        sizes = _read_sizes(option, Path(config.sizes[0]))
    if fault := _fault(sizes, config.clusters):
        raise UserError(f"{option}: {fault}")
    return Given(tuple(sizes))


def _fault(sizes: Sequence[float], clusters: int) -> str:
    """What is wrong with sizes for K clusters, and the fix; empty if nothing is."""
    if len(sizes) != clusters:
        return f"{len(sizes)} sizes for labelling.clusters={clusters}: give one size per cluster"
    for number, size in enumerate(sizes, 1):
        if not math.isfinite(size) or size < 0:
            return f"size {number} is {size:g}: sizes must be finite and at least 0"
    return "" if any(sizes) else "every size is 0: give at least one above 0"


def _read_sizes(option: str, path: Path) -> list[float]:
    """The numbers in a .npy vector, or in a text or .csv file, one per line or all on one line. A .csv file may have a
    header."""
    try:
        rows = _npy_rows(option, path) if path.suffix.lower() == ".npy" else _text_rows(option, path)
    except OSError as error:
        raise UserError(f"{option} cannot be read ({error.strerror}): give a file with one size per line") from None
    except ValueError:
        raise UserError(
            f"{option} is neither text nor .npy, or is damaged: give a file with one size per line"
        ) from None
    if len(rows) > 1 and any(len(row) != 1 for row in rows):
        raise UserError(f"{option} has {max(map(len, rows))} columns: keep only the one with the sizes")
    return [size for row in rows for size in row]


def _npy_rows(option: str, path: Path) -> list[list[float]]:
    """The rows of a .npy file. Raises OSError, and ValueError for a file that is damaged or not .npy."""
    with path.open("rb") as file:
        try:
            table = np.lib.format.read_array(file, allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # NumPy's parser raises many kinds of errors for a damaged header
            raise ValueError from error
    if table.dtype.kind not in "iuf":
        raise UserError(f"{option} contains {table.dtype}: save a vector of numbers")
    rows = table.reshape(-1, 1) if table.ndim < 2 else table.reshape(len(table), math.prod(table.shape[1:]))
    return [[float(cell) for cell in row] for row in rows]


def _text_rows(option: str, path: Path) -> list[list[float]]:
    """The rows of a text file. Raises OSError, and ValueError for a file that is not text."""
    lines: list[tuple[int, list[str]]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    lines.append((reader.line_num, row))
        except csv.Error as error:
            raise ValueError from error
    if len(lines) > 1 and path.suffix.lower() == ".csv" and not any(map(_is_number, lines[0][1])):
        lines = lines[1:]
    for line, row in lines:
        for cell in row:
            if not _is_number(cell):
                raise UserError(f"{option}, line {line}: {cell[:40]!r} is not a number: write one size per line")
    return [[float(cell) for cell in row] for _, row in lines]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
