"""The contrast that GDT's released training loop computes (`contrast.form=released`), for its nine hypotheses.

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

View = tuple[int, int]
"""Levels of the time shift and of the reversal."""


class Term(NamedTuple):
    """How the views `x` and `y` are compared: "same", "distinct" or "invariant"."""

    relation: str
    x: View
    y: View


def released_terms(composition: Composition) -> list[Term]:
    """The terms of a hypothesis, in the order in which they add to one another's lists of negatives."""
    shift, reversal = composition.role("time_shift"), composition.role("reversal")
    shifts, directions = (2 if role else 1 for role in (shift, reversal))
    reversed_pairs = [((s, 0), (s, 1)) for s in range(shifts)] if reversal else []
    shifted_pairs = [((0, r), (1, r)) for r in range(directions)] if shift else []
    if not reversed_pairs and not shifted_pairs:
        return [Term("same", (0, 0), (0, 0))]
    terms = []
    for role, pairs in ((reversal, reversed_pairs), (shift, shifted_pairs)):
        if role == "invariant":
            terms.append(Term("same", *pairs[0]))
    for x, y in reversed_pairs:
        terms.append(Term("distinct", x, y) if reversal == "distinct" else Term("invariant", y, x))
    return terms + [Term(shift, x, y) for x, y in shifted_pairs]


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
    shifts, directions = (2 if composition.role(name) else 1 for name in ("time_shift", "reversal"))
    shape = (2, -1, shifts, directions, unit.shape[1])
    with torch.autocast(unit.device.type, enabled=False):
        queries, far = unit.view(shape), others.detach().view(2, len(others) // (2 * shifts * directions), *shape[2:])
        keys = queries.detach()
        lists = {(s, r): Counter({(s, r): 1}) for s in range(shifts) for r in range(directions)}
        terms = []
        for relation, x, y in released_terms(composition):
            if x != y:
                lists[x].update(lists[y])
            for query, other in dict.fromkeys([(x, y), (y, x)]):
                positive = other if relation == "invariant" else query
                near = [query, other] if relation == "distinct" else [positive]
                terms += [
                    _info_nce(
                        queries[modality][:, *query], keys[1 - modality], positive, near, far[1 - modality], lists[x],
                        temperature,
                    )
                    for modality in range(2)
                ]  # fmt: skip
        return torch.stack(terms).mean()


def _info_nce(
    query: torch.Tensor,
    keys: torch.Tensor,
    positive: View,
    near: list[View],
    far: torch.Tensor,
    counts: Counter[View],
    temperature: float,
) -> torch.Tensor:
    """Mean over the queries [B, D] of −log of the positive's share among this process's clips of the views `near`, of
    `keys` [B, shifts, directions, D], and those of other processes, `far` [N, …], each as often as `counts` says."""
    query = query / temperature
    scores = [query @ keys[:, *view].T for view in near]
    scores += [query @ far[:, *view].T + math.log(n) for view, n in counts.items()]
    return (torch.cat(scores, 1).logsumexp(1) - (query * keys[:, *positive]).sum(1)).mean()
