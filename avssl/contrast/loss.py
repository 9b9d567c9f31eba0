"""The composed contrastive loss (the generalised contrast of GDT §3).

    loss = mean over T of   1/|P(T)| Σ_{T' in P(T)}  −log  exp(<z,z'>/τ) / Σ_{T''} w(T,T'') exp(<z,z''>/τ)

Two facts keep it cheap. The compared pairs (w) are whole blocks of the similarity matrix, one per modality, so w needs
no mask. With all compared pairs in the denominator, the positives enter linearly, as <z, mean of the positives>, so c
needs no mask either.

For hypotheses 1, 2 and 4, GDT's released code computes this formula over the global batch, without gradient through
the keys (`stop_gradient: keys`). For hypotheses 3 and 5 to 9 it computes another loss, which is in `released_loss`;
docs/guides/contrast.md describes it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ..core.transfer import constant, to_device
from .composition import Composition

Index = slice | torch.Tensor


class Side(NamedTuple):
    """One side of a comparison: embeddings, float [n, D], and their labels and positions in the batch, int64 [n] each.

    c(T, T') = 1 if the labels are equal. T and T' are the same clip if the positions are equal.
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
    """The composed contrastive loss of embeddings, a scalar (GDT, Patrick et al., ICCV 2021, §3).

    It is computed in float32 or wider, even under autocast. No anchor is compared with itself. An anchor without a
    positive, which `Composition` rules out for whole batches, contributes 0.

    Args:
        z: the anchors, float [M, D], not normalised.
        codes: their codes, int64 [M, A], with the columns `composition.columns`. Keep them on the CPU, because reading
            them from a GPU would wait for it.
        composition: decides which pairs are compared.
        temperature: τ.
        keys: the embeddings that the anchors are compared with, float [N, D]; by default the anchors.
        key_codes: their codes, int64 [N, A].
        offset: the anchors are the keys `offset` … `offset` + M − 1; None if they are not among the keys.
        block: if above 0, this many keys are compared at a time, and again in the backward pass. Memory is then
            O(M · block) instead of O(M · N), for blocks of √N or more.

    Raises:
        ValueError: shapes do not fit together, the temperature is not positive, or the composition has another form
            (`global_contrastive_loss` accepts both).
    """
    if composition.form != "composed":
        raise ValueError(f"the composition has the form {composition.form}: call global_contrastive_loss")
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive")
    with torch.autocast(z.device.type, enabled=False):
        return loss_of_sides(*sides(z, codes, composition, keys, key_codes, offset), composition, temperature, block)


def loss_of_sides(
    anchors: Side,
    others: Side,
    labels: int,
    parts: list[tuple[Index, Index]],
    composition: Composition,
    temperature: float,
    block: int,
) -> torch.Tensor:
    """The loss of `contrastive_loss` for what `sides` returns, outside of autocast."""
    if composition.stop_gradient == "keys":
        others = others._replace(z=others.z.detach())
    pairs = [(anchors.part(rows), others.part(columns)) for rows, columns in parts]
    log_sums: list[torch.Tensor | None] = [None] * len(parts)
    if others is anchors and composition.compare == "cross_modal" and len(parts) == 2:
        a, k = pairs[0]
        pairs[1] = (k, a)
        if composition.denominator == "all" and not block:  # each similarity is used in both directions
            log_sums = [*_log_sum_exp(a.z / temperature @ k.z.T, 1 / temperature, (1, 0))]
    total = anchors.z.new_zeros(())
    for (a, k), log_sum in zip(pairs, log_sums, strict=True):
        total = total + _anchor_terms(a, k, labels, composition, temperature, log_sum, block).sum()
    return total / max(1, len(anchors.z))


def _anchor_terms(
    a: Side,
    k: Side,
    labels: int,
    composition: Composition,
    temperature: float,
    log_sum: torch.Tensor | None,
    block: int,
) -> torch.Tensor:
    """The loss of each anchor, [n], compared with all keys except itself.

    `log_sum` [n] is the logarithm of the denominator, if it is already computed.
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
    """log Σ exp over each of `dims` of scores, which are in [−top, top] or hidden. It overwrites `scores`."""
    if top > 40:  # e^(−2 top) would not be a normal float32
        return [scores.logsumexp(dim) for dim in dims]
    weights = scores.sub_(top).exp_()  # no score is above top, so that one exponential without a maximum does for all
    return [weights.sum(dim).clamp(min=torch.finfo(scores.dtype).tiny).log() + top for dim in dims]


def _hide(scores: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    # not −inf, which would give NaN for an anchor that is compared to nothing
    return scores.masked_fill_(pairs, torch.finfo(scores.dtype).min / 2)


def _sweep(term: Callable[[Side], torch.Tensor], keys: Side, block: int) -> torch.Tensor:
    """`term` [n] of each block of keys, float [blocks, n]. The backward pass recomputes each block."""
    if not block or block >= len(keys.z):
        return term(keys)[None]
    tiles = keys.split(block)
    return torch.stack([checkpoint(term, tile, use_reentrant=False, preserve_rng_state=False) for tile in tiles])


def _positives(a: Side, k: Side, labels: int, meets_itself: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """|P(T)|, float [n], and the sum of the positives' embeddings, float [n, D], in O((n + N) · D)."""
    count = k.z.new_zeros(labels).index_add(0, k.label, k.z.new_ones(len(k.label))).index_select(0, a.label)
    total = k.z.new_zeros(labels, k.z.shape[1]).index_add(0, k.label, k.z).index_select(0, a.label)
    if meets_itself:
        row = torch.searchsorted(k.place, a.place).clamp(max=len(k.place) - 1)
        itself = (k.place[row] == a.place).to(count)
        count, total = count - itself, total - k.z[row] * itself[:, None]
    return count, total


MIN_LENGTH = 0.01
"""Rows shorter than this are divided by it instead of by their length."""


def widen(z: torch.Tensor) -> torch.Tensor:
    """A tensor in float32 or wider."""
    return z if z.dtype in (torch.float32, torch.float64) else z.float()


def normalise(z: torch.Tensor) -> torch.Tensor:
    """Scale rows to unit length, in float32 or wider; rows shorter than `MIN_LENGTH` are divided by that.

    Division by the length multiplies gradients by its inverse, which is unbounded near zero; with `MIN_LENGTH`, the
    factor is at most 1 / `MIN_LENGTH`. A row of zeros stays zero, and a row whose length overflows becomes zeros. Do
    not apply this twice, because it would lengthen short rows again.
    """
    return F.normalize(widen(z), dim=-1, eps=MIN_LENGTH)


def fold(codes: torch.Tensor, composition: Composition) -> tuple[torch.Tensor, int]:
    """Labels, int64 [M] in 0 … n − 1, for the combinations of the distinct axes' codes; and n.

    c(T, T') = 1 if labels are equal; the codes of invariant axes have no effect.
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
    """The blocks of the similarity matrix where w = 1: (rows of anchors, rows of keys), ascending; none is empty."""
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
    """The positions where `mask` [n] is set; as a slice if they are consecutive, which copies nothing."""
    places = mask.nonzero().squeeze(1)
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places


def on_device(parts: list[tuple[Index, Index]], device: torch.device) -> list[tuple[Index, Index]]:
    """The parts of `compared`, with positions on the device, because indexing with others waits for it."""

    def moved(index: Index) -> Index:
        return index if isinstance(index, slice) else constant(tuple(index.tolist()), device)

    return [(moved(rows), moved(columns)) for rows, columns in parts]


def sides(
    z: torch.Tensor,
    codes: torch.Tensor,
    composition: Composition,
    keys: torch.Tensor | None = None,
    key_codes: torch.Tensor | None = None,
    offset: int | None = 0,
) -> tuple[Side, Side, int, list[tuple[Index, Index]]]:
    """Anchors, keys, the number of labels, and the blocks to compare. Arguments as for `contrastive_loss`."""
    if (keys is None) != (key_codes is None):
        raise ValueError("keys and key_codes must be given together")
    for vectors, rows in ((z, codes), (z if keys is None else keys, codes if key_codes is None else key_codes)):
        needed = (len(vectors), len(composition.columns))
        if vectors.ndim != 2 or tuple(rows.shape) != needed:
            raise ValueError(f"embeddings {list(vectors.shape)} need codes {list(needed)}, not {list(rows.shape)}")
    codes = codes.cpu()
    if keys is None or key_codes is None:
        label, labels = fold(codes, composition)
        side = Side(normalise(z), to_device(label, z.device), torch.arange(len(z), device=z.device))
        return side, side, labels, on_device(compared(codes, codes, composition), z.device)
    key_codes = key_codes.cpu()
    if offset is not None and not 0 <= offset <= len(keys) - len(z):
        raise ValueError(f"anchors {offset} to {offset + len(z) - 1} are not among {len(keys)} keys")
    label, labels = fold(torch.cat([codes, key_codes]), composition)
    place = torch.arange(len(z), device=z.device) + (len(keys) if offset is None else offset)
    anchors = Side(normalise(z), to_device(label[: len(z)], z.device), place)
    key_place = torch.arange(len(keys), device=z.device)
    others = Side(normalise(keys), to_device(label[len(z) :], z.device), key_place)
    return anchors, others, labels, on_device(compared(codes, key_codes, composition), z.device)


def sides_of_videos(
    z: torch.Tensor, videos: torch.Tensor, composition: Composition
) -> tuple[Side, Side, int, list[tuple[Index, Index]]]:
    """What `sides` returns for a batch that is compared with itself, without a copy to the device.

    Args:
        z: embeddings, float [M, D], in the order of `Composition.codes`.
        videos: the numbers of the videos on the device of `z`, int64 [B]; equal numbers are the same sample.
        composition: decides which pairs are compared.
    """
    label, labels = labels_of_videos(videos, composition)
    side = Side(normalise(z), label.flatten(), torch.arange(len(z), device=z.device))
    return side, side, labels, on_device(parts_of_videos(len(videos), len(videos), composition), z.device)


def parts_of_videos(own: int, total: int, composition: Composition, small: int = 0) -> list[tuple[Index, Index]]:
    """`compared` for anchors of `own` videos and keys of `total`, both in the order of `Composition.codes`.

    With `small` above 0, the anchors are this many small clips of each video and modality instead.
    """
    modality, views = torch.arange(len(composition.modalities))[:, None], len(composition.plain)
    anchors, keys = (modality.repeat_interleave(rows, 0) for rows in (own * (small or views), total * views))
    return compared(anchors, keys, composition)


def side_of_small(small: torch.Tensor, anchors: Side, videos: int, composition: Composition) -> Side:
    """The small clips of multi-crop as anchors: they have the codes of the first clip of their video, at level 0 of
    every axis, and are not among the keys.

    Args:
        small: their embeddings, float [modalities · B · M, D], nested as modality, video, clip.
        anchors: the embeddings of the same videos in the order of `Composition.codes`.
        videos: B.
        composition: decides which pairs are compared.
    """
    modalities, views = len(composition.modalities), len(composition.plain)
    first = anchors.label.view(modalities, videos, views)[:, :, :1]
    label = first.expand(-1, -1, len(small) // (modalities * videos)).flatten()
    place = torch.arange(len(small), device=small.device).neg_().sub_(1)  # the keys have places from 0
    return Side(normalise(small), label, place)


def labels_of_videos(videos: torch.Tensor, composition: Composition) -> tuple[torch.Tensor, int]:
    """`fold` of all embeddings of the videos int64 [B], as [modalities, B, views] on their device; and the number of
    labels, or more. Only the videos are known to the device alone; the rest follows from the composition."""
    label, labels = labels_of_clips(composition)
    table = constant(label, videos.device).view(len(composition.modalities), 1, -1)
    if composition.role("sample") != "distinct":
        return table.expand(-1, len(videos), -1), labels
    return table + labels * _ranked(videos)[:, None], labels * len(videos)


def labels_of_clips(composition: Composition) -> tuple[tuple[int, ...], int]:
    """`fold` of the embeddings of one video."""
    label, labels = fold(composition.codes(torch.zeros(1, dtype=torch.int64)), composition)
    return tuple(label.tolist()), labels


def _ranked(values: torch.Tensor) -> torch.Tensor:
    """The rank of each value among the distinct ones, int64 [n], as `unique` returns it. `unique` would wait for the
    number of distinct values."""
    ordered, order = values.sort(stable=True)
    changes = torch.zeros_like(ordered)
    changes[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(order).scatter_(0, order, changes.cumsum(0))
