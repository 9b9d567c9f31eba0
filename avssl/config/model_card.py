"""The cards of published weights: their model, their source and their licence."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..assets import assets_root
from ..core.errors import UserError
from ..core.untrusted import read_yaml
from .option import nearest

LICENCE = (
    "Creative Commons Attribution-NonCommercial 4.0 (CC BY-NC 4.0), https://creativecommons.org/licenses/by-nc/4.0/: "
    "share and adapt with attribution, for non-commercial purposes only"
)
"""The licence of a card without one: the authors of both methods published their weights under it."""


@dataclass
class Card:
    """One file of `models/`."""

    method: str = MISSING
    family: str = MISSING
    """The convention of the state dict's keys: selavi or gdt."""
    data: str = MISSING
    """The data set that the model was trained on."""
    video: str = MISSING
    """The video encoder, as a value of `model.video`."""
    audio: str = MISSING
    """The audio encoder, as a value of `model.audio`; "none" if there is none."""
    heads: int = 0
    clusters: int = 0
    projection: int = 0
    """Width of the embedding that contrast compares; 0 if there is none."""
    page: str = MISSING
    """Address of the page that describes the model."""
    url: str = MISSING
    """Address of the file."""
    sha256: str | None = None
    """Checksum of the file; None if its authors published none."""
    paper: str = MISSING
    figures: dict[str, float] = field(default_factory=dict)
    """Results that the authors published, by task."""
    licence: str = LICENCE
    name: str = ""

    @property
    def architecture(self) -> str:
        encoders = [self.video] + ([self.audio] if self.audio != "none" else [])
        head = f"{self.heads} heads of {self.clusters}" if self.heads else f"projection to {self.projection}"
        return f"{' + '.join(encoders)}, {head}"


def card_files() -> dict[str, Path]:
    """Name and file of every card."""
    return {path.stem: path for path in sorted((assets_root() / "models").glob("*.yaml"))}


def find_card(name: str) -> Card:
    """The card called `name`. Raises UserError for an unknown name, or for a file that is not a card."""
    files = card_files()
    if name not in files:
        raise UserError(f"no published model is called {name}{nearest(name, list(files))} (`avssl models` lists them)")
    try:
        card = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Card), read_yaml(files[name])))
    except OmegaConfBaseException as error:
        raise UserError(f"{files[name]}: {str(error).splitlines()[0][:300]}") from None
    except OSError as error:
        raise UserError(f"{files[name]} cannot be read: {error.strerror}") from None
    assert isinstance(card, Card)
    card.name = name
    return card


def cached(name: str) -> Path:
    """The file of a card's fetched or converted weights, in `$AVSSL_CACHE` or else `~/.cache/avssl`."""
    cache = os.environ.get("AVSSL_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "avssl") / "models" / f"{name}.pt"


def weights_of(name: str) -> Path | None:
    """The file of a card's weights; None if no card has this name.

    Raises:
        UserError: the weights have been neither fetched nor converted.
    """
    if name not in card_files():
        return None
    path = cached(name)
    if not path.is_file():
        raise UserError(
            f"the weights of {name} are not on this machine: download them with `avssl models fetch {name}`, or, if "
            f"you have the file, run `avssl models convert {name} file=…`"
        )
    return path
