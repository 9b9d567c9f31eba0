"""Build the objectives of a run from its options, and plan the clips that they need of a video."""

from torch import nn

from ..config import TrainConfig
from ..contrast.composition import Composition
from ..models import MultiStream, build
from .contrast import Contrast
from .distillation import Distillation
from .labelling import Labelling
from .objective import Context, Objective

OBJECTIVES: dict[str, type[Objective]] = {
    "contrast": Contrast,
    "labelling": Labelling,
    "distillation": Distillation,
}
"""The objectives by their names in `TrainConfig.objectives`."""


def make_composition(config: TrainConfig) -> Composition | None:
    """The composition of a video's training clips, for all objectives together; None if one clip is enough.

    Raises:
        UserError: options contradict each other.
    """
    return Composition.from_config(config.contrast) if "contrast" in config.objectives else None


def build_objectives(context: Context, composition: Composition | None) -> list[tuple[float, Objective]]:
    """The objectives of a run and their weights, in the order of computation."""
    return [(weight, OBJECTIVES[name](context, composition)) for name, weight in context.config.objectives.items()]


def build_model(config: TrainConfig) -> MultiStream:
    """The model of a run: encoders, cluster heads, projections, and the objectives' own heads."""
    model = build.build_model(config)
    for name in config.objectives:
        if own := OBJECTIVES[name].own_heads(config, model.widths):
            model.heads[name] = nn.ModuleDict(own)
    if "labelling" not in model.heads and "distillation" in model.heads:
        model.sharing = "per_modality"  # its heads are by modality, and share their prototypes
    return model
