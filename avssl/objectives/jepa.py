"""Joint-embedding prediction without a teacher as an objective (LeJEPA, audio-visual)."""

from typing import NamedTuple

import torch
from torch import nn

from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.joint_embedding import joint_embedding_loss
from ..contrast.sigreg import unit_directions
from ..core.collectives import batch_sizes
from ..models.heads import MLPHeads
from ..models.multi_stream import ByModality
from .objective import Context, EncodedBatch, LoggedFigures, Objective

JOINT = "joint"
"""The name of the head that all modalities share."""


class Views(NamedTuple):
    """Embeddings of the views of B videos, float [V, B, P], of which the first `global_views` are of global views."""

    z: torch.Tensor
    global_views: int


class Jepa(Objective):
    """LeJEPA (Balestriero & LeCun 2025): the views of a video predict the mean embedding of its global views.

    A global view is a large clip with video and audio. Local views are each modality of it alone, and small clips. A
    head for each modality maps features to one space; a view is the mean of its modalities there, from which a head
    that all share computes its embedding. So a view of one modality is a global one whose other modality is dropped.
    """

    name = "jepa"

    def __init__(self, context: Context, composition: Composition | None = None):
        super().__init__(context)
        assert composition is not None  # `make_composition` returns one for every run with jepa
        self.composition = composition
        self.modalities = composition.modalities

    @staticmethod
    def own_heads(config: TrainConfig, widths: dict[str, int]) -> dict[str, nn.Module]:
        hidden = config.model.hidden
        heads: dict[str, nn.Module] = {
            name: MLPHeads(width, hidden, hidden, dropout=0) for name, width in widths.items()
        }
        joint = nn.Sequential(nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, config.jepa.projection))
        return heads | {JOINT: joint}

    def embed(self, features: ByModality, videos: int, small: ByModality) -> Views:
        """The embeddings of the views of a batch.

        Args:
            features: features of the large clips by modality, [B · V, D].
            videos: B.
            small: features of the small clips, [B · M, D]; empty if there are none.
        """
        heads: nn.ModuleDict = self.model.heads[self.name]  # type: ignore[assignment]
        large, others = [], []
        for name in self.modalities:
            x = self.composition.take_alike(features[name], videos).transpose(0, 1)
            both = torch.cat([x, by_view(small[name], videos)]) if name in small else x
            shared = heads[name](both.flatten(0, 1))[0].view(len(both), videos, -1)
            large.append(shared[: len(x)])
            others.append(shared[len(x) :])
        alone = large if len(large) > 1 else []
        views = torch.cat([torch.stack(large).mean(0), *alone, *others])
        return Views(heads[JOINT](views.flatten(0, 1)).view(len(views), videos, -1), self.composition.alike)

    def loss(self, batch: EncodedBatch, detailed: bool) -> tuple[torch.Tensor, LoggedFigures]:
        """(1 − λ) · mean (z − centre)² + λ · SIGReg (spec §13), over the videos of all processes."""
        jepa, videos = self.config.jepa, len(batch.index)
        z, global_views = self.embed(batch.features, videos, batch.small)
        sizes = batch_sizes(self.context.batch, videos)
        found = joint_embedding_loss(
            z,
            global_views,
            unit_directions(z.shape[-1], jepa.directions, self.config.seed, batch.step, z.device),
            jepa.lam,
            centre="all" if "centre" in jepa.released else "global",
            sample="all" if "rows" in jepa.released else "view",
            weights="sigreg" if "weight" in jepa.released else "both",
            rows=sum(sizes),
            scale=videos * len(sizes) / sum(sizes),
        )
        logged: LoggedFigures = {"loss": found.loss, "prediction": found.prediction, "sigreg": found.sigreg}
        if detailed:
            deviation = z.detach().float().flatten(0, 1).std(0)
            logged |= {"deviation": deviation.mean(), "deviation_min": deviation.amin()}
        return found.loss, logged


def by_view(x: torch.Tensor, videos: int) -> torch.Tensor:
    """[B · V, D], video by video → [V, B, D]."""
    return x.view(videos, -1, x.shape[-1]).transpose(0, 1)
