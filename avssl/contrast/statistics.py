"""Statistics of a batch of embeddings for the log."""

import torch

from .composition import Composition
from .keys import compared_with
from .loss import Index, Side, sides, sides_of_videos


@torch.no_grad()
def statistics(z: torch.Tensor, codes: torch.Tensor, composition: Composition, rows: int = 1024) -> dict[str, float]:
    """Statistics of the compared pairs of a batch. A mean over no pairs is NaN.

    Args:
        z: embeddings, float [M, D].
        codes: their codes, int64 [M, A].
        composition: decides which pairs are compared.
        rows: anchors computed at a time.

    Returns:
        `positive`, `negative`: mean cosine similarity of positive and of negative pairs.
        `alignment`: mean squared distance of positive pairs (Wang & Isola 2020, α = 2); lower is better.
        `uniformity`: log of the mean of exp(−2 · squared distance) over negative pairs (t = 2); lower is better.
        `retrieval`: fraction of the anchors with a positive nearer than every negative.
    """
    with torch.autocast(z.device.type, enabled=False):
        figures = _measures(sides(z, codes, composition), rows)
    return dict(zip(figures, torch.stack([*figures.values()]).tolist(), strict=True))


@torch.no_grad()
def measures(
    z: torch.Tensor, videos: torch.Tensor, composition: Composition, rows: int = 1024
) -> dict[str, torch.Tensor]:
    """`statistics` of the embeddings of the videos int64 [B], in the order of `Composition.codes`, as scalars on the
    device, float64, for which nothing waits."""
    with torch.autocast(z.device.type, enabled=False):
        return _measures(sides_of_videos(z, videos, composition), rows)


@torch.no_grad()
def measures_of_keys(
    queries: torch.Tensor, videos: torch.Tensor, keys: torch.Tensor, key_videos: torch.Tensor, composition: Composition
) -> dict[str, torch.Tensor]:
    """`measures` of unit queries, float [modalities, B, Q, D] of videos int64 [B], compared with one unit key of each
    video and modality, float [modalities, N, D] of the videos int64 [N]."""
    modalities, count, own = len(queries), queries.shape[1] * queries.shape[2], keys.shape[1]
    labels = videos[:, None].expand(-1, queries.shape[2]).flatten().repeat(modalities)
    nowhere = torch.full_like(labels, -1)  # no query is a key
    anchors = Side(queries.flatten(0, 2), labels, nowhere)
    places = torch.arange(modalities * own, device=keys.device)
    others = Side(keys.flatten(0, 1), key_videos.repeat(modalities), places)
    parts: list[tuple[Index, Index]] = [
        (slice(m * count, (m + 1) * count), slice(n * own, (n + 1) * own))
        for m in range(modalities)
        for n in compared_with(composition, m)
    ]
    return _measures((anchors, others, 0, parts), 1024)


def _measures(found: tuple[Side, Side, int, list[tuple[Index, Index]]], rows: int) -> dict[str, torch.Tensor]:
    anchors, keys, _, parts = found
    sums = torch.zeros(7, dtype=torch.float64, device=anchors.z.device)
    for part_rows, columns in parts:
        k = keys.part(columns)
        for i in range(0, len(anchors.place[part_rows]), rows):
            a = anchors.part(part_rows).part(slice(i, i + rows))
            similarity = a.z @ k.z.T
            same = a.label[:, None] == k.label
            positive = same & (a.place[:, None] != k.place)
            nearest_positive = similarity.masked_fill(~positive, -2).amax(1)
            nearest_negative = similarity.masked_fill(same, -2).amax(1)
            potential = torch.where(same, 0, (4 * similarity - 4).exp())  # squared distance = 2 − 2 · similarity
            sums += torch.stack(
                [
                    positive.sum(),
                    torch.where(positive, similarity, 0).sum(dtype=torch.float64),
                    (~same).sum(),
                    torch.where(same, 0, similarity).sum(dtype=torch.float64),
                    potential.sum(dtype=torch.float64),
                    (nearest_positive > nearest_negative).sum(),
                    positive.new_full((), len(nearest_positive), dtype=torch.int64),
                ]
            ).to(sums)
    positives, similar, negatives, dissimilar, potentials, hits, count = sums.unbind()
    positive = similar / positives
    return {
        "positive": positive,
        "negative": dissimilar / negatives,
        "alignment": 2 - 2 * positive,
        "uniformity": (potentials / negatives).log(),
        "retrieval": hits / count,
    }
