"""Features remembered of training, for labellings that make no pass of their own over the data."""

from typing import Any, Protocol

import numpy as np
import torch

Parts = dict[str, torch.Tensor]


class Memory(Protocol):
    """Features float32 [n, D] by modality, of the videos `index`, int64 [n]."""

    def write(self, index: torch.Tensor, features: Parts) -> None: ...
    def whole(self) -> tuple[torch.Tensor, Parts]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Bank:
    """The newest features of every one of N videos; `whole` gives those that were seen, in their order."""

    def __init__(self, videos: int):
        self.seen = torch.zeros(videos, dtype=torch.bool)
        self.features: Parts = {}

    def write(self, index: torch.Tensor, features: Parts) -> None:
        for name, x in features.items():
            if name not in self.features:
                self.features[name] = torch.zeros(len(self.seen), x.shape[1])
            self.features[name][index] = x
        self.seen[index] = True

    def whole(self) -> tuple[torch.Tensor, Parts]:
        index = self.seen.nonzero().squeeze(1)
        return index, {name: x[index] for name, x in self.features.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "features": self.features}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, self.features = state["seen"], dict(state["features"])


class Queue:
    """The features of the last `size` videos, each once, the oldest first."""

    def __init__(self, size: int):
        self.size = size
        self.index = torch.empty(0, dtype=torch.int64)
        self.features: Parts = {}

    def write(self, index: torch.Tensor, features: Parts) -> None:
        keep = ~torch.isin(self.index, index)
        first = torch.from_numpy(_first(index.numpy()))
        start = max(0, int(keep.sum()) + len(first) - self.size)
        for name, x in features.items():
            past = self.features[name][keep] if name in self.features else x[:0]
            self.features[name] = torch.cat([past, x[first]])[start:]
        self.index = torch.cat([self.index[keep], index[first]])[start:]

    def whole(self) -> tuple[torch.Tensor, Parts]:
        return self.index, self.features

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index, "features": self.features}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.index, self.features = state["index"], dict(state["features"])


def _first(values: np.ndarray) -> np.ndarray:
    """Where each value stands first, ascending."""
    return np.sort(np.unique(values, return_index=True)[1])
