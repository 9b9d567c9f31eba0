"""The options `teacher.*`: the slow copy of the model that gives targets."""

from dataclasses import dataclass

from .option import option


@dataclass
class TeacherConfig:
    """teacher.*"""

    momentum: float = option(
        0.996,
        "m of the first step: after each step, the teacher becomes m times itself plus 1 - m times the model",
        minimum=0,
        maximum=1,
    )
    momentum_end: float = option(
        1.0, "m of the last step; in between, m follows a cosine; the same as momentum: constant", minimum=0, maximum=1
    )
