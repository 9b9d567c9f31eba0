"""Where in the frames a sound is, learnt by contrast: the similarity of a video and an audio clip is that of the
position of the frames that fits the audio best.

A clip has a map of T' moments of h x w positions, and its audio is one embedding. A sound has a source at every moment,
but a maximum over all moments would only train the easiest of them, and leave the heat maps of the others undefined.
So the similarity is the mean over moments of the maximum over positions, which for T' = 1 is the published one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

from ..core.collectives import gather, gather_sizes, rank, world_size
from ..core.transfer import to_device
from .gather import gather_with_grad
from .loss import normalise, widen

FORMS = ("max", "soft")

BLOCK = 1 << 25
"""Most similarities of positions that are computed at once: 134 MB, and as much for their gradient."""

FOREGROUND, BACKGROUND, SOFTNESS = 0.65, 0.4, 0.03
"""LVS: a position above the first similarity belongs to the sound's source, one below the second to the background;
the third is the width of the transitions."""


class Localised(NamedTuple):
    """The loss, a scalar; S of this process's M clips and all audio, float [M, N] without gradient, −∞ for other clips
    of the same video; and the column of each clip's own audio, int64 [M]."""

    loss: torch.Tensor
    similarities: torch.Tensor
    own: torch.Tensor


def localisation_loss(
    positions: torch.Tensor,
    audio: torch.Tensor,
    videos: torch.Tensor,
    temperature: float = 0.03,
    *,
    form: str = "max",
    sizes: Sequence[int] | None = None,
    block: int = BLOCK,
) -> Localised:
    """The loss of this process's clips against the audio of all processes. It is computed in float32 or wider.

    The form `max` has S(v, a) = mean over moments of max over positions of <v_u, a>, and both directions:

        L = ½ InfoNCE(a → v) + ½ InfoNCE(v → a), with the logits S / τ

    The form `soft` has the direction v → a alone, with the logits P / τ, N / τ and S / τ: P and N are the means of the
    own map over its sounding positions and over its background, S the means of the maps of other audio.

    Only the embeddings of the audio and the rows of S are exchanged, not the maps. Scale: as in `contrast.gather`, so
    that the mean over processes is the loss of the whole batch.

    Args:
        positions: unit embeddings of the positions of M clips, float [M, C, T', h, w], or means of such.
        audio: embeddings of their audio, float [M, C], not normalised.
        videos: numbers of their videos, int64 [M]. Clips of one video are no negatives of each other.
        temperature: τ.
        form: `max` or `soft`.
        sizes: the number of clips of each process; None: they are exchanged.
        block: most similarities of positions in memory at once.

    Raises:
        ValueError: shapes do not fit together, the form is unknown, or the temperature is not positive.

    Source: EZ-VSL (Mo & Morgado 2022, Eq. 3 to 5) for `max`, LVS (Chen et al. 2021, Eq. 2 to 5) for `soft`.
    """
    if positions.ndim != 5 or positions.shape[:2] != audio.shape or len(videos) != len(audio):
        raise ValueError(
            f"positions [M, C, T', h, w] need audio [M, C] and videos [M], not {list(positions.shape)}, "
            f"{list(audio.shape)} and {list(videos.shape)}"
        )
    if form not in FORMS:
        raise ValueError(f"form={form!r} is not one of {', '.join(FORMS)}")
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive")
    with torch.autocast(audio.device.type, enabled=False):
        rows, sound = as_rows(positions), normalise(audio)
        videos = to_device(videos, audio.device)
        sizes = gather_sizes(len(audio), audio.device) if sizes is None else list(sizes)
        start = sum(sizes[: rank()])
        together = world_size() > 1
        everything, numbers = (gather_with_grad(sound, sizes), gather(videos, sizes)) if together else (sound, videos)
        own = torch.arange(start, start + len(audio), device=audio.device)
        others_of_video = (videos[:, None] == numbers) & (own[:, None] != torch.arange(len(numbers), device=own.device))
        if form == "soft":
            similarities, loss = _soft(rows, sound, everything, others_of_video, own, temperature)
        else:
            similarities = best_similarities(rows, everything, block)
            logits = (similarities / temperature).masked_fill(others_of_video, -torch.inf)
            columns = gather_with_grad(logits, sizes) if together else logits
            to_video = columns[:, start : start + len(audio)].T
            loss = (F.cross_entropy(logits, own) + F.cross_entropy(to_video, own)) / 2
        scale = len(audio) * len(sizes) / sum(sizes)
        shown = similarities.detach().masked_fill(others_of_video, -torch.inf)
        return Localised(loss if scale == 1 else scale * loss, shown, own)


def as_rows(positions: torch.Tensor) -> torch.Tensor:
    """Maps [M, C, T', h, w] as embeddings of moments and positions, [M, T', h · w, C], in float32 or wider."""
    return widen(positions.flatten(3).permute(0, 2, 3, 1))


def best_similarities(positions: torch.Tensor, audio: torch.Tensor, block: int = BLOCK) -> torch.Tensor:
    """S: the mean over moments of the largest similarity of a position with the audio, [M, N].

    All M · N · T' · P similarities exist only `block` at a time, in the forward and in the backward pass, which keep
    the places of the maxima: 8 bytes for each of M · N · T'.

    Args:
        positions: unit embeddings or means of such, float [M, T', P, C].
        audio: unit embeddings, float [N, C].
        block: most similarities at once.
    """
    flat, (clips, moments, places) = positions.flatten(0, 2), positions.shape[:3]
    several = max(1, block // len(flat))
    parts = [(flat @ keys.T).view(clips, moments, places, -1).max(2).values.mean(1) for keys in audio.split(several)]
    return torch.cat(parts, 1)


def _soft(
    positions: torch.Tensor,
    audio: torch.Tensor,
    everything: torch.Tensor,
    others_of_video: torch.Tensor,
    own: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """S [M, N], where a clip's similarity with its own audio is the mean of its sounding positions, and LVS's loss."""
    heat = torch.einsum("mtpc,mc->mtp", positions, audio)
    foreground = ((heat - FOREGROUND) / SOFTNESS).sigmoid()
    background = ((BACKGROUND - heat) / SOFTNESS).sigmoid()
    positive, negative = ((w * heat).sum(2) / w.sum(2) for w in (foreground, background))  # [M, T'] each
    similarities = positions.mean((1, 2)) @ everything.T
    similarities = similarities.scatter(1, own[:, None], positive.mean(1, keepdim=True))
    logits = similarities.masked_fill(others_of_video, -torch.inf)
    logits = torch.cat([logits, negative.mean(1, keepdim=True)], 1) / temperature
    return similarities, F.cross_entropy(logits, own)
