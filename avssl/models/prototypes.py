"""Prototype heads: a projection onto the unit sphere, and its similarity to K prototypes (SwAV, DINO)."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F


class PrototypeHead(nn.Module):
    """A modality's projection and the prototypes, as a cluster head: float [B, I] → [1, B, K].

    The projection is linear → batch norm → ReLU for each layer but the last, which is linear; its output has unit
    length. The logits are its cosine similarities to the prototypes, divided by the temperature. Dividing by the norms
    keeps the logits within ± 1 / temperature (SwAV §3.1; DINO's weight-normalised last layer).

    Args:
        inputs: I, the width of the modality's features.
        hidden: width of the hidden layers.
        prototypes: the prototypes, [K, D], before normalisation. Several heads may share one parameter.
        layers: number of linear layers of the projection, 1 or more.
        temperature: the divisor of the similarities.
    """

    heads = 1

    def __init__(self, inputs: int, hidden: int, prototypes: nn.Parameter, layers: int = 2, temperature: float = 0.1):
        super().__init__()
        self.inputs, self.temperature = inputs, temperature
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            parts += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
            inputs = hidden
        self.projection = nn.Sequential(*parts, nn.Linear(inputs, prototypes.shape[1]))
        self.prototypes = prototypes

    @property
    def outputs(self) -> int:
        """K, the number of prototypes."""
        return len(self.prototypes)

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B, I] → embeddings of unit length, float32 [B, D]."""
        return F.normalize(self.projection(features).float(), dim=-1)

    def scores(self, embeddings: torch.Tensor, learn: bool = True) -> torch.Tensor:
        """Embeddings [..., D] → cosine similarities to the prototypes, float32 [..., K].

        Without `learn`, the prototypes' gradient is zero. It is not None, because the processes of a run wait for the
        gradient of every parameter.
        """
        prototypes = F.normalize(self.prototypes.float(), dim=-1)
        if not learn:
            prototypes = prototypes.detach() + 0 * prototypes
        with torch.autocast(embeddings.device.type, enabled=False):
            return embeddings.float() @ prototypes.T

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (self.scores(self.embed(features)) / self.temperature)[None]

    def one(self, features: torch.Tensor, head: int = 0) -> torch.Tensor:
        """The logits, float [B, I] → [B, K], as in evaluation: with running statistics."""
        x = features
        for layer in self.projection:
            if isinstance(layer, nn.BatchNorm1d):
                assert layer.running_mean is not None
                x = F.batch_norm(
                    x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
                )  # fmt: skip
            else:
                x = layer(x)
        return self.scores(F.normalize(x.float(), dim=-1)) / self.temperature


def prototype_heads(
    widths: Mapping[str, int], hidden: int, width: int, prototypes: int, layers: int = 2, temperature: float = 0.1
) -> dict[str, PrototypeHead]:
    """A head for each modality, all with the same prototypes.

    Args:
        widths: width of each modality's features.
        hidden: width of the hidden layers.
        width: D, the width of the embeddings.
        prototypes: K.
        layers, temperature: see `PrototypeHead`.
    """
    shared = nn.Parameter(F.normalize(torch.randn(prototypes, width), dim=-1))
    return {name: PrototypeHead(inputs, hidden, shared, layers, temperature) for name, inputs in widths.items()}
