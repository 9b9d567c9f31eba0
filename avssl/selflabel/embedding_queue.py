"""A queue of past embeddings, which balance the codes of small batches (SwAV §4.1)."""

import torch


class EmbeddingQueue:
    """The last `size` embeddings of each view, the newest first: float32 [views, size, D] on the device.

    All processes store the same. How many rows it has is known without asking the device. SwAV uses a queue only once
    it is full.
    """

    def __init__(self, views: int, size: int, width: int, device: torch.device | str = "cpu"):
        self.rows = torch.zeros(views, size, width, device=device)
        self.count = 0
        """The number of embeddings of each view so far, at most `size`."""

    @property
    def size(self) -> int:
        """The largest number of embeddings of each view."""
        return self.rows.shape[1]

    @property
    def is_full(self) -> bool:
        """Whether every place has an embedding."""
        return 0 < self.size <= self.count

    def full_rows(self) -> torch.Tensor:
        """The embeddings, [views, size, D], once the queue is full; before that none, [views, 0, D]."""
        return self.rows if self.is_full else self.rows[:, :0]

    @torch.no_grad()
    def write(self, embeddings: torch.Tensor) -> None:
        """Put a batch's embeddings, [views, B, D] of all processes, in front; the oldest drop out."""
        new = embeddings[:, : self.size].to(self.rows)
        self.rows = torch.cat([new, self.rows[:, : self.size - new.shape[1]]], 1)
        self.count = min(self.size, self.count + new.shape[1])
