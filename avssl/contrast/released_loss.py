"""The contrast that GDT's released training loop computes (`contrast.released=[loss]`), for its nine hypotheses.

It is a mean of terms. Each term compares two views of the batch's videos, x and y (a view is a time shift and a
direction of time), in both directions between the modalities. Each query has one positive, from its own video:

    same       the positive has the query's view; the negatives from this process are the clips of that view
    distinct   as same, but the clips of the other view are negatives too
    invariant  the positive has the other view; the negatives from this process are the clips of that view

The negatives from other processes come from lists, one per view. A term adds the list of y to the list of x, and uses
the list of x. Additions stay, so later terms may count a clip several times. No gradient flows through keys.

For hypotheses 1, 2 and 4, the composed form (`loss`) with `stop_gradient=keys` equals this.

Source: Patrick et al., ICCV 2021, arXiv 2003.04298, and the values that its released loop computes.
"""

import math
from collections import Counter
from typing import NamedTuple

import torch

from .composition import Composition


class Term(NamedTuple):
    """A comparison of two views: "same", "distinct" or "invariant". A view is a number among a video's clips."""

    relation: str
    x: int
    y: int


def released_terms(composition: Composition) -> list[Term]:
    """The terms of a hypothesis. Their order matters, because each adds to the lists of negatives."""
    shift_role, reversal_role = composition.role("time_shift"), composition.role("reversal")
    shifts, directions = (range(2 if role else 1) for role in (shift_role, reversal_role))

    def view(shift: int, reversal: int) -> int:
        return shift * len(directions) + reversal

    reversed_pairs = [(view(s, 0), view(s, 1)) for s in shifts] if reversal_role else []
    shifted_pairs = [(view(0, r), view(1, r)) for r in directions] if shift_role else []
    if not reversed_pairs and not shifted_pairs:
        return [Term("same", 0, 0)]
    terms = []
    for role, pairs in ((reversal_role, reversed_pairs), (shift_role, shifted_pairs)):
        if role == "invariant":
            terms.append(Term("same", *pairs[0]))
    for x, y in reversed_pairs:
        terms.append(Term("distinct", x, y) if reversal_role == "distinct" else Term("invariant", y, x))
    return terms + [Term(shift_role, x, y) for x, y in shifted_pairs]


def released_loss(
    unit: torch.Tensor, others: torch.Tensor, composition: Composition, temperature: float = 0.07
) -> torch.Tensor:
    """The released contrastive loss of this process's embeddings, a scalar.

    Args:
        unit: embeddings of unit length, float [2 · B · V, D], in the order of `Composition.codes`: two modalities, B
            videos, V views.
        others: embeddings of the N videos of other processes in the same order, float [2 · N · V, D]; N is 0 in a
            single process.
        composition: one of the nine hypotheses.
        temperature: τ.

    Raises:
        ValueError: the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive")
    views, width = len(composition.plain), unit.shape[1]
    with torch.autocast(unit.device.type, enabled=False):
        queries = unit.view(2, -1, views, width)
        far = others.detach().view(2, len(others) // (2 * views), views, width)
        keys = queries.detach()
        lists = [Counter({view: 1}) for view in range(views)]
        terms = []
        for relation, x, y in released_terms(composition):
            if x != y:
                lists[x].update(lists[y])
            for query, other in dict.fromkeys([(x, y), (y, x)]):
                positive = other if relation == "invariant" else query
                near = [query, other] if relation == "distinct" else [positive]
                for modality in range(2):
                    q, k, f = queries[modality][:, query], keys[1 - modality], far[1 - modality]
                    terms.append(_info_nce(q / temperature, k, positive, near, f, lists[x]))
        return torch.stack(terms).mean()


def _info_nce(
    query: torch.Tensor, keys: torch.Tensor, positive: int, near: list[int], far: torch.Tensor, counts: Counter[int]
) -> torch.Tensor:
    """The InfoNCE loss, a mean over queries.

    Args:
        query: float [B, D], divided by the temperature.
        keys: this process's clips, float [B, V, D].
        positive: the view of the positives.
        near: the views of this process's clips in the denominator.
        far: the clips of other processes, float [N, V, D].
        counts: how often each view of `far` counts in the denominator.
    """
    scores = [query @ keys[:, view].T for view in near]
    scores += [query @ far[:, view].T + math.log(times) for view, times in counts.items()]
    return (torch.cat(scores, 1).logsumexp(1) - (query * keys[:, positive]).sum(1)).mean()
