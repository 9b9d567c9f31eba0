"""MLP heads: H heads are computed as one batched matrix product, without a loop over heads."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class StackedLinear(nn.Module):
    """H independent linear layers: [H, B, I], or [1, B, I] for all layers, → [H, B, O]."""

    def __init__(self, heads: int, inputs: int, outputs: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(heads, outputs)) if bias else None
        bound = 1 / math.sqrt(inputs)  # nn.Linear's default
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weight.transpose(1, 2)
        return y if self.bias is None else y + self.bias[:, None]


class MLPHeads(nn.Module):
    """H MLPs (SeLaVi §3.4): float [B, I] → [H, B, O].

    Each is dropout → linear without bias → batch norm → ReLU → dropout → linear, with its own batch-norm statistics and
    its own dropout.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, heads: int = 1, dropout: float = 0.3):
        super().__init__()
        self.inputs, self.heads, self.dropout = inputs, heads, dropout
        self.hidden = StackedLinear(heads, inputs, hidden, bias=False)
        self.norm = nn.BatchNorm1d(heads * hidden)
        self.out = StackedLinear(heads, hidden, outputs)

    @property
    def outputs(self) -> int:
        """O, the number of outputs of a head."""
        return self.out.weight.shape[1]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = features.expand(self.heads, -1, -1)
        x = self.hidden(F.dropout(x, self.dropout, self.training))
        heads, batch, width = x.shape
        x = self.norm(x.transpose(0, 1).reshape(batch, heads * width)).reshape(batch, heads, width).transpose(0, 1)
        return self.out(F.dropout(F.relu(x), self.dropout, self.training))

    @torch.no_grad()
    def renumber(self, head: int, order: torch.Tensor) -> None:
        """Permute the outputs of a head: output k becomes the former output `order[k]`, of int64 [O]."""
        assert self.out.bias is not None
        order = order.to(self.out.weight.device)
        self.out.weight[head] = self.out.weight[head][order].clone()
        self.out.bias[head] = self.out.bias[head][order].clone()

    def one(self, features: torch.Tensor, head: int) -> torch.Tensor:
        """The output of a single head, float [B, I] → [B, O], as in evaluation: running statistics and no dropout."""
        norm, width = self.norm, self.hidden.weight.shape[1]
        part = slice(head * width, (head + 1) * width)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        x = features @ self.hidden.weight[head].T
        mean, var, weight, bias = (t[part] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
        x = F.batch_norm(x, mean, var, weight, bias, eps=norm.eps)
        assert self.out.bias is not None
        return F.linear(F.relu(x), self.out.weight[head], self.out.bias[head])
