"""Build the model of a run from its options."""

from collections.abc import Sequence

from torch import nn

from ..config import ModelConfig, TrainConfig
from .by_name import OURS, build_encoder
from .heads import MLPHeads
from .multi_stream import SHARED, MultiStream


def build_model(config: TrainConfig) -> MultiStream:
    """The encoders, with the heads of the run's objectives."""
    labelling, objectives = config.labelling, config.objectives
    return build_multi_stream(
        config.model,
        labelling.clusters if "labelling" in objectives else 0,
        labelling.heads,
        labelling.sharing,
        config.contrast.projection if "contrast" in objectives else 0,
        modalities_of(config),
        config.contrast.dropout,
    )


def modalities_of(config: TrainConfig) -> list[str]:
    """The modalities that the run encodes, "video" first."""
    return [name for name in OURS if name in config.modalities]


def build_multi_stream(
    config: ModelConfig,
    clusters: int = 0,
    heads: int = 1,
    sharing: str = "shared",
    projection: int = 0,
    modalities: Sequence[str] = ("video", "audio"),
    projection_dropout: float | None = None,
) -> MultiStream:
    """Build a model.

    Args:
        config: the options of encoders and heads.
        clusters: K, the number of outputs of each cluster head; 0: no cluster heads.
        heads: H, the number of cluster heads.
        sharing: `shared`, `per_modality` or `concat`, see `MultiStream`.
        projection: the width of the projections for contrast; 0: no projections.
        modalities: the modalities to build encoders for.
        projection_dropout: dropout in the projections; None: `config.dropout`, as in the heads.

    Encoders of different widths that share a head get adapters: linear layers to the largest of these widths.
    """
    encoders = {
        name: build_encoder(
            name, getattr(config, name), config.temporal_pooling, config.video_stride if name == "video" else 0
        )
        for name in OURS
        if name in modalities
    }
    widths = {name: int(encoder.dim) for name, encoder in encoders.items()}  # type: ignore[arg-type]
    differ = clusters > 0 and sharing == "shared" and len(set(widths.values())) > 1
    common = config.adapter or (max(widths.values()) if differ else 0)
    adapted = [name for name, width in widths.items() if config.adapter or (differ and width != common)]
    adapters: dict[str, nn.Module] = {name: nn.Linear(widths[name], common) for name in adapted}
    if config.standardise:
        norms = {name: nn.BatchNorm1d(width, affine=False) for name, width in widths.items()}
        adapters = {
            name: nn.Sequential(norm, adapters[name]) if name in adapters else norm for name, norm in norms.items()
        }
    widths |= dict.fromkeys(adapted, common)

    def mlp(width: int, outputs: int, number: int = 1, dropout: float = config.dropout) -> MLPHeads:
        return MLPHeads(width, config.hidden, outputs, number, dropout)

    cluster_heads: dict[str, MLPHeads] = {}
    if clusters and sharing == "per_modality":
        cluster_heads = {name: mlp(width, clusters, heads) for name, width in widths.items()}
    elif clusters:
        width = sum(widths.values()) if sharing == "concat" else next(iter(widths.values()))
        cluster_heads = {SHARED: mlp(width, clusters, heads)}
    dropout = config.dropout if projection_dropout is None else projection_dropout
    projections = {name: mlp(width, projection, 1, dropout) for name, width in widths.items()} if projection else {}
    return MultiStream(encoders, cluster_heads, projections, sharing, adapters)
