"""A part of `avssl features`: some of the files of features, which the command itself then finds and joins."""

from ..config import FeaturesConfig
from ..core.part import Part
from ..core.screen import Console
from .features_command import extract


def run_part(config: FeaturesConfig, part: Part) -> None:
    """Encode this part's videos, 256 per file; existing files are not encoded again.

    Raises:
        UserError: as `features_command.run`.
    """
    extract(config, Console(highlight=False, soft_wrap=True), part)
