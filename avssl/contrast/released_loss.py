"""The contrast that GDT's released training loop computes (`contrast.released=[loss]`), for its nine hypotheses.

It is a mean of terms. Each compares two views of the batch's videos, x and y (a view is a time shift and a direction
of time), in both directions between the modalities, and each query has one positive, of its own video:

    same       the positive is of the query's view; of this process, the negatives are the clips of that view
    distinct   the same, and the clips of the other view are negatives too
    invariant  the positive is of the other view; of this process, the negatives are the clips of that view

Other processes' clips are negatives by lists, one for each view. A term takes the list of x, after adding the list of y
to it. What is added stays, so that later terms may count a clip several times. No gradient flows through keys.

The composed form (`loss`) equals this for the hypotheses 1, 2 and 4, with `stop_gradient=keys`.

Source: Patrick et al., ICCV 2021, arXiv 2003.04298, and the values that its released loop computes.
"""

import math
from collections import Counter
from typing import NamedTuple

import torch

from .composition import Composition


class Term(NamedTuple):
    """How two views are compared: "same", "distinct" or "invariant". A view is its place among a video's clips."""

    relation: str
    x: int
    y: int


def released_terms(composition: Composition) -> list[Term]:
    """The terms of a hypothesis, in the order in which they add to one another's lists of negatives."""
    of_shift, of_reversal = composition.role("time_shift"), composition.role("reversal")
    shifts, directions = (range(2 if role else 1) for role in (of_shift, of_reversal))

    def view(shift: int, reversal: int) -> int:
        return shift * len(directions) + reversal

    reversed_pairs = [(view(s, 0), view(s, 1)) for s in shifts] if of_reversal else []
    shifted_pairs = [(view(0, r), view(1, r)) for r in directions] if of_shift else []
    if not reversed_pairs and not shifted_pairs:
        return [Term("same", 0, 0)]
    terms = []
    for role, pairs in ((of_reversal, reversed_pairs), (of_shift, shifted_pairs)):
        if role == "invariant":
            terms.append(Term("same", *pairs[0]))
    for x, y in reversed_pairs:
        terms.append(Term("distinct", x, y) if of_reversal == "distinct" else Term("invariant", y, x))
    return terms + [Term(of_shift, x, y) for x, y in shifted_pairs]


def released_loss(
    unit: torch.Tensor, others: torch.Tensor, composition: Composition, temperature: float = 0.07
) -> torch.Tensor:
    """The released contrast of this process's embeddings: a scalar.

    `unit` float [2 · B · V, D], of unit length, in the order of `Composition.codes`: the modalities, B videos of each,
    V views of each. `others` float [2 · N · V, D]: the same of the other processes' N videos, 0 of them where there is
    one process alone. Raises ValueError for a temperature that is not positive.
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
    """Mean over the queries [B, D], divided by the temperature, of −log of the positive's share among this process's
    clips of the views `near`, of `keys` [B, V, D], and those of other processes, `far` [N, V, D], each as often as
    `counts` says."""
    scores = [query @ keys[:, view].T for view in near]
    scores += [query @ far[:, view].T + math.log(times) for view, times in counts.items()]
    return (torch.cat(scores, 1).logsumexp(1) - (query * keys[:, positive]).sum(1)).mean()
