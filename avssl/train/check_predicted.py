"""Checks that a run's predicted axes fit the other options and the videos. This file does not import torch."""

import pyarrow as pa

from ..config import TrainConfig
from ..config.contrast import CONTEXT_CROP
from ..config.loss import AXIS_OF_TERM
from ..config.train import OF_AXES
from ..core.errors import UserError

NEEDED = {"rotation": ("video",), "context": ("video",), "sync": ("video", "audio")}
"""The modalities that an axis is predicted from, if it does not take any."""
SAME_FPS = 0.99
"""A file with this fraction of the clip's frame rate has the same one, such as 29.97 and 30 frames per second."""
AUDIO_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 4000)


def named(config: TrainConfig, axis: str) -> str:
    """The option that makes an axis predicted."""
    term = next((term for term, name in AXIS_OF_TERM.items() if name == axis), None)
    weight = None if term is None else getattr(config.loss, term)
    return f"contrast.axes.{axis}=predicted" if weight is None else f"loss.{term}={weight:g}"


def check_predicted(config: TrainConfig) -> None:
    """Raise UserError for predicted axes that contradict other options."""
    predicted, roles, contrast = config.predicted, vars(config.contrast.axes), config.contrast
    if predicted and config.data.features:
        raise UserError(
            f"{named(config, next(iter(predicted)))} needs clips of its own, but data.features contains encoded clips: "
            f"train on the videos"
        )
    for axis in predicted.keys() & roles.keys():
        if roles[axis] in ("distinct", "invariant"):
            raise UserError(
                f"{named(config, axis)} predicts the axis that contrast.axes.{axis}={roles[axis]} compares: keep one "
                f"of them"
            )
        missing = [name for name in NEEDED.get(axis, ()) if name not in config.modalities]
        if missing:
            section = "labelling" if "labelling" in config.objectives else "contrast"
            needed = ",".join(NEEDED[axis])
            raise UserError(f"{named(config, axis)} needs {missing[0]}: set {section}.modalities=[{needed}]")
    _check_first_clip(config)
    if "context" in predicted and config.clip.crop < CONTEXT_CROP:
        raise UserError(
            f"{named(config, 'context')} cuts 3 x 3 patches, for which clip.crop={config.clip.crop} is too small: set "
            f"clip.crop={CONTEXT_CROP} or more"
        )
    if "speed" in predicted and (len(contrast.speeds) < 2 or contrast.speeds[0] != 1):
        raise UserError(
            f"contrast.speeds={[*contrast.speeds]} with {named(config, 'speed')}: give 1, the speed of other clips, "
            f"and then other speeds, such as [1,2]"
        )


def _check_first_clip(config: TrainConfig) -> None:
    """Raise UserError if the first clip's place in the video tells it from another of the same video.

    `order` and `sync` draw the other clip so that both are equally early, if the first one is drawn uniformly.
    """
    roles, contrast = vars(config.contrast.axes), config.contrast
    compared = [name for name in ("time_shift", "speed") if roles[name] in ("distinct", "invariant")]
    if not config.objectives.keys() & OF_AXES or not compared:
        return
    if "sync" in config.predicted and "time_shift" in compared:
        raise UserError(
            f"{named(config, 'sync')} with contrast.axes.time_shift={roles['time_shift']}: the first clip is the "
            f"earlier one, so the time would tell which audio is another: set contrast.axes.time_shift=off"
        )
    for axis in ("sync", "time_shift"):
        if axis in config.predicted and "speed" in compared and contrast.speeds[0] != 1:
            raise UserError(
                f"contrast.speeds={[*contrast.speeds]} with {named(config, axis)}, which needs a first clip of normal "
                f"speed: give 1 first, such as [1,2]"
            )


def check_resampling(config: TrainConfig, rows: pa.Table) -> None:
    """Raise UserError if resampling tells the playback speed of a clip.

    A file with fewer frames per second than a clip repeats some, but fewer at a higher speed. A file's audio that is
    not reduced to a lower rate at each speed lacks the highest frequencies at some speeds.

    Args:
        config: the options of the run.
        rows: the training rows of the index.
    """
    if "speed" not in config.predicted:
        return
    slowest, clip = min(config.contrast.speeds), config.clip
    few, least = _below(rows["fps"], SAME_FPS * clip.fps / slowest)
    if "video" in config.modalities and few:
        raise UserError(
            f"{few:,} of {len(rows):,} videos have fewer frames per second than clips at speed {slowest:g}, and "
            f"repeated frames tell the speed: set clip.fps={least * slowest:g} or less"
        )
    low, least = _below(rows["audio_rate"], clip.audio_rate / slowest + 1)
    if "audio" in config.modalities and low:
        fix = next((rate for rate in AUDIO_RATES if rate < least * slowest), AUDIO_RATES[-1])
        raise UserError(
            f"the audio of {low:,} of {len(rows):,} videos (from {least:g} Hz) lacks the highest frequencies of "
            f"clip.audio_rate={clip.audio_rate} at some speeds only, which tells the speed: set clip.audio_rate={fix}"
        )


def _below(column: pa.ChunkedArray, limit: float) -> tuple[int, float]:
    """How many known numbers of a column are below a limit, and the smallest of all."""
    import pyarrow.compute as pc

    known = column.filter(pc.greater(column, 0))
    return pc.sum(pc.less(known, limit)).as_py() or 0, pc.min(known).as_py() or 0.0
