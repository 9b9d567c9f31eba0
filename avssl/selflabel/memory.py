"""Features stored during training, for labelling passes that do not encode the data again."""

from typing import Any, Protocol

import numpy as np
import torch

ByModality = dict[str, torch.Tensor]


class Memory(Protocol):
    """Features, float32 [n, D] by modality, of the videos `index`, int64 [n]. All processes store the same.

    A checkpoint keeps `state_dict`, which is the same in all processes, and `row_state` of this process's rows.
    """

    def write(self, index: torch.Tensor, features: ByModality) -> None: ...
    def whole(self) -> tuple[torch.Tensor, ByModality]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def row_state(self) -> ByModality: ...
    def load_row_state(self, tables: ByModality) -> None: ...


class Bank:
    """The newest features of every video of `rows`. `whole` returns those of the videos seen so far, ordered by row."""

    def __init__(self, rows: range):
        self.rows = rows
        self.seen = torch.zeros(len(rows), dtype=torch.bool)
        self.features: ByModality = {}

    def write(self, index: torch.Tensor, features: ByModality) -> None:
        local = (index >= self.rows.start) & (index < self.rows.stop)
        rows = index[local] - self.rows.start
        for name, x in features.items():
            if name not in self.features:
                self.features[name] = torch.zeros(len(self.seen), x.shape[1])
            self.features[name][rows] = x[local]
        self.seen[rows] = True

    def whole(self) -> tuple[torch.Tensor, ByModality]:
        rows = self.seen.nonzero().squeeze(1)
        return rows + self.rows.start, {name: x[rows] for name, x in self.features.items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def row_state(self) -> ByModality:
        return {"seen": self.seen} | {f"bank_{name}": x for name, x in self.features.items()}

    def load_row_state(self, tables: ByModality) -> None:
        self.seen = tables["seen"]
        self.features = {name[5:]: x for name, x in tables.items() if name.startswith("bank_")}


class Queue:
    """The features of the last `size` distinct videos, the oldest first."""

    def __init__(self, size: int):
        self.size = size
        self.index = torch.empty(0, dtype=torch.int64)
        self.features: ByModality = {}

    def write(self, index: torch.Tensor, features: ByModality) -> None:
        keep = ~torch.isin(self.index, index)
        first = torch.from_numpy(_first(index.numpy()))
        start = max(0, int(keep.sum()) + len(first) - self.size)
        for name, x in features.items():
            past = self.features[name][keep] if name in self.features else x[:0]
            self.features[name] = torch.cat([past, x[first]])[start:]
        self.index = torch.cat([self.index[keep], index[first]])[start:]

    def whole(self) -> tuple[torch.Tensor, ByModality]:
        return self.index, self.features

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index, "features": self.features}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.index, self.features = state["index"], dict(state["features"])

    def row_state(self) -> ByModality:
        return {}

    def load_row_state(self, tables: ByModality) -> None:
        pass


def _first(values: np.ndarray) -> np.ndarray:
    """The first position of each value, ascending."""
    return np.sort(np.unique(values, return_index=True)[1])
