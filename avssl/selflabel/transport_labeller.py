"""Labels from optimal transport, and the soft targets that come with them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

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
        rows, start, weights = outputs.index - self.rows.start, 0, self.weights_of(head)
        for logits in outputs.blocks(head):
            scores = self.lam / 2 * evidence(logits, weights).double() + log_alpha.to(outputs.device)
            part = scores.softmax(1).to("cpu", torch.float16)
            self.plan[rows[start : start + len(part)], head] = part
            start += len(part)

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

    def solve_batch(self, outputs: PassFeatures, count: int) -> None:
        index = outputs.index[:count] - self.rows.start
        local = (index >= 0) & (index < len(self.rows))
        for head in range(self.config.heads):
            result, _ = self.transport(head, outputs, all_reduce=lambda x: x)
            self.labels[index[local], head] = result.labels[:count].to("cpu", torch.int32)[local]
            self.costs[head] += 0.01 * (result.cost - self.costs[head])  # a mean over about a hundred batches

    def transport(
        self, head: int, outputs: PassFeatures, all_reduce: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> tuple[Transport, torch.Tensor]:
        """The solution for the videos of `outputs`, and the requested masses, float64 [K]."""
        config, all_reduce = self.config, all_reduce or self.all_reduce
        weights = self.weights_of(head)
        soft_count = torch.zeros(config.clusters, dtype=torch.float64)
        device = outputs.device
        whole, start = torch.zeros(0, config.clusters, device=device), 0
        for logits in outputs.blocks(head):
            block = evidence(logits, weights)
            soft_count += soft_counts(block).cpu()
            if config.memory == "full":
                if (
                    start == 0
                ):  # fill one matrix in place, because joining blocks at the end would need twice the memory
                    whole = torch.empty(len(outputs.index), config.clusters, device=device)
                whole[start : start + len(block)] = block
                start += len(block)
        masses = self.marginal.masses(self.marginals[head], all_reduce(soft_count))
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

    def row_state(self) -> ByModality:
        return super().row_state() | ({} if self.plan is None else {"plan": self.plan})

    def load_row_state(self, tables: ByModality) -> None:
        super().load_row_state(tables)
        self.plan = tables.get("plan")
