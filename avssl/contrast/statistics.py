"""What to log of a batch of embeddings beside the loss."""

import torch

from .composition import Composition
from .loss import sides


@torch.no_grad()
def statistics(z: torch.Tensor, codes: torch.Tensor, composition: Composition, rows: int = 1024) -> dict[str, float]:
    """Of the compared pairs of a batch, embeddings float [M, D] with codes int64 [M, A], `rows` anchors at a time.

    `positive`, `negative`: mean similarity (cosine) of positive and of negative pairs.
    `alignment`: mean squared distance of positive pairs (Wang & Isola 2020, α = 2); lower is better.
    `uniformity`: log of the mean of exp(−2 · squared distance) over negative pairs (t = 2); lower is better.
    `retrieval`: part of the anchors that have a positive nearer than every negative.
    A mean over no pairs is NaN.
    """
    with torch.autocast(z.device.type, enabled=False):
        return _statistics(z, codes, composition, rows)


def _statistics(z: torch.Tensor, codes: torch.Tensor, composition: Composition, rows: int) -> dict[str, float]:
    anchors, keys, _, parts = sides(z, codes, composition)
    sums = torch.zeros(7, dtype=torch.float64, device=z.device)
    for part_rows, columns in parts:
        k = keys.part(columns)
        for i in range(0, len(anchors.place[part_rows]), rows):
            a = anchors.part(part_rows).part(slice(i, i + rows))
            similarity = a.z @ k.z.T
            same = a.label[:, None] == k.label
            positive = same & (a.place[:, None] != k.place)
            nearest = similarity.masked_fill(~positive, -2).amax(1)
            foe = similarity.masked_fill(same, -2).amax(1)
            potential = torch.where(same, 0, (4 * similarity - 4).exp())  # squared distance = 2 − 2 · similarity
            sums += torch.stack(
                [
                    positive.sum(),
                    torch.where(positive, similarity, 0).sum(dtype=torch.float64),
                    (~same).sum(),
                    torch.where(same, 0, similarity).sum(dtype=torch.float64),
                    potential.sum(dtype=torch.float64),
                    (nearest > foe).sum(),
                    torch.tensor(len(nearest), device=z.device),
                ]
            ).to(sums)
    positives, similar, negatives, dissimilar, potentials, hits, count = sums.unbind()
    positive = similar / positives
    found = {
        "positive": positive,
        "negative": dissimilar / negatives,
        "alignment": 2 - 2 * positive,
        "uniformity": (potentials / negatives).log(),
        "retrieval": hits / count,
    }
    return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))
