"""Heat maps: how much each position of the frames sounds like the audio."""

import torch
from torch import nn
from torch.nn import functional as F

from ..core.errors import UserError
from .encoder import has_map, map_width
from .multi_stream import ByModality, MultiStream

HEADS = "localisation"
"""The objective whose heads compare positions of the frames with audio."""

POSITIONS = 1 << 16
"""Most positions that go through the heads for pooled features at once."""


class PositionHead(nn.Linear):
    """A linear layer over the channels of maps: float [B, C, T', h, w] → unit embeddings [B, P, T', h, w].

    With a `window` above 1, a position gets the mean of the unit embeddings in the square of positions around it, with
    zeros outside the map. Its similarity with audio is then the mean cosine of the square: largest where an object
    fills it. The mean is of unit embeddings, because that of features hardly depends on how much is background.
    """

    def __init__(self, inputs: int, outputs: int, window: int = 1):
        super().__init__(inputs, outputs)
        self.window = window

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        projected = super().forward(input.movedim(1, -1)).movedim(-1, 1)
        unit = F.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)))
        if self.window == 1:
            return unit
        return F.avg_pool2d(unit.flatten(1, 2), self.window, stride=1, padding=self.window // 2).view_as(unit)


class Localiser:
    """The heat maps of a model, in evaluation mode and without gradients.

    Args:
        model: a model with both encoders. It is set to evaluation mode.

    Attributes:
        weak: True for a model without a localisation objective. Its heads for pooled features, those of contrast or of
            joint-embedding prediction, are then applied to every position, which they were never trained for.

    Raises:
        UserError: the model has no map of the frames, no audio, or no heads that compare the two.
    """

    def __init__(self, model: MultiStream):
        if missing := [name for name in ("video", "audio") if name not in model.encoders]:
            raise UserError(f"heat maps compare frames with audio, but the run does not encode {missing[0]}")
        video = model.encoders["video"]
        if not has_map(video):
            raise UserError(
                f"the video encoder {type(video).__name__} has no feature map, so that nothing can be located: train "
                f"with another, such as model.video=tiny, r2plus1d_18 or torchvision:resnet18"
            )
        self.model, self.weak = model.eval(), HEADS not in model.heads
        if not self.weak:
            return
        if not model.embeds:
            raise UserError(
                "the run has no heads that compare frames with audio, so that nothing can be located: train with "
                "objective=localisation"
            )
        if map_width(video) != model.encoder_widths["video"]:
            raise UserError(
                f"the positions of the video encoder {type(video).__name__} have {map_width(video)} channels, but the "
                f"run's heads take {model.encoder_widths['video']}: train with objective=localisation"
            )

    @torch.no_grad()
    def embed(self, clips: ByModality) -> tuple[torch.Tensor, torch.Tensor]:
        """The unit embeddings of clips.

        Args:
            clips: the encoders' inputs of B clips, [B, …] by modality, on the model's device.

        Returns:
            Positions of the frames, float32 [B, C, T', h, w], which with a window are means of unit embeddings, and
            audio, [B, C].
        """
        return self.embed_with_features(clips)[:2]

    @torch.no_grad()
    def embed_with_features(self, clips: ByModality) -> tuple[torch.Tensor, torch.Tensor, ByModality]:
        """The same, and the features [B, D] by modality that other heads take, from one pass through the encoders."""
        features, maps = self.model.encode_with_maps(clips, ("video",))
        with torch.autocast(maps["video"].device.type, enabled=False):
            audio, video = features["audio"].float(), maps["video"].float()
            if self.weak:
                return self._through_pooled_heads(video), F.normalize(self.model.embed(audio, "audio")), features
            heads: nn.ModuleDict = self.model.heads[HEADS]  # type: ignore[assignment]
            return heads["video"](video), F.normalize(heads["audio"](audio)), features

    def _through_pooled_heads(self, video: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, T', h, w] through the adapter and the heads for pooled features, position by position."""
        rows = video.movedim(1, -1)
        parts = [
            F.normalize(self.model.embed(self.model.adapt({"video": part})["video"], "video"))
            for part in rows.flatten(0, -2).split(POSITIONS)
        ]
        return torch.cat(parts).unflatten(0, rows.shape[:-1]).movedim(-1, 1)


def heat_maps(positions: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
    """The similarity of every position [B, C, T', h, w] with the audio [B, C]: float [B, T', h, w] in [-1, 1]."""
    return torch.einsum("bcthw,bc->bthw", positions, audio)
