"""`avssl detect`: train a detector from located boxes, and find objects with it."""

from ..config import DetectConfig


def run(config: DetectConfig) -> None:
    raise NotImplementedError
