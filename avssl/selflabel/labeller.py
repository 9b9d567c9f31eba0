"""The label table of a run and when it is solved anew: the state between self-labelling and training."""

from dataclasses import dataclass
from typing import Any

import torch

from ..config import LabellingConfig
from .marginals import marginal, match_to_mass
from .sinkhorn import Transport, sinkhorn

UNLABELLED = -1


def solve_steps(total: int, solves: int, exponent: float = 1.5) -> list[int]:
    """The training steps before which labels are solved: T (i / (S - 1)) ** exponent, i = 0 … S - 1 (spec §1).

    The last falls at T, when training has ended: it gives the labels that the run exports. Early ones that round to
    the same step are one.
    """
    if solves == 1:
        return [0]
    return sorted({min(total, round(total * (i / (solves - 1)) ** exponent)) for i in range(solves)})


@dataclass
class Solved:
    """What one labelling did, per head: for the log."""

    costs: list[float]
    iterations: list[int]
    errors: list[float]
    """Bound on the published stopping error; above the tolerance where the solver gave up."""
    changed: float
    """Share of videos whose label (any head) differs from the previous labelling's."""


class Labeller:
    """Labels int32 [N, H] of the N training videos, `-1` before the first solve and for videos without evidence."""

    def __init__(self, videos: int, config: LabellingConfig, total_steps: int):
        self.config = config
        self.labels = torch.full((videos, config.heads), UNLABELLED, dtype=torch.int32)
        self.marginals = marginal(config).repeat(config.heads, 1)  # one draw a head
        self.log_alpha = torch.zeros(config.heads, config.clusters)
        self.costs = torch.full((config.heads,), torch.inf)
        self.steps = solve_steps(total_steps, config.solves, config.exponent)
        self.done = 0

    def due(self, step: int, done: int | None = None) -> bool:
        """Is a labelling due before training step `step`, when `done` (default: as many as so far) have been?"""
        done = self.done if done is None else done
        return done < len(self.steps) and step >= self.steps[done]

    def solve(self, log_p: torch.Tensor, index: torch.Tensor) -> Solved:
        """New labels from the joint evidence `log_p`, float [H, n, K], of the videos `index`, int64 [n].

        Videos that are not among them keep their label.
        """
        before = self.labels.clone()
        solved: list[Transport] = []
        for head in range(self.config.heads):
            r = match_to_mass(self.marginals[head], (log_p[head] / 2).softmax(-1).sum(0))
            result = sinkhorn(
                log_p[head],
                r.to(log_p.device),
                self.config.lam,
                self.config.tolerance,
                self.config.max_iterations,
            )
            self.labels[index, head] = result.labels.to("cpu", torch.int32)
            self.log_alpha[head] = result.log_alpha.cpu()
            self.costs[head] = result.cost
            solved.append(result)
        self.done += 1
        return Solved(
            [s.cost for s in solved],
            [s.iterations for s in solved],
            [s.error for s in solved],
            float((before != self.labels).any(1).float().mean()),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "marginals": self.marginals,
            "log_alpha": self.log_alpha,
            "costs": self.costs,
            "done": self.done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("labels", "marginals", "log_alpha", "costs"):
            getattr(self, name).copy_(state[name])
        self.done = state["done"]
