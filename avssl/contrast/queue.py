"""MoCo's queue of keys (He et al., CVPR 2020, arXiv 1911.05722), for any composition."""

from typing import Any

import torch

from .composition import Composition
from .keys import NOTHING, are_unit, compared_with, log_sum_of_others, loss_terms, pairs_of_video


class KeyQueue:
    """The newest `size` keys of each modality with the numbers of their videos; the oldest are overwritten first.

    All processes have the same queue, and all tensors have a constant shape, so that nothing waits for the device.

    Args:
        size: K, keys of each modality.
        modalities: number of modalities.
        width: D, of a key.
        device: where the keys are compared.
    """

    def __init__(self, size: int, modalities: int, width: int, device: torch.device):
        self.keys = torch.zeros(modalities, size, width, device=device)
        self.videos = torch.full((size,), NOTHING, device=device)
        self.next = 0
        """The place of the next key."""

    @property
    def size(self) -> int:
        return len(self.videos)

    @torch.no_grad()
    def add(self, keys: torch.Tensor, videos: torch.Tensor) -> None:
        """Overwrite the oldest keys. A step's loss must be backpropagated first, because it uses the queue.

        Args:
            keys: unit keys of B videos with V clips, float [modalities, B, V, D], in the same order in all processes.
            videos: the numbers of the videos, int64 [B].
        """
        clips = keys.shape[2]
        keys = keys.flatten(1, 2)[:, -self.size :].to(self.keys.dtype)
        videos = videos[:, None].expand(-1, clips).flatten()[-self.size :]
        done = 0
        while done < len(videos):  # twice if the end of the queue is reached
            count = min(len(videos) - done, self.size - self.next)
            self.keys[:, self.next : self.next + count] = keys[:, done : done + count]
            self.videos[self.next : self.next + count] = videos[done : done + count]
            self.next, done = (self.next + count) % self.size, done + count

    def state_dict(self) -> dict[str, Any]:
        return {"keys": self.keys, "videos": self.videos, "next": self.next}

    def load_state_dict(self, state: dict[str, Any], videos: int) -> None:
        """Load `state_dict` of a run on `videos` videos.

        Raises:
            ValueError: the queue has another size, or videos that do not exist.
        """
        keys, numbers, following = state["keys"], state["videos"], state["next"]
        if keys.shape != self.keys.shape or numbers.shape != self.videos.shape:
            raise ValueError(f"the queue of keys has the shape {list(keys.shape)}, not {list(self.keys.shape)}")
        if not are_unit(keys):
            raise ValueError("the queue has keys that are no unit vectors")
        if numbers.dtype is not torch.int64 or numbers.min() < NOTHING or numbers.max() >= videos:
            raise ValueError("the queue has keys of videos that are not in the index")
        if not isinstance(following, int) or not 0 <= following < self.size:
            raise ValueError(f"the queue has no place {following}")
        self.keys.copy_(keys)
        self.videos.copy_(numbers)
        self.next = following


def queue_terms(
    queries: torch.Tensor,
    keys: torch.Tensor,
    videos: torch.Tensor,
    queue: KeyQueue,
    composition: Composition,
    temperature: float = 0.07,
    block: int = 0,
) -> torch.Tensor:
    """The loss of each query against the keys of its video and the queue, float [modalities, B, V + S].

    Its positives are the compared keys of its video that c(T, T') = 1 holds for; other compared keys of its video, and
    the queue's keys of other videos, are negatives. Other videos of the batch are none, as in MoCo.

    Args:
        queries: unit queries of B videos, float [modalities, B, V + S, D]: V main clips and S small views.
        keys: a teacher's unit keys of the main clips, float [modalities, B, V, D], without gradient.
        videos: the numbers of the videos, int64 [B].
        queue: the keys of earlier batches.
        composition: decides which pairs are compared.
        temperature: τ.
        block: see `log_sum_of_others`.

    Source: MoCo, equation 1; the composition is GDT §3.
    """
    count = queries.shape[2]
    positive, negative = pairs_of_video(composition, count - keys.shape[2], queries.device)
    near = torch.einsum("mbqd,nbvd->mbqnv", queries / temperature, keys).flatten(3)
    flat, of_query = queries.flatten(1, 2), videos[:, None].expand(-1, count).flatten()
    others = []
    for modality in range(len(queries)):
        parts = [
            log_sum_of_others(flat[modality], of_query, queue.keys[other], queue.videos, temperature, block)
            for other in compared_with(composition, modality)
        ]
        others.append(torch.stack(parts).logsumexp(0).view(-1, count))
    positive, negative = (mask[:, None].expand_as(near) for mask in (positive, negative))
    return loss_terms(near, positive, negative, torch.stack(others), composition.denominator)
