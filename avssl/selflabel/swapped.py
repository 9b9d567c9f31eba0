"""The loss of distillation: each view predicts the targets of the other views (SwAV §3.1, DINO §3.1)."""

import torch


def swapped_loss(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of every view to the target of every other view, averaged over these pairs and the batch.

        − 1 / (T (V − 1) B) · Σ_t Σ_{v ≠ t} Σ_b Σ_k q_tbk log softmax(s_vb)_k        (SwAV Eq. 2 and 6, DINO Eq. 3)

    The sums over pairs are products of sums, so their cost does not grow with the number of pairs.

    Args:
        targets: q, distributions over the prototypes, float [T, B, K], of the first T of the V views.
        logits: s, the scores divided by the student's temperature, float [V, B, K].

    Returns:
        A scalar, in nats.

    Raises:
        ValueError: there is no pair of different views, or the shapes do not fit.
    """
    count, views = len(targets), len(logits)
    if views < 2 or not 0 < count <= views or targets.shape[1:] != logits.shape[1:]:
        raise ValueError(
            f"targets {list(targets.shape)} and logits {list(logits.shape)} must be of the same clips, and at least "
            "two views"
        )
    log_p = logits.float().log_softmax(-1)
    all_pairs = (targets.sum(0) * log_p.sum(0)).sum()
    same_view = (targets * log_p[:count]).sum()
    return (same_view - all_pairs) / (count * (views - 1) * targets.shape[1])
