"""NPID's bank of one key for each video (Wu et al., CVPR 2018, arXiv 1805.01978), for both modalities."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..core.collectives import gather, gather_sizes, rank, sum_over_processes, world_size
from .composition import Composition
from .gather import gather_with_grad
from .keys import NOTHING, are_unit, compared_with, hide, log_sum_of_others, loss_terms

MOMENTUM = 0.5
"""The part of a key that is kept when its video is seen."""

CHUNK = 4096
"""Rows whose first keys are drawn together."""

NCE_MARGIN = 1e-7
"""What the released code adds to the denominators of its NCE loss."""


class KeyBank:
    """A unit key of each video and modality. Each process has those of its own rows.

    A key begins as a random unit vector that depends only on the seed and the row.

    Args:
        rows: the rows of this process; they ascend with its rank, from 0.
        modalities: the number of modalities.
        width: D, of a key.
        seed: of the first keys.
        device: where the keys are compared.
        momentum: the part of a key that is kept when its video is seen.
    """

    def __init__(
        self, rows: range, modalities: int, width: int, seed: int, device: torch.device, momentum: float = MOMENTUM
    ):
        self.rows, self.momentum = rows, momentum
        self.keys = torch.zeros(modalities, len(rows) + 1, width, device=device)
        """The last row is no video's and always zero: it is read for the rows of other processes."""
        self.videos = torch.tensor([*rows, NOTHING], device=device)
        """The numbers of the videos of `keys`."""
        for modality in range(modalities):
            for chunk in range(rows.start // CHUNK, -(-rows.stop // CHUNK)):
                generator = torch.Generator().manual_seed(_hash(seed, modality, chunk))
                first = F.normalize(torch.randn(CHUNK, width, generator=generator), dim=1)
                inside = range(max(rows.start, chunk * CHUNK), min(rows.stop, (chunk + 1) * CHUNK))
                here = slice(inside.start - rows.start, inside.stop - rows.start)
                self.keys[modality, here] = first[inside.start - chunk * CHUNK :][: len(inside)].to(device)

    def place(self, videos: torch.Tensor) -> torch.Tensor:
        """The places of videos int64 [n] in `keys`, int64 [n]; the last place for rows of other processes."""
        place = videos - self.rows.start
        return torch.where((place >= 0) & (place < len(self.rows)), place, len(self.rows))

    def fetch(self, videos: torch.Tensor) -> torch.Tensor:
        """The keys of videos int64 [n], which are the same in all processes, float [modalities, n, D]."""
        return sum_over_processes(self.keys[:, self.place(videos)])

    @torch.no_grad()
    def update(self, videos: torch.Tensor, seen: torch.Tensor, first: bool = False) -> None:
        """f ← m f + (1 − m) f_seen, normalised; of a video that is there twice, the first counts.

        A step's loss must be backpropagated first, because it uses the bank.

        Args:
            videos: the numbers of the batch's videos of all processes, int64 [n].
            seen: their new unit vectors, float [modalities, n, D].
            first: whether nothing is kept of the keys, because they are still the drawn ones.
        """
        again = (videos[:, None] == videos).tril(-1).any(1)
        place = torch.where(again, len(self.rows), self.place(videos))
        kept = 0.0 if first else self.momentum
        mixed = kept * self.keys[:, place] + (1 - kept) * seen.to(self.keys.dtype)
        self.keys[:, place] = F.normalize(mixed, dim=-1)
        self.keys[:, -1] = 0

    def row_state(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """The keys of this process's rows, float [n, D] each, under these names of the modalities."""
        return {name: keys[:-1] for name, keys in zip(names, self.keys, strict=True)}

    def load_row_state(self, tables: dict[str, torch.Tensor], names: Sequence[str]) -> None:
        """Load `row_state`; `tables` may contain more.

        Raises:
            ValueError: the keys have another shape, or are no unit vectors.
        """
        for keys, name in zip(self.keys, names, strict=True):
            table = tables[name]
            if table.shape != keys[:-1].shape or not are_unit(table):
                raise ValueError(f"{name} has the shape {list(table.shape)}, or keys that are no unit vectors")
            keys[:-1] = table


def bank_terms(
    queries: torch.Tensor,
    videos: torch.Tensor,
    bank: KeyBank,
    composition: Composition,
    temperature: float = 0.07,
    *,
    sizes: Sequence[int] | None = None,
    block: int = 0,
) -> torch.Tensor:
    """The loss of each query, where every other video's key is a negative, float [modalities, B, Q].

    It is the softmax over all videos. Each process sums over its own rows for the queries of all processes, and the
    sums are exchanged, with their gradient. All processes call it together.

    Args:
        queries: unit queries of this process's B videos, float [modalities, B, Q, D].
        videos: the numbers of the videos, int64 [B].
        bank: the keys.
        composition: decides which modalities are compared; only `sample` is distinct.
        temperature: τ.
        sizes: the number of videos of each process; None: they are exchanged.
        block: see `log_sum_of_others`.

    Source: NPID, equation 2.
    """
    modalities, own, count, width = queries.shape
    by_video = queries.transpose(0, 1)
    if world_size() > 1:
        sizes = gather_sizes(own, queries.device) if sizes is None else sizes
        by_video, videos = gather_with_grad(by_video.contiguous(), sizes), gather(videos, sizes)
    flat = by_video.transpose(0, 1).reshape(modalities, -1, width)
    of_query = videos[:, None].expand(-1, count).flatten()
    place, parts = bank.place(of_query), []
    for modality in range(modalities):
        compared = compared_with(composition, modality)
        others = [
            log_sum_of_others(flat[modality], of_query, bank.keys[other], bank.videos, temperature, block)
            for other in compared
        ]
        near = [(flat[modality] * bank.keys[other, place]).sum(1) / temperature for other in compared]
        parts.append(torch.stack([torch.stack(others).logsumexp(0), *near], -1))
    scores = torch.stack(parts).view(1, modalities, -1, count, parts[0].shape[-1])
    if world_size() > 1:
        start = sum(sizes[: rank()])  # type: ignore[index]
        scores = gather_with_grad(scores, [1] * world_size())[:, :, start : start + own]
    own_keys, log_sum = scores[..., 1:].sum(0), scores[..., 0].logsumexp(0)
    every = torch.ones_like(own_keys, dtype=torch.bool)
    return loss_terms(own_keys, every, ~every, log_sum, composition.denominator)


def drawn_videos(count: int, videos: int, seed: int, number: int, device: torch.device) -> torch.Tensor:
    """Numbers of videos, int64 [count] in 0 … videos − 1, drawn with replacement; equal in all processes and devices.

    Args:
        count: how many to draw.
        videos: how many there are.
        seed: of the run.
        number: of the draw.
        device: where they are needed; nothing is copied there.
    """
    # splitmix64 of a counter, because a generator of torch draws differently on each kind of device
    x = torch.arange(count, device=device) * _signed(0x9E3779B97F4A7C15) + _hash(seed, number)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> shift & (1 << 64 - shift) - 1)) * _signed(factor)
    return ((x ^ (x >> 31 & (1 << 33) - 1)) & (1 << 63) - 1) % videos


def _hash(*numbers: int) -> int:
    """A seed of 63 bits that depends on all the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _signed(x: int) -> int:
    return x - (1 << 64)


def sampled_scores(
    queries: torch.Tensor,
    videos: torch.Tensor,
    bank: KeyBank,
    drawn: torch.Tensor,
    composition: Composition,
    temperature: float = 0.07,
    sizes: Sequence[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """<q, k> / τ for the keys of a query's own video, and for drawn keys. All processes call it together.

    Args:
        drawn: the numbers of drawn videos, int64 [K], the same in all processes.
        queries, videos, bank, composition, temperature, sizes: see `bank_terms`.

    Returns:
        float [modalities, B, Q, P] and [modalities, B, Q, P, K], for the P modalities that a query is compared with.
    """
    own, start = len(videos), 0
    if world_size() > 1:
        sizes = gather_sizes(own, queries.device) if sizes is None else sizes
        videos, start = gather(videos, sizes), sum(sizes[: rank()])
    keys = bank.fetch(torch.cat([videos, drawn]))
    near, far = [], []
    for modality in range(len(queries)):
        compared, query = compared_with(composition, modality), queries[modality] / temperature
        near.append(torch.stack([torch.einsum("bqd,bd->bq", query, keys[m, start : start + own]) for m in compared], 2))
        far.append(torch.stack([query @ keys[m, len(videos) :].T for m in compared], 2))
    return torch.stack(near), torch.stack(far)


def sampled_terms(
    near: torch.Tensor, far: torch.Tensor, videos: torch.Tensor, drawn: torch.Tensor, denominator: str
) -> torch.Tensor:
    """The loss of each query, float [modalities, B, Q]: the softmax over its own video's keys and the drawn ones.

    Args:
        near, far: see `sampled_scores`.
        videos: the numbers of the queries' videos, int64 [B].
        drawn: the numbers of the drawn videos, int64 [K]; the query's own is no negative.
        denominator: see `loss_terms`.
    """
    own = (videos[:, None] == drawn)[:, None, None]
    every = torch.ones_like(near, dtype=torch.bool)
    return loss_terms(near, every, ~every, hide(far, own).flatten(3).logsumexp(-1), denominator)


def nce_normaliser(near: torch.Tensor, far: torch.Tensor, videos: int, total: int) -> torch.Tensor:
    """Z of the released NCE loss: the mean of exp of the first batch's scores times the number of videos, float
    [modalities, 1, 1, 1].

    Args:
        near, far: see `sampled_scores`.
        videos: the number of videos of the data.
        total: the number of the batch's videos in all processes.
    """
    sums = near.exp().sum((1, 2, 3)) + far.exp().sum((1, 2, 3, 4))
    scores = total * near.shape[2] * near.shape[3] * (1 + far.shape[-1])
    return (sum_over_processes(sums.detach()) * (videos / scores)).view(-1, 1, 1, 1)


def nce_terms(near: torch.Tensor, far: torch.Tensor, normaliser: torch.Tensor, videos: int) -> torch.Tensor:
    """The released NCE loss of each query, float [modalities, B, Q]; a drawn key of its own video is a negative too.

    Args:
        near, far: see `sampled_scores`.
        normaliser: Z, see `nce_normaliser`.
        videos: N, the number of videos of the data.

    Source: NPID, equations 5 and 7, with the constants of its released code.
    """
    noise = far.shape[-1] / videos
    positive, negative = near.exp() / normaliser, far.exp() / normaliser[..., None]
    found = (positive / (positive + noise + NCE_MARGIN)).log()
    rejected = (noise / (negative + noise + NCE_MARGIN)).log().sum(-1)
    return -(found + rejected).mean(-1)
