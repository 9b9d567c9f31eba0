"""`avssl locate`: where in the frames each sound comes from."""

from ..config import LocateConfig


def run(config: LocateConfig) -> None:
    raise NotImplementedError
