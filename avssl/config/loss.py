"""The options `loss.*`: the weight of each term of the loss. This file does not import torch, so that `--help` is
quick."""

from dataclasses import dataclass
from typing import Any

from .option import option

AXIS_OF_TERM = {
    "rotation": "rotation", "arrow": "reversal", "pace": "speed", "context": "context", "order": "time_shift",
    "sync": "sync",
}  # fmt: skip
"""The axis that each term predicts."""


def _weight(text: str) -> Any:
    return option(None, text, minimum=0, maximum=1000)


@dataclass
class LossConfig:
    """loss.*"""

    contrast: float | None = _weight("composed contrast (GDT, SimCLR, MoCo, NPID, PCL); none: 1 if the task has it")
    labelling: float | None = _weight("self-labelling (SeLaVi, SeLa, DeepCluster, XDC); none: 1 if the task has it")
    rotation: float | None = _weight("predict by how many degrees the frames are rotated")
    arrow: float | None = _weight("predict whether a clip is played backwards")
    pace: float | None = _weight("predict the playback speed, one of contrast.speeds")
    context: float | None = _weight("predict where a patch of the frames is, seen from the patch in the middle")
    order: float | None = _weight("predict which of two clips of a video comes first")
    sync: float | None = _weight("predict whether audio and frames are of the same time")
    prediction: float | None = _weight("predict the levels of each of your own axes with the role predicted; none: 1")
    distillation: float | None = _weight("predict the prototypes of a video's other views (SwAV, DINO)")
    localisation: float | None = _weight("find the position of the frames that sounds like the audio (EZ-VSL, LVS)")
    jepa: float | None = _weight("predict the embedding of a video's other views, without a teacher (LeJEPA)")
