"""Tables on the terminal and in Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from .atomic import write_text
from .screen import Console


def report(console: Console, name: str, head: list[str], rows: list[list[str]], about: str, out: str | None) -> None:
    """Print a table and the text `about`, and write both to `name`.md in the folder `out`, if it is given."""
    table = Table(*head)
    table.columns[0].overflow = "fold"  # so that long names are not cut
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if about:
        console.print(about, highlight=False)
    if out:
        write_text(Path(out) / f"{name}.md", "\n".join([*markdown_table(head, rows), "", about]) + "\n")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = (head, ["---"] * len(head), *rows)
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines]
