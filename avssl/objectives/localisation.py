"""Localisation as an objective: which position of the frames sounds like the audio (EZ-VSL, LVS)."""

from collections.abc import Callable

import torch
from torch import nn

from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.localisation import Localised, as_rows, localisation_loss
from ..contrast.loss import normalise
from ..core.collectives import batch_sizes
from ..models.localise import PositionHead
from .objective import Context, EncodedBatch, LoggedFigures, Objective

SOUNDING = 0.5
"""The similarity above which a position counts as sounding, in the log."""


class Localisation(Objective):
    """EZ-VSL (Mo & Morgado 2022), or LVS (Chen et al. 2021): the best position of the frames is pulled to the audio.

    Every clip with the audio of its own time takes part. Clips that an axis changes after decoding, such as reversed
    ones, are left out.
    """

    name = "localisation"
    maps = ("video",)
    pooled = False

    def __init__(self, context: Context, composition: Composition | None = None):
        super().__init__(context)
        self.options = self.config.localisation
        self.clusters_of: Callable[[EncodedBatch], torch.Tensor] | None = None
        """Gives the clusters of a batch's videos, int64 [B], or a number of its own for a video without; with them,
        clips of one cluster are no negatives of each other."""
        self.views, self.turns = (1, 1) if composition is None else (len(composition.plain), composition.turns)

    @staticmethod
    def own_heads(config: TrainConfig, widths: dict[str, int]) -> dict[str, nn.Module]:
        options = config.localisation
        # LVS's thresholds are for the cosines of single positions
        window = options.window if options.form == "max" else 1
        return {
            "video": PositionHead(widths["video"], options.projection, window),
            "audio": nn.Linear(widths["audio"], options.projection),
        }

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """L_NC of EZ-VSL (Eq. 5), or the loss of LVS (Eq. 5), over the clips of all processes."""
        count = len(batch.index)
        maps, features = (self._plain(x, count) for x in (batch.maps["video"], batch.features["audio"]))
        clips = self.views // self.turns
        sizes = [size * clips for size in batch_sizes(self.context.batch, count)]
        heads: nn.ModuleDict = self.model.heads[self.name]  # type: ignore[assignment]
        positions, audio = heads["video"](maps), heads["audio"](features)
        alike = batch.device_index if self.clusters_of is None else self.clusters_of(batch)
        videos = alike.repeat_interleave(clips, output_size=count * clips)
        options = self.options
        found = localisation_loss(positions, audio, videos, options.temperature, form=options.form, sizes=sizes)
        logged: LoggedFigures = {"loss": found.loss}
        if detailed:
            logged |= figures(found, positions, audio)
        return found.loss, logged

    def _plain(self, x: torch.Tensor, videos: int) -> torch.Tensor:
        """Of clips [B · V, …], those that no axis has changed after decoding, [B · clips, …]."""
        if self.turns == 1:
            return x
        return x.unflatten(0, (videos, self.views))[:, :: self.turns].flatten(0, 1)


@torch.no_grad()
def figures(found: Localised, positions: torch.Tensor, audio: torch.Tensor) -> LoggedFigures:
    """How often a clip's own audio is the most similar one of the batch, its mean similarity, and the share of sounding
    positions, whose similarity with it is above `SOUNDING`."""
    heat = torch.einsum("mtpc,mc->mtp", as_rows(positions), normalise(audio))
    return {
        "retrieval": (found.similarities.argmax(1) == found.own).float().mean(),
        "positive": found.similarities.gather(1, found.own[:, None]).mean(),
        "sounding": (heat > SOUNDING).float().mean(),
    }
