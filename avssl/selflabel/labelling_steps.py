"""The training steps before which labelling passes happen."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import LabellingConfig


def labelling_steps(total: int, passes: int, exponent: float = 1.5, at_end: bool = True) -> list[int]:
    """The training steps before which labelling passes happen: T (i / (S - 1)) ** exponent, i = 0 … S - 1 (spec §1).

    The last pass is at T, after training, and finds the labels that the run exports. Early passes that round to the
    same step are merged.

    Args:
        total: T, the number of training steps of the run.
        passes: S, the number of passes.
        exponent: above 1, passes are denser at the beginning.
        at_end: keep the last pass. SeLaVi's released code omits it, because its loop ends before.
    """
    if passes == 1:
        return [0]
    steps = sorted({min(total, round(total * (i / (passes - 1)) ** exponent)) for i in range(passes)})
    return steps if at_end else [step for step in steps if step < max(1, total)]


def configured_steps(config: "LabellingConfig", total: int) -> list[int]:
    """`labelling_steps` of a run of `total` steps, after those that `labelling.start` excludes."""
    start = first_step(config, total)
    at_end = "no_last_pass" not in config.released
    return [start + step for step in labelling_steps(total - start, config.passes, config.exponent, at_end)]


def first_step(config: "LabellingConfig", total: int) -> int:
    """The first training step with labels, in a run of `total` steps."""
    return min(round(config.start * total), max(0, total - 1))
