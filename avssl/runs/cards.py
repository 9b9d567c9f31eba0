"""The cards of published weights: what they are, where they are published, under which licence."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..assets import assets_root
from ..config.compose import nearest
from ..core.errors import UserError
from ..core.untrusted import read_yaml

LICENCE = (
    "Creative Commons Attribution-NonCommercial 4.0 (CC BY-NC 4.0), https://creativecommons.org/licenses/by-nc/4.0/: "
    "share and adapt with attribution, for non-commercial purposes alone"
)
"""Of the weights that have no other one on their card: both methods' were published under it."""


@dataclass
class Card:
    """One file of `models/`."""

    method: str = MISSING
    family: str = MISSING
    """How its keys are named: selavi or gdt."""
    data: str = MISSING
    """What it was trained on."""
    video: str = MISSING
    """The encoder, as `model.video`."""
    audio: str = MISSING
    """The encoder, as `model.audio`; none for none."""
    heads: int = 0
    clusters: int = 0
    projection: int = 0
    """Width of the embedding that the contrast compares; 0 for none."""
    page: str = MISSING
    """Where it was published."""
    url: str = MISSING
    """Of the file."""
    sha256: str | None = None
    """Of the file; None where its authors give none."""
    paper: str = MISSING
    figures: dict[str, float] = field(default_factory=dict)
    """As published."""
    licence: str = LICENCE
    name: str = ""

    @property
    def architecture(self) -> str:
        parts = [self.video] + ([self.audio] if self.audio != "none" else [])
        ends = f"{self.heads} heads of {self.clusters}" if self.heads else f"projection to {self.projection}"
        return f"{' + '.join(parts)}, {ends}"


def card_files() -> dict[str, Path]:
    """Name and file of every card."""
    return {path.stem: path for path in sorted((assets_root() / "models").glob("*.yaml"))}


def find_card(name: str) -> Card:
    """The card of a name. UserError for an unknown one, or a file that is no card."""
    known = card_files()
    if name not in known:
        raise UserError(f"no published model {name}{nearest(name, list(known))} (avssl models lists them)")
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Card), read_yaml(known[name])))
    except OmegaConfBaseException as error:
        raise UserError(f"{known[name]}: {str(error).splitlines()[0][:300]}") from None
    except OSError as error:
        raise UserError(f"{known[name]} cannot be read: {error.strerror}") from None
    assert isinstance(found, Card)
    found.name = name
    return found


def cached(name: str) -> Path:
    """Where the weights of a card are kept once they are fetched or converted: below `$AVSSL_CACHE`, or else
    `~/.cache/avssl`."""
    given = os.environ.get("AVSSL_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "avssl") / "models" / f"{name}.pt"


def weights_of(name: str) -> Path | None:
    """The file of a card's weights; None for a name that no card has. UserError where they are not here yet."""
    if name not in card_files():
        return None
    path = cached(name)
    if not path.is_file():
        raise UserError(
            f"the weights of {name} are not here yet: avssl models fetch name={name} gets them, "
            f"or avssl models convert name={name} file=… takes a file that you have"
        )
    return path
