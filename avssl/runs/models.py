"""`avssl models`: list, describe, download and convert published weights."""

from pathlib import Path

from rich.table import Column, Table

from ..config import ModelsConfig, ModelsConvertConfig, ModelsFetchConfig, ModelsShowConfig
from ..config.model_card import Card, cached, card_files, find_card
from ..core.atomic import atomic_path
from ..core.errors import UserError
from ..core.screen import Console
from .fetch import fetch as fetch_file


def run(config: ModelsConfig) -> None:
    """Print the list of published models."""
    table = Table(Column("name", no_wrap=True), "method, data", "published, %", "here", box=None, padding=(0, 2, 0, 0))
    for name in card_files():
        card = find_card(name)
        first = [f"{what.split(',')[0].split(' of ')[0]} {value:g}" for what, value in list(card.figures.items())[:1]]
        table.add_row(name, f"{card.method}, {card.data}", *first, "yes" if cached(name).is_file() else "")
    console = Console(highlight=False)
    console.print(table)
    console.print("`avssl models show NAME` prints more; the licences allow only non-commercial use", markup=False)


def show(config: ModelsShowConfig) -> None:
    """Print one card. Raises UserError for an unknown name."""
    from .open import PUBLISHED_CLIPS  # takes seconds to import

    card, console = find_card(config.name), Console(highlight=False, soft_wrap=True)
    here = cached(card.name)
    rows = [
        ("model", f"{card.name}: {card.method} trained on {card.data}"), ("encoders", card.architecture),
        ("clips", " ".join(PUBLISHED_CLIPS[card.family])), ("paper", card.paper), ("page", card.page),
        ("file", card.url),
        ("sha256", card.sha256 or "not published; fetching needs sha256=…"), ("licence", card.licence),
        ("here", str(here) if here.is_file() else "no"),
        *(("published", f"{what.removesuffix(', %')} {value:g} %") for what, value in card.figures.items()),
    ]  # fmt: skip
    for what, text in rows:
        console.print(f"{what:10}{text}", markup=False)


def fetch(config: ModelsFetchConfig) -> Path:
    """Fetch the weights of a card, check them, convert them, and return the file.

    Raises:
        UserError: the licence is not accepted, no checksum is known, or the download fails or has the wrong contents.
    """
    card, console = find_card(config.name), Console(highlight=False, soft_wrap=True)
    sha256 = (config.sha256 or card.sha256 or "").lower()
    path = cached(card.name)
    show_licence(card, console)
    if path.is_file():
        console.print(f"already fetched: {path}", markup=False)
        return path
    if not config.accept_licence:
        raise UserError(f"to fetch {card.name}, accept its licence with accept_licence=true")
    if not sha256:
        raise UserError(
            f"the authors of {card.name} published no checksum, without which nothing is fetched: give sha256=… of a "
            f"copy that you trust, or run `avssl models convert {card.name} file=…`"
        )
    part = path.with_name(f".{card.name}.{sha256[:16]}.part")  # so that the download of another file is not resumed
    fetch_file(config.url or card.url, part, sha256, config.timeout)
    try:
        convert_file(card, part, path)
    except UserError as error:
        part.unlink()
        raise UserError(f"{config.url or card.url} has the expected sha256, but {error}; it was removed") from None
    part.unlink()
    console.print(f"weights   {path}", markup=False)
    return path


def convert(config: ModelsConvertConfig) -> Path:
    """Convert a file to the weights of a card, and return the file that `avssl.load` reads.

    Raises:
        UserError: the file contains the weights of another model.
    """
    card, console = find_card(config.name), Console(highlight=False, soft_wrap=True)
    show_licence(card, console)
    path = Path(config.out) if config.out else cached(card.name)
    if path.resolve() == Path(config.file).resolve():
        raise UserError(f"out={config.out} is the input file: choose another")
    convert_file(card, Path(config.file), path)
    console.print(f"weights   {path}", markup=False)
    return path


def show_licence(card: Card, console: Console) -> None:
    console.print(f"licence   {card.licence}", markup=False)


def convert_file(card: Card, file: Path, path: Path) -> None:
    """Write only the weights of a published checkpoint to `path`.

    Raises:
        UserError: the file contains the weights of another model.
    """
    import torch

    from ..models.zoo import load_published, published_state

    family, model = load_published(file)
    state = published_state(file)
    projection = model.projections["video"].out.weight.shape[1] if model.projections else 0
    actual = (family, "audio" in model.encoders, model.cluster_head_count, model.clusters, projection)
    expected = (card.family, card.audio != "none", card.heads, card.clusters, card.projection)
    if actual != expected:
        raise UserError(f"{file} is not {card.name}: it is {_words(*actual)}, not {_words(*expected)}")
    with atomic_path(path, sweep=True) as temporary:
        torch.save({"model": state, "epoch": 0, "name": card.name}, temporary)


def _words(family: str, audio: bool, heads: int, clusters: int, projection: int) -> str:
    head = f"{heads} heads of {clusters} clusters" if heads else f"a projection to {projection}"
    return f"{family} for {'video and audio' if audio else 'video alone'} with {head}"
