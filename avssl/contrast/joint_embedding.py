"""Joint-embedding prediction without a teacher: views of a video predict each other, and SIGReg prevents collapse."""

from typing import NamedTuple

import torch

from .sigreg import sigreg

CENTRES = ("global", "all")
SAMPLES = ("view", "all")
WEIGHTS = ("both", "sigreg")


class JointEmbedding(NamedTuple):
    """The loss and its two terms, scalars."""

    loss: torch.Tensor
    prediction: torch.Tensor
    sigreg: torch.Tensor


def joint_embedding_loss(
    z: torch.Tensor,
    global_views: int,
    directions: torch.Tensor,
    lam: float,
    *,
    centre: str = "global",
    sample: str = "view",
    weights: str = "both",
    rows: int | None = None,
    scale: float = 1.0,
) -> JointEmbedding:
    """The loss of the views of N videos.

        (1 − λ) · mean (z_view − centre)² + λ · SIGReg(z)

    The mean is over videos, views and the D components, so that λ does not depend on D. SIGReg grows in proportion to N
    as long as the embeddings are not distributed normally, so a larger batch needs a smaller λ.

    Three published forms differ in three points, which `centre`, `sample` and `weights` choose: the authors' minimal
    example has centre="all"; stable-pretraining has sample="all" and weights="sigreg".

    Args:
        z: embeddings, float [V, N, D], of which the first `global_views` are of global views.
        global_views: the number of global views.
        directions: unit directions, float [D, M].
        lam: λ, the weight of SIGReg.
        centre: what the centre of a video is the mean of: its "global" views, or "all" views.
        sample: what SIGReg compares with a normal distribution: each "view" of all videos, or "all" rows at once,
            which makes it about V times as large.
        weights: "both": 1 − λ weighs the prediction; "sigreg": its weight is 1.
        rows: N in all processes together; None: of this one.
        scale: N of this process divided by its mean over the processes.

    Raises:
        ValueError: a word is unknown, or there is no global view.

    Source: LeJEPA (Balestriero & LeCun 2025).
    """
    for name, word, choices in (
        ("centre", centre, CENTRES), ("sample", sample, SAMPLES), ("weights", weights, WEIGHTS),
    ):  # fmt: skip
        if word not in choices:
            raise ValueError(f"{name}={word!r} is not one of {', '.join(choices)}")
    if not 1 <= global_views <= len(z):
        raise ValueError(f"{global_views} of {len(z)} views are global: at least one must be")
    with torch.autocast(z.device.type, enabled=False):
        z = z if z.dtype == torch.float64 else z.float()
        of_centre = z[:global_views] if centre == "global" else z
        prediction = scale * (z - of_centre.mean(0)).square().mean()
        shape = sigreg(z, directions, rows, together=sample == "all")
        weight = 1 - lam if weights == "both" else 1.0
        return JointEmbedding(weight * prediction + lam * shape, prediction, shape)
