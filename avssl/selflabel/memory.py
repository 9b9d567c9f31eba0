"""Features stored during training, for labelling passes that do not encode the data again."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from ..core.sharded_table import ON_DEVICE

ByModality = dict[str, torch.Tensor]

NOTHING = -1
"""In place of a video's number: no video."""


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
    """The newest features of every video of `rows`. `whole` returns those of the videos seen so far, ordered by row.

    They are on the device if they fit. Otherwise a step sends them to the CPU without waiting, and the next one stores
    them.
    """

    def __init__(self, rows: range):
        self.rows = rows
        self.seen = torch.zeros(len(rows) + 1, dtype=torch.bool)
        """The last row of each table is of no use: rows of other processes are written there."""
        self.features: ByModality = {}
        self.sent: Callable[[], None] | None = None
        """Stores what the last step sent."""

    def write(self, index: torch.Tensor, features: ByModality) -> None:
        self._receive()
        width = sum(x.shape[1] for x in features.values())
        device = next(iter(features.values())).device
        if len(self.rows) * width * 4 <= ON_DEVICE or device.type == "cpu":
            self._store(device, index, features)
            return
        host = {name: x.to("cpu", non_blocking=True) for name, x in features.items()}  # into pinned memory
        there = index.to("cpu", non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(device))

        def store() -> None:
            arrived.synchronize()
            self._store(torch.device("cpu"), there, host)

        self.sent = store

    def _store(self, device: torch.device, index: torch.Tensor, features: ByModality) -> None:
        place = index.to(device) - self.rows.start
        # a mask of constant shape, because a GPU is asked for the number of rows that a mask selects
        place = torch.where((place >= 0) & (place < len(self.rows)), place, len(self.rows))
        self.seen = self.seen.to(device)
        self.seen.index_fill_(0, place, True)
        for name, x in features.items():
            if name not in self.features:
                self.features[name] = torch.zeros(len(self.seen), x.shape[1], device=device)
            self.features[name] = self.features[name].to(device)
            self.features[name][place] = x.to(device)

    def _receive(self) -> None:
        if self.sent is not None:
            self.sent()
            self.sent = None

    def whole(self) -> tuple[torch.Tensor, ByModality]:
        self._receive()
        rows = self.seen[:-1].nonzero().squeeze(1)
        return rows.cpu() + self.rows.start, {name: x[rows] for name, x in self.features.items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def row_state(self) -> ByModality:
        self._receive()
        return {"seen": self.seen[:-1]} | {f"bank_{name}": x[:-1] for name, x in self.features.items()}

    def load_row_state(self, tables: ByModality) -> None:
        def with_spare(x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x.new_zeros(1, *x.shape[1:])])

        self.seen = with_spare(tables["seen"])
        self.features = {name[5:]: with_spare(x) for name, x in tables.items() if name.startswith("bank_")}


class Queue:
    """The features of the last `size` videos of training batches, the oldest first, on the device.

    All tensors have a constant shape, so that nothing waits for the device: a place without a video, because none came
    yet or because the same video came again, has the number `NOTHING`.
    """

    def __init__(self, size: int):
        self.size = size
        self.index = torch.full((size,), NOTHING)
        self.features: ByModality = {}

    def write(self, index: torch.Tensor, features: ByModality) -> None:
        past, kept = self.index.to(index.device), max(0, self.size - len(index))
        past = past.masked_fill((past[:, None] == index).any(1), NOTHING)
        # of a video that is twice in the batch, the first counts
        again = (index[:, None] == index).tril(-1).any(1)
        new = index.masked_fill(again, NOTHING)
        self.index = torch.cat([past[self.size - kept :], new])[-self.size :] if self.size else past
        for name, x in features.items():
            before = self.features.get(name, x.new_zeros(self.size, x.shape[1])).to(x.device)
            self.features[name] = torch.cat([before[self.size - kept :], x])[-self.size :] if self.size else before

    def whole(self) -> tuple[torch.Tensor, ByModality]:
        """The numbers, int64 [size], and features, float32 [size, D], with the places that have no video."""
        return self.index, self.features

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index if self.features else self.index[:0], "features": self.features}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load `state_dict`. Older checkpoints have no empty places, and fewer rows."""
        missing = max(0, self.size - len(state["index"]))
        self.index = F.pad(state["index"], (missing, 0), value=NOTHING)[len(state["index"]) + missing - self.size :]
        self.features = {name: F.pad(x, (0, 0, missing, 0))[-self.size :] for name, x in state["features"].items()}

    def row_state(self) -> ByModality:
        return {}

    def load_row_state(self, tables: ByModality) -> None:
        pass
