"""The clustering table as text, for the terminal and the page."""

import math

from rich import box
from rich.table import Table

from ..core.plurals import counted, many, out_of
from ..core.screen import Console, unsigned_zero
from ..metrics.clustering import ClusteringTable, figure_row, mean_sd
from ..metrics.head_choice import MEASURES


def table_rows(table: ClusteringTable) -> tuple[list[str], list[list[str]]]:
    """The cells of the table as text.

    There is a row for each evidence and head, rows for the heads' mean and standard deviation, and one per baseline
    (k-means); fractions are in percent. A star marks the chosen head, a dagger the oracle. Transport cost and agreement
    of the modalities do not depend on the evidence, so only the rows of the first evidence have them.

    Returns:
        The headings, which may contain line breaks, and the rows.
    """
    columns = {
        "nmi": ("NMI", "{:.1%}"),
        "ami": ("AMI", "{:.1%}"),
        "ari": ("ARI", "{:.1%}"),
        "accuracy": ("acc.", "{:.1%}"),
        "purity": ("purity", "{:.1%}"),
        "entropy": ("entropy", "{:.2f}"),
        "used": ("used", "{:.1f}"),
        "size_entropy": ("size\nentropy", "{:.2f}"),
        "cost": ("cost", "{:.4f}"),
        "agreement": ("video\n= audio", "{:.1%}"),
    }
    by_head = {name: v for name, v in (("cost", table.transport_cost), ("agreement", table.agreement)) if v is not None}
    first = next(iter(table.evidence))
    names = [name for name in columns if name in by_head or name in figure_row(table.evidence[first][0])]
    rows = []
    for evidence, heads in table.evidence.items():
        several = len(heads) > 1
        lines, summary = [], table.summary(evidence)
        for f in heads:
            star = "*" * (several and f.head == table.chosen_head)
            dagger = "†" * (several and f.head == table.oracle_head(evidence))
            lines.append((f"{f.head}{star}{dagger}", figure_row(f) | {name: v[f.head] for name, v in by_head.items()}))
        if several:
            summary |= {name: mean_sd(v) for name, v in by_head.items()}
            lines += [
                (label, {name: pair[i] for name, pair in summary.items()}) for i, label in enumerate(("mean", "sd"))
            ]
        for label, values in lines:
            cells = [
                "" if name in by_head and evidence != first
                else _cell(name, columns[name][1], values[name], label not in ("mean", "sd")) for name in names
            ]  # fmt: skip
            rows.append([evidence, label, *cells])
    for kind, floors in table.floors.items():
        for name, f in floors:
            values = figure_row(f)
            rows.append([kind, name, *("" if n in by_head else _cell(n, columns[n][1], values[n]) for n in names)])
    return ["labels\nfrom", "head", *(columns[name][0] for name in names)], rows


def _cell(name: str, form: str, value: float, whole: bool = True) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if name == "used" and whole else unsigned_zero(form.format(value).removesuffix("%"))


def table_notes(table: ClusteringTable) -> str:
    """Units, the meaning of the marks, and the number of videos that are not counted, in one line."""
    notes = [f"{'NMI, AMI, ARI and shares' if table.has_classes else 'shares'} in %, entropies in nats"]
    if table.chosen_head is not None and len(next(iter(table.evidence.values()))) > 1:
        notes.append(f"* chosen without classes{f', by {MEASURES[table.chosen_by]}' if table.chosen_by else ''}")
    if any(len(heads) > 1 and table.oracle_head(name) is not None for name, heads in table.evidence.items()):
        notes.append("† oracle: the head with the best NMI; choosing it needs the classes")
    if table.undecodable:
        undecodable = out_of(table.undecodable, table.videos, table.files or table.videos)
        notes.append(f"{undecodable} could not be decoded and are not counted")
    if table.unclassified:
        notes.append(f"{table.unclassified:,} have no class")
    return "; ".join(notes)


def print_table(table: ClusteringTable, console: Console | None = None, split: str = "") -> None:
    """Print the table of the split `split` in 80 columns, to `console` or else to the terminal."""
    headings, rows = table_rows(table)
    grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for i, heading in enumerate(headings):
        grid.add_column(heading, justify="left" if i < 2 else "right", vertical="bottom")
    for i, row in enumerate(rows):
        last = i + 1 == len(rows) or rows[i + 1][0] != row[0]
        grid.add_row(
            row[0] if i == 0 or rows[i - 1][0] != row[0] else "",
            *row[1:],
            end_section=last and len(rows) > len(table.evidence) + len(table.floors),
        )
    console = console or Console()
    videos = counted(table.videos, table.files or table.videos)
    title = f"{split}: {videos}" if split else videos
    console.print(f"{title}, {many(table.clusters, 'cluster')}", style="bold", markup=False)
    console.print(grid)
    console.print(table_notes(table), style="dim", markup=False)
