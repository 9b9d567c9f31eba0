"""Cluster sizes asked for: points r of the K-simplex, one object a family (spec §1, "Marginals r").

`draw` gives the masses of every head once, at the start of a run; `masses` pairs them with the clusters at every solve.
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

LEAST_DRAW = 0.01
"""Least mass of a Gaussian draw, in even shares 1/K: a cluster is never asked to be empty."""


def uniform(clusters: int) -> torch.Tensor:
    """r_k = 1/K, float64 [K]."""
    return torch.full((clusters,), 1 / clusters, dtype=torch.float64)


def zipf(clusters: int, exponent: float = 1.0) -> torch.Tensor:
    """r_k ∝ k^-s, float64 [K], largest first."""
    return _normalised(torch.arange(1, clusters + 1, dtype=torch.float64) ** -exponent)


def soft_counts(log_p: torch.Tensor) -> torch.Tensor:
    """Σ_n p_nk, float64 [K], of the evidence `log_p` float [n, K], which is normalised to p_n = softmax(log p_n).

    That of softmax(log p / 2), the mean of the modalities, pairs masses worse: where the two orders differ, the
    transport objective of this one was higher in 49 of 68 drawn problems of two modalities, and in 69 of 100 of one.
    """
    return log_p.softmax(-1).sum(0, dtype=torch.float64)


def match_to_mass(marginal: torch.Tensor, soft_count: torch.Tensor) -> torch.Tensor:
    """`marginal` [K] reordered so that the largest mass goes to the cluster with the largest soft count [K].

    Which cluster is large is not known in advance, so this is redone at every solve. Where videos differ only in which
    cluster they prefer, or not at all, this order has the highest transport objective of all (rearrangement). Through
    noise that is no theorem: another order may be slightly higher where clusters or masses are of about one size.
    """
    order = soft_count.argsort(descending=True, stable=True)
    matched = torch.empty_like(marginal)
    matched[order.to(marginal.device)] = marginal.sort(descending=True).values
    return matched


class Marginal(ABC):
    """A family of cluster sizes. A new one says how one head's masses are drawn."""

    @abstractmethod
    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        """Masses of one head, float64 [K] summing to 1, in any order."""

    def draw(self, clusters: int, heads: int, seed: int = 0) -> torch.Tensor:
        """The masses of each head, float64 [H, K], rows summing to 1, in any order.

        Head h's row is a function of (`seed`, h): the number of heads does not change it. ValueError for a seed < 0.
        """
        return torch.stack([self._draw(clusters, np.random.default_rng([seed, head])) for head in range(heads)])

    def masses(self, drawn: torch.Tensor, soft_count: torch.Tensor) -> torch.Tensor:
        """r of one solve, float64 [K]: `drawn` [K] paired with the clusters by their soft counts Σ_n p_nk [K]."""
        return match_to_mass(drawn.double(), soft_count)


@dataclass(frozen=True)
class Uniform(Marginal):
    """r_k = 1/K."""

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        return uniform(clusters)


@dataclass(frozen=True)
class Gaussian(Marginal):
    """r_k ∝ max(1 + σ ε_k, small), ε_k standard normal, drawn once a head (SeLaVi §3, arbitrary priors)."""

    sigma: float = 0.1

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        noise = torch.from_numpy(rng.standard_normal(clusters))
        return _normalised((1 + self.sigma * noise).clamp(min=LEAST_DRAW))


@dataclass(frozen=True)
class Zipf(Marginal):
    """r_k ∝ k^-s, k = 1 … K."""

    exponent: float = 1.0

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        return zipf(clusters, self.exponent)


@dataclass(frozen=True)
class Exponential(Marginal):
    """r_k ∝ exp(-k/τ), τ in clusters; τ = 0 is K/3: the largest cluster then has about e³ ≈ 20 times the smallest."""

    scale: float = 0.0

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        rank = torch.arange(clusters, dtype=torch.float64)  # from 0, so that the largest never underflows
        return _normalised((-rank / (self.scale or clusters / 3)).exp())


@dataclass(frozen=True)
class Given(Marginal):
    """r_k ∝ sizes_k, K counts or masses in any order. A cluster of size 0 gets no video.

    `draw` raises ValueError unless there are K of them, finite, none below 0 and one above.
    """

    sizes: tuple[float, ...]

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        if fault := _fault(self.sizes, clusters):
            raise ValueError(f"the sizes given: {fault}")
        return _normalised(torch.tensor(self.sizes, dtype=torch.float64))


@dataclass(frozen=True)
class Empirical(Marginal):
    """r is the soft counts' share, but at least `floor`/K: r_k = max(floor/K, t Σ_n p_nk) with t such that Σ_k r_k = 1.

    That is the closest such r in KL(r ‖ share). Shares above the floor keep their proportions, and masses that meet the
    floor are left as they are, so that repeated solves do not drift to uniform, as a mixture with 1/K would. floor = 1
    is uniform; floor = 0 lets clusters die. `draw` is uniform, for where there is no assignment yet.
    """

    floor: float = 0.1

    def _draw(self, clusters: int, rng: np.random.Generator) -> torch.Tensor:
        return uniform(clusters)

    def masses(self, drawn: torch.Tensor, soft_count: torch.Tensor) -> torch.Tensor:
        """r of one solve, float64 [K] on the device of `drawn` [K], whose values are not used.

        ValueError for soft counts that are not finite, below 0 or all 0.
        """
        count = soft_count.to(drawn.device).double()
        if not bool(count.isfinite().all()) or bool((count < 0).any()) or not bool((count > 0).any()):
            raise DivergedError("soft counts must be finite, none below 0 and one above: the model has diverged")
        share = _normalised(count)
        least = self.floor / len(share)
        high = share.sort(descending=True).values
        below = torch.arange(len(share) - 1, -1, -1).to(share)
        scale = (1 - least * below) / high.cumsum(0)  # t, were the last `below` clusters at the floor
        above = max(1, int((scale * high >= least).sum()))  # true for the first ones only
        return (scale[above - 1] * share).clamp(min=least)


PARAMETRIC: dict[str, tuple[Callable[..., Marginal], float]] = {
    "gaussian": (Gaussian, 10), "zipf": (Zipf, 10), "exponential": (Exponential, 1e6), "empirical": (Empirical, 1),
}  # fmt: skip
"""Families of one number, which has a default, and the largest that it may be."""


def make_marginal(config: "LabellingConfig") -> Marginal:
    """The marginal that `labelling.marginal` and its options ask for. UserError names the option that is wrong."""
    if config.marginal != "given" and config.sizes:
        raise UserError(f"labelling.sizes needs labelling.marginal=given, not {config.marginal}: change or unset one")
    if config.marginal in PARAMETRIC:
        family, most = PARAMETRIC[config.marginal]
        value = config.marginal_parameter
        return family() if value is None else family(_number(float(value), config.marginal, most))
    if config.marginal_parameter is not None:
        raise UserError(
            f"labelling.marginal_parameter has no part in labelling.marginal={config.marginal}: leave it out, or "
            f"choose {', '.join(PARAMETRIC)}"
        )
    if config.marginal == "uniform":
        return Uniform()
    if config.marginal == "given":
        return _given(config)
    names = "uniform, gaussian, zipf, exponential, given or empirical"
    raise UserError(f"no labelling.marginal={config.marginal}: choose {names}")


def _normalised(r: torch.Tensor) -> torch.Tensor:
    """r / Σ r; by the largest first, so that the sum does not overflow."""
    r = r / r.max()
    return r / r.sum()


def _number(value: float, marginal: str, most: float) -> float:
    if not math.isfinite(value) or not 0 <= value <= most:
        raise UserError(
            f"labelling.marginal_parameter={value:g}: give a number from 0 to {most:g}, for "
            f"labelling.marginal={marginal}"
        )
    return value


def _given(config: "LabellingConfig") -> Given:
    if not config.sizes:
        raise UserError(
            "labelling.marginal=given needs the sizes: add labelling.sizes=[50,30,20], or a file, as "
            "labelling.sizes=[sizes.csv]"
        )
    option = "labelling.sizes"
    try:
        sizes = [float(size) for size in config.sizes]
    except ValueError:
        if len(config.sizes) > 1:
            raise UserError(f"{option}: give numbers alone, or one file of them") from None
        option = f"labelling.sizes=[{config.sizes[0]}]"
        sizes = _read_sizes(option, Path(config.sizes[0]))
    if fault := _fault(sizes, config.clusters):
        raise UserError(f"{option}: {fault}")
    return Given(tuple(sizes))


def _fault(sizes: Sequence[float], clusters: int) -> str:
    """What is wrong with sizes for K clusters, and the fix; empty if nothing is."""
    if len(sizes) != clusters:
        return f"{len(sizes)} sizes for labelling.clusters={clusters}: make them equal in number"
    for place, size in enumerate(sizes, 1):
        if not math.isfinite(size) or size < 0:
            return f"size {place} is {size:g}: give finite sizes, 0 or more"
    return "" if any(sizes) else "every size is 0: give one above 0"


def _read_sizes(option: str, path: Path) -> list[float]:
    """The numbers of a .npy vector, or of a text or .csv file: one a line, or all on one. A .csv may have a header."""
    try:
        rows = _npy_rows(option, path) if path.suffix.lower() == ".npy" else _text_rows(option, path)
    except OSError as error:
        raise UserError(f"{option} cannot be read ({error.strerror}): give a file of one size a line") from None
    except ValueError:
        raise UserError(f"{option} is neither text nor .npy, or is damaged: give a file of one size a line") from None
    if len(rows) > 1 and any(len(row) != 1 for row in rows):
        raise UserError(f"{option} has {max(map(len, rows))} columns: keep the one that holds the sizes")
    return [size for row in rows for size in row]


def _npy_rows(option: str, path: Path) -> list[list[float]]:
    """ValueError for what is no .npy, or a damaged one; OSError."""
    with path.open("rb") as file:
        try:
            table = np.lib.format.read_array(file, allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # a damaged header fails in NumPy's parser in many ways
            raise ValueError from error
    if table.dtype.kind not in "iuf":
        raise UserError(f"{option} holds {table.dtype}: save a vector of numbers")
    rows = table.reshape(-1, 1) if table.ndim < 2 else table.reshape(len(table), math.prod(table.shape[1:]))
    return [[float(cell) for cell in row] for row in rows]


def _text_rows(option: str, path: Path) -> list[list[float]]:
    """ValueError for bytes that are no text; OSError."""
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
                raise UserError(f"{option}, line {line}: {cell[:40]!r} is no number: write one size a line")
    return [[float(cell) for cell in row] for _, row in lines]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
