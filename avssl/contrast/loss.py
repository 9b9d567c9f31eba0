"""The composed contrastive loss (GDT §3, its generalised contrast).

    loss = mean over T of   1/|P(T)| Σ_{T' in P(T)}  −log  exp(<z,z'>/τ) / Σ_{T''} w(T,T'') exp(<z,z''>/τ)

Two facts keep it cheap. The compared pairs (w) are whole blocks of the similarity matrix, one for each modality, so
that w is never a mask. And with all compared pairs in the denominator the positives enter linearly, as
<z, mean of the positives>, so that c is no mask either.

For the hypotheses 1, 2 and 4 GDT's released code computes this formula over the global batch, without gradient through
the keys (`stop_gradient: keys`). For the hypotheses 3 and 5 to 9 it computes something else: `released`, and
docs/contrast.md, which says what.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from .composition import Composition

Index = slice | torch.Tensor


class Side(NamedTuple):
    """One side of a comparison: embeddings float [n, D], and their label and place in the batch, int64 [n] each.

    c(T, T') = 1 where labels are equal; T is T' where places are.
    """

    z: torch.Tensor
    label: torch.Tensor
    place: torch.Tensor

    def part(self, index: Index) -> "Side":
        return Side(self.z[index], self.label[index], self.place[index])

    def split(self, size: int) -> list["Side"]:
        return [Side(*part) for part in zip(*(x.split(size) for x in self), strict=True)]


def contrastive_loss(
    z: torch.Tensor,
    codes: torch.Tensor,
    composition: Composition,
    temperature: float = 0.07,
    *,
    keys: torch.Tensor | None = None,
    key_codes: torch.Tensor | None = None,
    offset: int | None = 0,
    block: int = 0,
) -> torch.Tensor:
    """Composed contrast of embeddings `z`, float [M, D], with `codes`, int64 [M, A] of `composition.columns`: a scalar.

    Embeddings need not be of unit length. The loss is computed in float32 or wider, whatever autocast says. Codes are
    best left on the CPU: a GPU would have to be waited for to read them.

    The anchors z are compared with `keys`, float [N, D] with `key_codes` int64 [N, A]; by default with one another.
    They are the keys `offset` … `offset` + M − 1, each never compared with itself, or none of them (None). With
    `block` > 0, keys are taken that many at a time and recomputed in the backward pass: memory is O(M · block) instead
    of O(M · N), for blocks of √N or more. An anchor without a positive, which `Composition` rules out for whole
    batches, counts 0.

    Raises ValueError for shapes that do not fit together, a temperature that is not positive, or a composition of
    another form (`global_contrastive_loss` takes both).
    """
    if composition.form != "composed":
        raise ValueError(f"a composition of the form {composition.form}: call global_contrastive_loss")
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive")
    with torch.autocast(z.device.type, enabled=False):
        anchors, others, labels, parts = sides(z, codes, composition, keys, key_codes, offset)
        if composition.stop_gradient == "keys":
            others = others._replace(z=others.z.detach())
        pairs = [(anchors.part(rows), others.part(columns)) for rows, columns in parts]
        log_sums: list[torch.Tensor | None] = [None] * len(parts)
        if others is anchors and composition.compare == "cross_modal" and len(parts) == 2:
            a, k = pairs[0]
            pairs[1] = (k, a)
            if composition.denominator == "all" and not block:  # each similarity serves both its ends
                log_sums = [*_log_sum_exp(a.z / temperature @ k.z.T, 1 / temperature, (1, 0))]
        total = anchors.z.new_zeros(())
        for (a, k), log_sum in zip(pairs, log_sums, strict=True):
            total = total + _anchor_terms(a, k, labels, composition, temperature, log_sum, block).sum()
        return total / max(1, len(z))


def _anchor_terms(
    a: Side,
    k: Side,
    labels: int,
    composition: Composition,
    temperature: float,
    log_sum: torch.Tensor | None,
    block: int,
) -> torch.Tensor:
    """The loss of each anchor, [n], compared with all keys but itself.

    `log_sum` [n]: the log of the denominator where it is known already.
    """
    meets_itself = composition.compare != "cross_modal"
    top = 1 / temperature

    def score(keys: Side) -> torch.Tensor:
        return a.z / temperature @ keys.z.T

    def log_sum_of_all(keys: Side) -> torch.Tensor:
        scores = score(keys)
        if meets_itself:
            scores = _hide(scores, a.place[:, None] == keys.place)
        return _log_sum_exp(scores, top, (1,))[0]

    def log_sum_of_negatives(keys: Side) -> torch.Tensor:
        return _log_sum_exp(_hide(score(keys), a.label[:, None] == keys.label), top, (1,))[0]

    count, total = _positives(a, k, labels, meets_itself)
    if composition.denominator == "all":
        log_sum = _sweep(log_sum_of_all, k, block).logsumexp(0) if log_sum is None else log_sum
        terms = log_sum - (a.z * total).sum(1) / (temperature * count.clamp(min=1))
    else:
        log_negatives = _sweep(log_sum_of_negatives, k, block).logsumexp(0)

        def positive_terms(keys: Side) -> torch.Tensor:
            # −log e^s / (e^s + Σ negatives) = softplus(log Σ negatives − s)
            positive = (a.label[:, None] == keys.label) & (a.place[:, None] != keys.place)
            return torch.where(positive, F.softplus(log_negatives[:, None] - score(keys)), 0).sum(1)

        terms = _sweep(positive_terms, k, block).sum(0) / count.clamp(min=1)
    return torch.where(count > 0, terms, 0)


def _log_sum_exp(scores: torch.Tensor, top: float, dims: tuple[int, ...]) -> list[torch.Tensor]:
    """log Σ exp over each of `dims` of scores in [−top, top], or hidden. Overwrites `scores`."""
    if top > 40:  # e^(−2 top) would not be a normal float32
        return [scores.logsumexp(dim) for dim in dims]
    weights = scores.sub_(top).exp_()  # no score is above top: one exponential serves all dims, and needs no maximum
    return [weights.sum(dim).clamp(min=torch.finfo(scores.dtype).tiny).log() + top for dim in dims]


def _hide(scores: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    # not −inf: an anchor with nothing to be compared with would give NaN
    return scores.masked_fill_(pairs, torch.finfo(scores.dtype).min / 2)


def _sweep(term: Callable[[Side], torch.Tensor], keys: Side, block: int) -> torch.Tensor:
    """`term` [n] of each block of keys, float [blocks, n]; nothing of a block is kept for the backward pass."""
    if not block or block >= len(keys.z):
        return term(keys)[None]
    tiles = keys.split(block)
    return torch.stack([checkpoint(term, tile, use_reentrant=False, preserve_rng_state=False) for tile in tiles])


def _positives(a: Side, k: Side, labels: int, meets_itself: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """|P(T)|, float [n], and the sum of the positives' embeddings, float [n, D], in O((n + N) · D)."""
    count = k.z.new_zeros(labels).index_add(0, k.label, k.z.new_ones(len(k.label))).index_select(0, a.label)
    total = k.z.new_zeros(labels, k.z.shape[1]).index_add(0, k.label, k.z).index_select(0, a.label)
    if meets_itself:
        at = torch.searchsorted(k.place, a.place).clamp(max=len(k.place) - 1)
        itself = (k.place[at] == a.place).to(count)
        count, total = count - itself, total - k.z[at] * itself[:, None]
    return count, total


SHORT = 0.01
"""Rows shorter than this are divided by it instead of by their length."""


def widen(z: torch.Tensor) -> torch.Tensor:
    """In float32 or wider."""
    return z if z.dtype in (torch.float32, torch.float64) else z.float()


def normalise(z: torch.Tensor) -> torch.Tensor:
    """Rows of unit length, in float32 or wider; those shorter than `SHORT` are divided by that.

    Dividing by the length multiplies gradients by its inverse, without bound towards zero; so they are multiplied by
    1 / `SHORT` at most. A row of zeros stays, and one whose length overflows becomes zeros. Not to be done twice: it
    would lengthen short rows again.
    """
    return F.normalize(widen(z), dim=-1, eps=SHORT)


def fold(codes: torch.Tensor, composition: Composition) -> tuple[torch.Tensor, int]:
    """One label for each distinct combination of the distinct axes' codes: int64 [M] in 0 … n − 1, and n.

    c(T, T') = 1 where labels are equal: the codes of invariant axes merge.
    """
    label, count = codes.new_zeros(len(codes)), 1
    for column in composition.distinct_columns:
        values, inverse = codes[:, column].unique(return_inverse=True)
        label, count = inverse + label * len(values), len(values) * count
        if count > len(codes):
            values, label = label.unique(return_inverse=True)
            count = len(values)
    return label, count


def compared(codes: torch.Tensor, key_codes: torch.Tensor, composition: Composition) -> list[tuple[Index, Index]]:
    """The blocks of the similarity matrix where w = 1: (rows of anchors, rows of keys), ascending, none empty."""
    if composition.compare == "all":
        return [(slice(0, len(codes)), slice(0, len(key_codes)))] if len(codes) and len(key_codes) else []
    parts = []
    modality, key_modality = codes[:, 0], key_codes[:, 0]
    for value in modality.unique().tolist():
        other = composition.compare == "cross_modal"
        rows, columns = modality == value, (key_modality != value) if other else (key_modality == value)
        if columns.any():
            parts.append((_index(rows), _index(columns)))
    return parts


def _index(mask: torch.Tensor) -> Index:
    """The places where `mask` [n] is set: a slice where they are in a row, which copies nothing."""
    places = mask.nonzero().squeeze(1)
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places


def sides(
    z: torch.Tensor,
    codes: torch.Tensor,
    composition: Composition,
    keys: torch.Tensor | None = None,
    key_codes: torch.Tensor | None = None,
    offset: int | None = 0,
) -> tuple[Side, Side, int, list[tuple[Index, Index]]]:
    """Anchors, keys, the number of labels, and the parts that are compared. Arguments as for `contrastive_loss`."""
    if (keys is None) != (key_codes is None):
        raise ValueError("keys and key_codes go together")
    for vectors, rows in ((z, codes), (z if keys is None else keys, codes if key_codes is None else key_codes)):
        wanted = (len(vectors), len(composition.columns))
        if vectors.ndim != 2 or tuple(rows.shape) != wanted:
            raise ValueError(f"embeddings {list(vectors.shape)} need codes {list(wanted)}, not {list(rows.shape)}")
    codes = codes.cpu()
    if keys is None or key_codes is None:
        label, labels = fold(codes, composition)
        side = Side(normalise(z), label.to(z.device), torch.arange(len(z), device=z.device))
        return side, side, labels, compared(codes, codes, composition)
    key_codes = key_codes.cpu()
    if offset is not None and not 0 <= offset <= len(keys) - len(z):
        raise ValueError(f"anchors {offset} to {offset + len(z) - 1} are not among {len(keys)} keys")
    label, labels = fold(torch.cat([codes, key_codes]), composition)
    place = torch.arange(len(z), device=z.device) + (len(keys) if offset is None else offset)
    anchors = Side(normalise(z), label[: len(z)].to(z.device), place)
    key_place = torch.arange(len(keys), device=z.device)
    others = Side(normalise(keys), label[len(z) :].to(z.device), key_place)
    return anchors, others, labels, compared(codes, key_codes, composition)
