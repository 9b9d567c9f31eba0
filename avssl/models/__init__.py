"""Encoders, heads and the two-stream model. No data and no distributed code here."""

from .two_stream import TwoStream, build_two_stream

__all__ = ["TwoStream", "build_two_stream"]
