"""Which cluster of one modality is which of the other: before the first labelling, for `sharing=per_modality` (SeLaVi
§3.3), and wherever two labellings that were numbered apart are joined (XDC)."""

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment


def align(p_video: torch.Tensor, p_audio: torch.Tensor) -> torch.Tensor:
    """The permutation π of the sound's clusters with the highest expected agreement Σ_n Σ_k p_v,nk p_a,nπ(k).

    Probabilities float [N, K] of each → int64 [K]: cluster k of the video is cluster π[k] of the sound. Exact: a
    linear assignment on the K×K agreement.
    """
    return best_permutation(agreement(p_video, p_audio))


def agreement(p_video: torch.Tensor, p_audio: torch.Tensor) -> torch.Tensor:
    """Σ_n p_v,ni p_a,nj, float64 [K, K], of probabilities [N, K]: a sum over blocks of videos, and over processes."""
    return p_video.double().T @ p_audio.double()


def best_permutation(agreement: torch.Tensor) -> torch.Tensor:
    """int64 [K]: π that maximises Σ_k agreement[k, π(k)]."""
    _, columns = linear_sum_assignment(agreement.cpu().numpy(), maximize=True)
    return torch.from_numpy(columns)


def common_numbering(
    first: torch.Tensor,
    second: torch.Tensor,
    clusters: int,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> torch.Tensor:
    """Which clusters of a second labelling are those of a first, when each was numbered on its own.

    Args:
        first, second: int [N, H], labels of the same videos by H heads; -1 where a video has none.
        clusters: K.
        all_reduce: sums a tensor over the processes that hold some of the videos each.

    Returns:
        int64 [H, K]: cluster k of the first is cluster π[h, k] of the second, for as many videos as possible (a linear
        assignment). Of all best π it is the one that keeps most numbers: two copies of one labelling give 0 … K − 1.
    """
    found = torch.arange(clusters).repeat(first.shape[1], 1)
    for head in range(first.shape[1]):
        one, other = first[:, head].long(), second[:, head].long()
        both = (one >= 0) & (other >= 0)
        counts = torch.bincount(one[both] * clusters + other[both], minlength=clusters**2)
        agreement = all_reduce(counts).reshape(clusters, clusters).double()
        # less than one video in all: decides between equals alone
        found[head] = best_permutation(agreement + 0.5 / clusters * torch.eye(clusters, dtype=torch.float64))
    return found
