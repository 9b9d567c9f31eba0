"""The clips of a training step: how many are decoded, and how many are encoded."""

from typing import NamedTuple

from ..config import TrainConfig
from ..contrast.composition import Composition
from ..contrast.view_plan import ViewPlan
from .build import encoded_main_clips


class StepClips(NamedTuple):
    """The clips of a video in a training step. A modality's clip counts as one encoded clip."""

    decoded: int
    whole: int
    """Clips encoded for all objectives together."""
    groups: dict[str, int]
    """Further clips encoded, by the name of their group."""
    teacher: int
    """Clips that the teacher encodes."""

    @classmethod
    def of(cls, config: TrainConfig, plan: Composition | ViewPlan | None) -> "StepClips":
        """Those of a run with this plan of a video's clips."""
        composition = plan.composition if isinstance(plan, ViewPlan) else plan
        whole = len(encoded_main_clips(config)) if composition is None else composition.plan(1).encoded_per_video
        groups = plan.groups if isinstance(plan, ViewPlan) else ()
        further = {group.name: group.clips * len(group.modalities) for group in groups}
        return cls(1 if plan is None else plan.decoded, whole, further, whole if config.has_teacher else 0)

    def describe(self, videos: int) -> str:
        """The clips of a step of `videos` videos, in a few words."""
        counts = ({"whole": self.whole} if self.whole else {}) | self.groups
        parts = f" ({', '.join(f'{count * videos} {name}' for name, count in counts.items())})" if self.groups else ""
        said = f"{self.decoded * videos} clips decoded, {sum(counts.values()) * videos} encoded{parts}"
        return f"{said}, {self.teacher * videos} by the teacher" if self.teacher else said
