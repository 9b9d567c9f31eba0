"""Matches the clusters of two labellings: of video and audio before the first labelling pass with
`sharing=per_modality` (SeLaVi §3.3), and of labellings that were numbered separately (XDC)."""

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment


def align(p_video: torch.Tensor, p_audio: torch.Tensor) -> torch.Tensor:
    """The permutation π of the audio clusters with the highest expected agreement Σ_n Σ_k p_v,nk p_a,nπ(k).

    It is exact: a linear assignment on the K×K agreement.

    Args:
        p_video: probabilities, float [N, K].
        p_audio: the same of the audio.

    Returns:
        int64 [K]: cluster k of the video is cluster π[k] of the audio.
    """
    return best_permutation(agreement(p_video, p_audio))


def agreement(p_video: torch.Tensor, p_audio: torch.Tensor) -> torch.Tensor:
    """Σ_n p_v,ni p_a,nj, float64 [K, K], of probabilities [N, K]. Agreements of parts of the videos can be added."""
    return p_video.double().T @ p_audio.double()


def best_permutation(agreement: torch.Tensor) -> torch.Tensor:
    """The permutation π that maximises Σ_k agreement[k, π(k)], int64 [K]."""
    _, columns = linear_sum_assignment(agreement.cpu().numpy(), maximize=True)
    return torch.from_numpy(columns)


def common_numbering(
    first: torch.Tensor,
    second: torch.Tensor,
    clusters: int,
    all_reduce: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> torch.Tensor:
    """Match the clusters of two labellings that were numbered separately.

    Args:
        first, second: int [N, H], labels of the same videos by H heads; -1 where a video has none.
        clusters: K.
        all_reduce: sums a tensor over the processes, each of which holds some of the videos.

    Returns:
        int64 [H, K]: cluster k of the first is cluster π[h, k] of the second, for as many videos as possible (a linear
        assignment). Among equally good π it is the one that keeps most numbers: for two equal labellings, 0 … K − 1.
    """
    permutations = torch.arange(clusters).repeat(first.shape[1], 1)
    for head in range(first.shape[1]):
        one, other = first[:, head].long(), second[:, head].long()
        labelled = (one >= 0) & (other >= 0)
        counts = torch.bincount(one[labelled] * clusters + other[labelled], minlength=clusters**2)
        agreement = all_reduce(counts).reshape(clusters, clusters).double()
        # a bonus of less than one video in all, which only decides between equally good permutations
        permutations[head] = best_permutation(agreement + 0.5 / clusters * torch.eye(clusters, dtype=torch.float64))
    return permutations
