"""What stands in place of an encoder in a run on a table of features, which has none."""

import torch
from torch import nn

from ..core.errors import UserError
from .encoder import ShortRepr


class OfTable(ShortRepr, nn.Module):
    """Stands for features of width `dim` from a table. It has no weights and encodes nothing."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise UserError(
            "this run was trained on a table of features, so it has no encoders: it can only label the features of its "
            "table, with `avssl clusters`"
        )
