"""The place of an encoder in a run on a table of features, which has none."""

import torch
from torch import nn

from ..core.errors import UserError
from .encoder import ShortRepr


class OfTable(ShortRepr, nn.Module):
    """Features of width `dim` that were made elsewhere. It has no weights, and encodes nothing."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise UserError(
            "this run was trained on a table of features, and has no encoders: it labels the features of its table, "
            "with `avssl clusters`"
        )
