"""Match the clusters of two labellings: those of video and audio before the first labelling pass with
`sharing=per_modality` (SeLaVi §3.3), and those of labellings that were numbered separately (XDC)."""

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment


def align(p_video: torch.Tensor, p_audio: torch.Tensor) -> torch.Tensor:
    """The permutation π of the audio clusters with the highest expected agreement Σ_n Σ_k p_v,nk p_a,nπ(k).

    It is exact, because it is a linear assignment on the K×K agreement.

    Args:
        p_video: probabilities from video, float [N, K].
        p_audio: probabilities from audio, float [N, K].

    Returns:
        int64 [K]: cluster k of the video is cluster π[k] of the audio.
    """
    return best_permutation(agreement(p_video, p_audio))


def agreement(p_video: torch.Tensor, p_audio: torch.Tensor) -> torch.Tensor:
    """Σ_n p_v,ni p_a,nj, float64 [K, K], of probabilities [N, K]. Agreements of subsets of the videos add up."""
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
        first, second: int [N, H], labels of the same videos by H heads; -1 for a video without a label.
        clusters: K.
        all_reduce: sums a tensor over the processes, each of which has some of the videos.

    Returns:
        int64 [H, K]: cluster k of the first is cluster π[h, k] of the second, for as many videos as possible (a linear
        assignment). Among equally good π, it keeps the most numbers; for two equal labellings it is 0 … K − 1.
    """
    permutations = torch.arange(clusters).repeat(first.shape[1], 1)
    for head in range(first.shape[1]):
        one, other = first[:, head].long(), second[:, head].long()
        labelled = (one >= 0) & (other >= 0)
        counts = torch.bincount(one[labelled] * clusters + other[labelled], minlength=clusters**2)
        agreement = all_reduce(counts).reshape(clusters, clusters).double()
        # a bonus of less than one video in total, which only breaks ties between permutations
        permutations[head] = best_permutation(agreement + 0.5 / clusters * torch.eye(clusters, dtype=torch.float64))
    return permutations
