"""Agreement of the two modalities' clusters before the first labelling, for `sharing=per_modality` (SeLaVi §3.3)."""

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
