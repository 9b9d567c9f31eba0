"""Encoders, heads and the model of several modalities. This package reads no data and has no distributed code."""

from .build import build_multi_stream
from .multi_stream import MultiStream

__all__ = ["MultiStream", "build_multi_stream"]
