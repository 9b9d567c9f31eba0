"""Cluster sizes asked for: a point of the K-simplex (spec §1, "Marginals r")."""

import torch

from ..config import LabellingConfig
from ..errors import UserError


def uniform(clusters: int) -> torch.Tensor:
    """r_k = 1/K, float64 [K]."""
    return torch.full((clusters,), 1 / clusters, dtype=torch.float64)


def zipf(clusters: int, exponent: float = 1.0) -> torch.Tensor:
    """r_k ∝ k^-s, float64 [K], largest first."""
    r = torch.arange(1, clusters + 1, dtype=torch.float64) ** -exponent
    return r / r.sum()


def marginal(config: LabellingConfig) -> torch.Tensor:
    """The marginal that a run asks for, float64 [K]. UserError for an unknown name."""
    if config.marginal == "uniform":
        return uniform(config.clusters)
    if config.marginal == "zipf":
        return zipf(config.clusters, config.zipf_exponent)
    raise UserError(f"labelling.marginal={config.marginal}: choose uniform or zipf")


def match_to_mass(marginal: torch.Tensor, soft_count: torch.Tensor) -> torch.Tensor:
    """`marginal` [K] reordered so that the largest mass goes to the cluster with the largest soft count [K].

    The pairing in the same order has the highest transport objective of all (rearrangement); it is redone at every
    solve, since which cluster is large is not known in advance.
    """
    order = soft_count.argsort(descending=True, stable=True)
    matched = torch.empty_like(marginal)
    matched[order.to(marginal.device)] = marginal.sort(descending=True).values
    return matched
