"""Contrast with keys that outlive a batch (`contrast.keys=queue` or `bank`): which pairs count, and the loss of them.

A query is compared with the keys of its own video, which are its positives and its distinct negatives, and with the
stored keys of other videos, which are all negatives. Keys have no gradient.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ..core.transfer import constant
from .composition import Composition

NOTHING = -1
"""In place of a video's number: the place has no key."""


MOST_ENTRY = 1.01
"""The largest entry of a vector of unit length, with room for its rounding."""


def are_unit(x: torch.Tensor) -> bool:
    """Whether the entries may be those of unit vectors or of zeros: of a checkpoint, they may be anything."""
    return x.is_floating_point() and bool((x.abs() <= MOST_ENTRY).all())  # False for NaN


def compared_with(composition: Composition, modality: int) -> list[int]:
    """The numbers of the modalities whose keys the queries of a modality are compared with."""
    modalities = range(len(composition.modalities))
    if composition.compare == "all":
        return [*modalities]
    return [other for other in modalities if (other == modality) == (composition.compare == "within_modal")]


def pairs_of_video(composition: Composition, small: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Which keys of a query's own video are its positives (c = w = 1), and which are its negatives (c = 0, w = 1).

    A clip's own key is neither. Small views have the codes of level 0 of every axis, and no key of their own.

    Args:
        composition: decides which pairs are compared.
        small: S, the number of small views of a video in each modality.
        device: where the masks are needed.

    Returns:
        Two masks, bool [modalities, V + S, modalities · V], for V main clips; keys are ordered as modality, clip.
    """
    modalities, first = range(len(composition.modalities)), (0,) * len(composition.views)
    views = [*product(*(range(axis.levels) for axis in composition.views))]
    distinct = composition.distinct_columns

    def label(modality: int, view: tuple[int, ...]) -> list[int]:
        codes = (modality, 0, *view)
        return [codes[column] for column in distinct]

    table = []
    for modality in modalities:
        for number, view in enumerate([*views, *[first] * small]):
            for other, key in product(modalities, range(len(views))):
                if other not in compared_with(composition, modality) or (other, key) == (modality, number):
                    table.append(0)
                else:
                    table.append(1 if label(modality, view) == label(other, views[key]) else 2)
    relation = constant(tuple(table), device).view(len(modalities), len(views) + small, -1)
    return relation == 1, relation == 2


def log_sum_of_others(
    queries: torch.Tensor,
    videos: torch.Tensor,
    keys: torch.Tensor,
    key_videos: torch.Tensor,
    temperature: float,
    block: int = 0,
) -> torch.Tensor:
    """log Σ exp(<q, k> / τ) over the keys of other videos, float [n]; about −10³⁸ for a query without any.

    Args:
        queries: unit queries, float [n, D].
        videos: the numbers of their videos, int64 [n].
        keys: unit keys, float [K, D].
        key_videos: the numbers of their videos, int64 [K]; `NOTHING` for a place without a key.
        temperature: τ.
        block: if above 0, this many keys are compared at a time, and again in the backward pass.
    """

    def of(keys: torch.Tensor, key_videos: torch.Tensor) -> torch.Tensor:
        hidden = (videos[:, None] == key_videos) | (key_videos == NOTHING)
        return hide(queries / temperature @ keys.T, hidden).logsumexp(1)

    if not block or block >= len(keys):
        return of(keys, key_videos)
    tiles = zip(keys.split(block), key_videos.split(block), strict=True)
    parts = [checkpoint(of, *tile, use_reentrant=False, preserve_rng_state=False) for tile in tiles]
    return torch.stack(parts).logsumexp(0)


def loss_terms(
    scores: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, others: torch.Tensor, denominator: str
) -> torch.Tensor:
    """The loss of each query, a mean over its positives (GDT §3; MoCo eq. 1 for one positive), float […].

    Args:
        scores: <q, k> / τ for the keys of the query's video, float […, P].
        positive: which of these are positives, bool […, P]; at least one.
        negative: which of these are negatives, bool […, P].
        others: log Σ exp of the scores with the keys of other videos, float […].
        denominator: "all", or "without_positives", which leaves out a positive's fellow positives.
    """
    count = positive.sum(-1).clamp(min=1)
    if denominator == "all":
        near = hide(scores, ~(positive | negative)).logsumexp(-1)
        return torch.logaddexp(near, others) - torch.where(positive, scores, 0).sum(-1) / count
    against = torch.logaddexp(hide(scores, ~negative).logsumexp(-1), others)
    # −log e^s / (e^s + Σ negatives) = softplus(log Σ negatives − s)
    return torch.where(positive, F.softplus(against[..., None] - scores), 0).sum(-1) / count


def hide(scores: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Scores in which the `pairs` have no weight."""
    # not −inf, which would give NaN for a query that is compared to nothing
    return scores.masked_fill(pairs, torch.finfo(scores.dtype).min / 4)
