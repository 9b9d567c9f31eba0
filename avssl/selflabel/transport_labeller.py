"""Labels from optimal transport, and the soft targets that come with them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..core.transfer import finish, start_to_host, to_device
from .batch_transport import alternate
from .head_opinions import spread_of
from .labeller import Labeller, PassFeatures, evidence
from .marginals import make_marginal, soft_counts
from .memory import ByModality
from .sinkhorn import BlockwiseEvidence, Transport, sinkhorn

if TYPE_CHECKING:
    from ..config import LabellingConfig


class TransportLabeller(Labeller):
    """Labels from optimal transport (SeLa, SeLaVi); each head has its own draw of the marginal.

    `labelling.memory=full` keeps one head's evidence, N × K, in memory; `stream` recomputes it from the features in
    every iteration of the solver.
    """

    def __init__(self, videos: int, config: "LabellingConfig", total_steps: int, *args: Any, **options: Any):
        super().__init__(videos, config, total_steps, *args, **options)
        self.marginal = make_marginal(config)
        self.marginals = self.marginal.draw(config.clusters, config.heads, self.seed)  # float64 [H, K]
        self.log_alpha = torch.zeros(config.heads, config.clusters)
        self.plan: torch.Tensor | None = None
        """N · Q of this process's videos, float16 [n, H, K], while targets are soft; zeros without a label."""
        self.live: torch.Tensor | None = None
        """With `labelling.mode=batch`, `labels` and a last row of no use, int32 [n + 1, H], on the device."""
        self.drawn: torch.Tensor | None = None
        """`marginals` on the device."""

    @property
    def lam(self) -> float:
        """λ of the next labelling pass. It grows by a constant factor, up to the configured value at the last pass."""
        config, last = self.config, len(self.steps) - 1
        if config.lam_start is None or self.done >= last:
            return config.lam
        return config.lam_start * (config.lam / config.lam_start) ** (self.done / last)

    def _soft_at(self, step: int) -> bool:
        return step < self.soft_until

    def soft_targets(self, index: torch.Tensor, step: int, sizes: Sequence[int] | None = None) -> torch.Tensor | None:
        if self.plan is None or not self._soft_at(step):
            return None
        return self._on_device("plan", self.plan)(index, sizes).transpose(0, 1).float()

    def _keep_plan(self, head: int, outputs: PassFeatures, log_alpha: torch.Tensor) -> None:
        """Keep the rows of one head's plan if the steps after this pass need them."""
        if not self._soft_at(self.steps[min(self.done, len(self.steps) - 1)]):
            self.plan = None
            return
        if self.plan is None:
            self.plan = torch.zeros(len(self.rows), self.config.heads, self.config.clusters, dtype=torch.float16)
        rows, weights, parts = outputs.index - self.rows.start, self.weights_of(head), []
        for logits in outputs.blocks(head):
            scores = self.lam / 2 * evidence(logits, weights).double() + log_alpha.to(outputs.device)
            parts.append(start_to_host(scores.softmax(1).to(torch.float16)))
        finish(outputs.device)
        if parts:
            self.plan[rows, head] = torch.cat(parts)

    def expected_spread(self) -> list[float]:
        if self.config.marginal == "empirical":  # these sizes follow the model, so they cannot reveal a collapse
            return super().expected_spread()
        return [spread_of(masses.numpy()) for masses in self.marginals]

    def solve_head(self, head: int, outputs: PassFeatures) -> Transport:
        result, masses = self.transport(head, outputs)
        self.marginals[head] = masses  # the drawn masses in the order of the clusters, or the empirical ones
        self.labels[outputs.index - self.rows.start, head] = result.labels.to("cpu", torch.int32)
        self.log_alpha[head] = result.log_alpha.cpu()
        if self.config.soft:
            self._keep_plan(head, outputs, result.log_alpha)
        return result

    def solve_batch(self, heads: slice, logits: ByModality, counts: torch.Tensor) -> torch.Tensor:
        weights = None
        if self.weights is not None:
            weights = {name: to_device(x[heads], counts.device)[:, None, None] for name, x in self.weights.items()}
        if self.drawn is None:
            self.drawn = to_device(self.marginals, counts.device)
            self.log_alpha, self.costs = (to_device(x, counts.device) for x in (self.log_alpha, self.costs))
        log_p = evidence(logits, weights)
        soft = torch.where(counts[:, None], log_p.softmax(-1), 0.0).sum(1, dtype=torch.float64)
        masses = self.marginal.masses_by_head(self.drawn[heads], soft)
        found = alternate(log_p, counts, masses, self.log_alpha[heads], self.lam)
        self.log_alpha[heads] = found.log_alpha
        self.costs[heads] += 0.01 * (found.cost - self.costs[heads])  # a mean over about a hundred batches
        return found.labels

    def keep(self, index: torch.Tensor, labels: torch.Tensor) -> None:
        if self.live is None:
            self.live = to_device(torch.cat([self.labels, self.labels.new_zeros(1, self.config.heads)]), labels.device)
        place = index - self.rows.start
        # rows of other processes go to the last row, because a GPU is asked for the number of rows that a mask selects
        place = torch.where((place >= 0) & (place < len(self.rows)), place, len(self.rows))
        self.live[place] = labels.T.to(torch.int32)

    def transport(self, head: int, outputs: PassFeatures) -> tuple[Transport, torch.Tensor]:
        """The solution for the videos of `outputs`, and the requested masses, float64 [K]."""
        config, all_reduce = self.config, self.all_reduce
        weights = self.weights_of(head)
        device = outputs.device
        soft_count = torch.zeros(config.clusters, dtype=torch.float64, device=device)
        whole, start = torch.zeros(0, config.clusters, device=device), 0
        for logits in outputs.blocks(head):
            block = evidence(logits, weights)
            soft_count += soft_counts(block)
            if config.memory == "full":
                if (
                    start == 0
                ):  # fill one matrix in place, because joining blocks at the end would need twice the memory
                    whole = torch.empty(len(outputs.index), config.clusters, device=device)
                whole[start : start + len(block)] = block
                start += len(block)
        masses = self.marginal.masses(self.marginals[head], all_reduce(soft_count.cpu()))
        log_p: torch.Tensor | BlockwiseEvidence
        if config.memory == "full":
            log_p = whole
        else:
            log_p = BlockwiseEvidence(
                len(outputs.index),
                config.clusters,
                lambda start, stop: evidence(outputs.block(head, start, stop), weights),
                device,
            )
        solution = sinkhorn(
            log_p, masses.to(device), self.lam, config.tolerance, config.max_iterations, all_reduce=all_reduce
        )
        return solution, masses

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"marginals": self.marginals, "log_alpha": self.log_alpha}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.marginals.copy_(state["marginals"])
        self.log_alpha.copy_(state["log_alpha"])
        self.drawn = None

    def row_state(self) -> ByModality:
        if self.live is not None:
            self.labels.copy_(self.live[:-1])
        return super().row_state() | ({} if self.plan is None else {"plan": self.plan})

    def load_row_state(self, tables: ByModality) -> None:
        super().load_row_state(tables)
        self.plan, self.live = tables.get("plan"), None
