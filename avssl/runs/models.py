"""`avssl models`: the published weights; what one is, its file from the web, and its file from a disk."""

from pathlib import Path

from rich.table import Column, Table

from ..config import ModelsConfig, ModelsConvertConfig, ModelsFetchConfig, ModelsShowConfig
from ..core.atomic import atomic_path
from ..core.errors import UserError
from ..core.screen import Console
from .cards import Card, cached, card_files, find_card
from .fetch import fetch as fetch_file


def run(config: ModelsConfig) -> None:
    """List them."""
    table = Table(Column("name", no_wrap=True), "method, data", "published, %", "here", box=None, padding=(0, 2, 0, 0))
    for name in card_files():
        card = find_card(name)
        first = [f"{what.split(',')[0].split(' of ')[0]} {value:g}" for what, value in list(card.figures.items())[:1]]
        table.add_row(name, f"{card.method}, {card.data}", *first, "yes" if cached(name).is_file() else "")
    console = Console(highlight=False)
    console.print(table)
    console.print("avssl models show name=… tells more; licences are for non-commercial use", markup=False)


def show(config: ModelsShowConfig) -> None:
    """All of one card. UserError for an unknown name."""
    from .open import PUBLISHED_CLIPS  # imports what takes seconds

    card, console = find_card(config.name), Console(highlight=False, soft_wrap=True)
    here = cached(card.name)
    rows = [
        ("model", f"{card.name}: {card.method} trained on {card.data}"), ("encoders", card.architecture),
        ("clips", " ".join(PUBLISHED_CLIPS[card.family])), ("paper", card.paper), ("page", card.page),
        ("file", card.url),
        ("sha256", card.sha256 or "not published: sha256=… must be given to fetch it"), ("licence", card.licence),
        ("here", str(here) if here.is_file() else "no"),
        *(("published", f"{what.removesuffix(', %')} {value:g} %") for what, value in card.figures.items()),
    ]  # fmt: skip
    for what, text in rows:
        console.print(f"{what:10}{text}", markup=False)


def fetch(config: ModelsFetchConfig) -> Path:
    """Fetch the weights of a card, check them, and convert them; returns the file.

    UserError where the licence is not accepted, no checksum is known, or the file cannot be had or is another one.
    """
    card, console = find_card(config.name), Console(highlight=False, soft_wrap=True)
    sha256 = (config.sha256 or card.sha256 or "").lower()
    path = cached(card.name)
    show_licence(card, console)
    if path.is_file():
        console.print(f"here already: {path}", markup=False)
        return path
    if not config.accept_licence:
        raise UserError(f"the licence of {card.name} is to be accepted first: accept_licence=true")
    if not sha256:
        raise UserError(
            f"no checksum of {card.name} is published, and nothing is fetched without one: give sha256=… of a copy "
            f"that you trust, or a file to avssl models convert"
        )
    part = path.with_name(f".{card.name}.{sha256[:16]}.part")  # another file's part is not gone on with
    fetch_file(config.url or card.url, part, sha256, config.timeout)
    try:
        convert_file(card, part, path)
    except UserError as error:
        part.unlink()
        raise UserError(f"the file of {config.url or card.url} has that sha256, but {error}; it is removed") from None
    part.unlink()
    console.print(f"weights   {path}", markup=False)
    return path


def convert(config: ModelsConvertConfig) -> Path:
    """Take a card's weights from a file; returns the file that `avssl.load` takes. UserError for another model's."""
    card, console = find_card(config.name), Console(highlight=False, soft_wrap=True)
    show_licence(card, console)
    path = Path(config.out) if config.out else cached(card.name)
    if path.resolve() == Path(config.file).resolve():
        raise UserError(f"out={config.out} is the file itself, which is left as it is: choose another")
    convert_file(card, Path(config.file), path)
    console.print(f"weights   {path}", markup=False)
    return path


def show_licence(card: Card, console: Console) -> None:
    console.print(f"licence   {card.licence}", markup=False)


def convert_file(card: Card, file: Path, path: Path) -> None:
    """Write the weights of a published checkpoint, and nothing else of it, to `path`. UserError for another model's."""
    import torch

    from .zoo import load_published, published_state

    family, model = load_published(file)
    state = published_state(file)
    projection = model.projections["video"].out.weight.shape[1] if model.projections else 0
    found = (family, "audio" in model.encoders, model.cluster_head_count, model.clusters, projection)
    expected = (card.family, card.audio != "none", card.heads, card.clusters, card.projection)
    if found != expected:
        raise UserError(f"{file} is not {card.name}: it is {_words(*found)}, not {_words(*expected)}")
    with atomic_path(path, sweep=True) as temporary:
        torch.save({"model": state, "epoch": 0, "name": card.name}, temporary)


def _words(family: str, sound: bool, heads: int, clusters: int, projection: int) -> str:
    ends = f"{heads} heads of {clusters} clusters" if heads else f"a projection to {projection}"
    return f"{family} of {'video and sound' if sound else 'video alone'} with {ends}"
