"""Encoders, heads and the model of several streams. No data and no distributed code here."""

from .build import build_multi_stream
from .multi_stream import MultiStream

__all__ = ["MultiStream", "build_multi_stream"]
