"""A part of `avssl evaluate`: some of the cached features and labels, which the command itself then finds.

The protocols on frozen features and labels (clustering, retrieval, cross_modal, few_shot, knn and linear) need nothing
else of the videos. `robustness` decodes each test video once and `finetune` trains, so the command itself does them.
"""

from ..config import EvaluateConfig
from ..core.errors import UserError
from ..core.part import Part
from ..core.screen import Console
from .command import opened
from .protocols import LONG, sampling_of


def run_part(config: EvaluateConfig, part: Part) -> None:
    """Encode this part's videos, 256 per file; existing files are not computed again.

    Raises:
        UserError: as `avssl evaluate`; or no task can be done in parts.
    """
    context, tasks = opened(config)
    whole = [task for task in tasks if task in LONG]
    if whole == tasks:
        raise UserError(
            f"tasks={','.join(tasks)} cannot be done in parts: start one job, or one per fold (folds=[1]) with its own "
            "out=…"
        )
    if whole:
        Console(highlight=False, soft_wrap=True).note(f"not in parts, but afterwards: {', '.join(whole)}")
    for sampling in dict.fromkeys(sampling_of(task, config) for task in tasks):
        if sampling is not None:
            context.write_part(sampling, part)
    labelled = {"clustering", "robustness"} & {*tasks}
    if labelled and (work := context.labelling_pass()) is not None:
        work.write(part)
