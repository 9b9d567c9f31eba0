"""From the options of a run to its objectives, and the clips that they take of a video."""

from collections.abc import Callable

from ..config import TrainConfig
from ..contrast.composition import Composition
from .contrast import Contrast
from .labelling import Labelling
from .objective import Context, Objective

OBJECTIVES: dict[str, Callable[[Context, Composition | None], Objective]] = {
    "contrast": Contrast,
    "labelling": Labelling,
}
"""The objectives by the names that `TrainConfig.objectives` gives weights to."""


def make_composition(config: TrainConfig) -> Composition | None:
    """The training clips of a video, planned for all objectives together; None where one clip is enough.

    Raises:
        UserError: options that contradict each other.
    """
    return Composition.from_config(config.contrast) if "contrast" in config.objectives else None


def build_objectives(context: Context, composition: Composition | None) -> list[tuple[float, Objective]]:
    """The objectives of a run with their weights, in the order in which they are computed."""
    return [(weight, OBJECTIVES[name](context, composition)) for name, weight in context.config.objectives.items()]
