"""Checks of the options `crops.*`. This file does not import torch."""

from dataclasses import fields

from ..config import TrainConfig
from ..config.crops import USES, CropsConfig
from ..core.errors import UserError


def check_crops(config: TrainConfig) -> None:
    """Raise UserError for small clips that nothing uses, or that cannot be cut."""
    crops, clip = config.crops, config.clip
    given = next((x.name for x in fields(crops) if getattr(crops, x.name) != getattr(CropsConfig(), x.name)), "")
    if not crops.small:
        if given:
            raise UserError(f"crops.{given} has no effect without small clips: add crops.small=2, or omit it")
        return
    option = f"crops.small={crops.small}"
    if not {*USES} & config.objectives.keys():
        raise UserError(f"{option}: none of the run's losses uses small clips ({', '.join(USES)}): omit it")
    if config.data.features:
        raise UserError(
            f"{option} cuts small clips out of videos, but the run trains on stored features: omit it, or train "
            f"encoders, as experiment=small does"
        )
    if "contrast" in config.objectives and "loss" in config.contrast.released:
        raise UserError(f"{option}: GDT's released loss has no small clips: remove loss from contrast.released")
    if crops.small_area[0] > crops.small_area[1]:
        low, high = crops.small_area
        raise UserError(f"crops.small_area=[{low:g},{high:g}] must be ascending: set [{high:g},{low:g}]")
    seconds = crops.clip(clip).audio_seconds
    if 1000 * seconds < clip.window_ms:
        raise UserError(
            f"crops.small_time={crops.small_time:g} leaves {1000 * seconds:.3g} ms of audio, less than "
            f"clip.window_ms={clip.window_ms:g}: raise it"
        )
