"""Localisation as an objective: which position of the frames sounds like the audio (EZ-VSL, LVS)."""

from .objective import Objective


class Localisation(Objective):
    """Find the position of the frames that sounds like the audio."""

    name = "localisation"
    maps = ("video",)
