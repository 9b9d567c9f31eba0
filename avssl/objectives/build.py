"""Build the objectives of a run from its options, and plan the clips that they need of a video."""

from dataclasses import replace

from torch import nn

from ..config import TrainConfig
from ..config.crops import USES
from ..config.train import OF_AXES
from ..contrast.composition import Composition
from ..contrast.view_plan import ViewPlan
from ..models import MultiStream, build
from ..models.build import modalities_of
from ..models.encoder import map_width
from .contrast import Contrast
from .distillation import Distillation
from .jepa import Jepa
from .labelling import Labelling
from .localisation import Localisation
from .objective import Context, Objective
from .prediction import Prediction
from .small_views import SmallViews

OBJECTIVES: dict[str, type[Objective]] = {
    "contrast": Contrast,
    "labelling": Labelling,
    "jepa": Jepa,
    "prediction": Prediction,
    "distillation": Distillation,
    "localisation": Localisation,
}
"""The objectives by their names in `TrainConfig.objectives`."""


def make_composition(config: TrainConfig) -> Composition | None:
    """The composition of a video's main clips, for all objectives together; None if one clip is enough.

    Raises:
        UserError: options contradict each other.
    """
    if not config.objectives.keys() & OF_AXES:
        return None
    contrast = config.contrast
    if "contrast" not in config.objectives:  # all views are compared, and none is compared as the released code does
        compare = "all" if len(contrast.modalities) > 1 else "within_modal"
        contrast = replace(
            contrast, compare=compare, released=[], denominator="all", stop_gradient="none", keys="batch"
        )
    return Composition.from_config(contrast)


def make_plan(config: TrainConfig) -> Composition | ViewPlan | None:
    """The plan of a video's clips: the composition, and the groups of further clips that objectives need.

    Raises:
        UserError: options contradict each other.
    """
    composition = make_composition(config)
    groups = {group.name: group for name in config.objectives for group in OBJECTIVES[name].view_groups(config)}
    modalities = tuple(modalities_of(config))
    if config.crops.small and config.objectives.keys() & {*USES}:
        small = SmallViews.of(config.crops, config.clip, modalities)
        groups[small.name] = small
    return ViewPlan(composition, tuple(groups.values()), modalities) if groups else composition


def encoded_main_clips(config: TrainConfig) -> tuple[str, ...]:
    """The modalities whose main clips are encoded in a step, because an objective needs their features."""
    used = {modality for name in config.objectives for modality in OBJECTIVES[name].main_clips(config)}
    return tuple(name for name in modalities_of(config) if name in used)


def count_further_passes(config: TrainConfig, steps: int, steps_per_epoch: float) -> int:
    """The number of passes over the data in a run of `steps`, beside those that label."""
    return sum(OBJECTIVES[name].further_passes(config, steps, steps_per_epoch) for name in config.objectives)


def build_objectives(context: Context, composition: Composition | None) -> list[tuple[float, Objective]]:
    """The objectives of a run and their weights, in the order of computation."""
    made = {name: OBJECTIVES[name](context, composition) for name in context.config.objectives}
    localisation, labelling = made.get("localisation"), made.get("labelling")
    if isinstance(localisation, Localisation) and isinstance(labelling, Labelling):
        localisation.clusters_of = labelling.clusters_of
    return [(weight, made[name]) for name, weight in context.config.objectives.items()]


def build_model(config: TrainConfig) -> MultiStream:
    """The model of a run: encoders, cluster heads, projections, and the objectives' own heads."""
    model = build.build_model(config)
    for name in config.objectives:
        of_maps = {x: map_width(model.encoders[x]) for x in OBJECTIVES[name].maps if x in model.encoders}
        if own := OBJECTIVES[name].own_heads(config, model.widths | of_maps):
            model.heads[name] = nn.ModuleDict(own)
    if "labelling" not in model.heads and "distillation" in model.heads:
        model.sharing = "per_modality"  # its heads are by modality, and share their prototypes
    return model
