"""Heat maps: how much each position of the frames sounds like the audio."""

import torch

from .multi_stream import ByModality, MultiStream


class Localiser:
    """The heat maps of a model.

    `weak` is True for a model without a localisation objective, whose heads for pooled features are used instead.

    Raises:
        UserError: the model has no map of the frames, no audio, or no heads that compare the two.
    """

    def __init__(self, model: MultiStream):
        self.model, self.weak = model, False

    def embed(self, clips: ByModality) -> tuple[torch.Tensor, torch.Tensor]:
        """The unit embeddings of clips: positions of the frames, float32 [B, C, T', h, w], and audio, [B, C]."""
        raise NotImplementedError


def heat_maps(positions: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
    """The cosine of every position [B, C, T', h, w] with the audio [B, C]: float [B, T', h, w] in [-1, 1]."""
    return torch.einsum("bcthw,bc->bthw", positions, audio)
