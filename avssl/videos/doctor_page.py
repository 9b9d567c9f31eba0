"""`avssl doctor`: report the state of a data set on the terminal, on a page, and file by file in a table."""

from contextlib import suppress
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from rich.markup import escape as unmarked
from rich.table import Table

from ..config import DoctorConfig, IndexConfig
from ..core.atomic import write_text
from ..core.errors import UserError
from ..core.json_output import prints_json
from ..core.screen import Console, one_line
from .auto import sentence
from .doctor import FIXES, REJECTS, Health, Report, examine
from .index import NothingUsableError, index_videos
from .index_options import as_indexed_before, root_of, tell_if_older

WORST = 8
"""Number of classes shown on the terminal."""

WORST_ON_PAGE = 500

ALARM = "results on that split are too good until you delete the files listed as leak"


def document(config: DoctorConfig, report: Report) -> dict[str, Any]:
    """What `avssl doctor json=true` prints."""

    def counts(h: Health) -> dict[str, int]:
        return {"files": h.files, "usable": h.usable, "with_warnings": h.warned, "rejected": h.rejected}

    total = report.total
    return {
        "root": str(report.root),
        "index": str(report.folder),
        "page": str(report.folder / "doctor.html"),
        "file_by_file": str(report.folder / "doctor.csv"),
        "duplicates_searched": report.compared,
        **counts(total),
        "splits": {split: counts(h) for split, h in report.splits.items()},
        "findings": [
            {
                "finding": verdict,
                "files": total.verdicts[verdict],
                "rejected": verdict in REJECTS,
                "what_to_do": _fix(verdict),
            }
            for verdict in _ordered(total)
        ],
    }


@prints_json(document)
def run(config: DoctorConfig) -> Report:
    """Index new files below `data.root`, if it is given, examine the index, and print a report."""
    console = Console(highlight=False)
    report = examine(config, _root(config))
    page = write_page(report.folder / "doctor.html", report, config.data.name)
    print_report(console, report, config.data.name)
    console.print(f"page: {page}", soft_wrap=True, markup=False)
    console.print(f"all findings, file by file: {report.folder / 'doctor.csv'}", soft_wrap=True, markup=False)
    if line := sentence(config.data):
        console.print(line, soft_wrap=True, markup=False)
    return report


def _root(config: DoctorConfig) -> Path:
    """The folder of the videos. Its index is updated first if `data.root` is given."""
    if config.data.root:
        with suppress(NothingUsableError):  # the report shows it
            index_videos(IndexConfig(as_indexed_before(config.data), config.clip_seconds, config.workers))
        return Path(config.data.root)
    root = root_of(config.data.index)
    if root is None:
        raise UserError(
            f"there is no index in {config.data.index}: run `avssl doctor my_videos`, which indexes the videos first, "
            f"or give data.index=…"
        )
    tell_if_older(config.data.index)
    return root


def plain(text: str) -> str:
    """A text from files, such as a file name, made safe for the console, on one line."""
    return unmarked(one_line(text))


def print_report(console: Console, report: Report, name: str) -> None:
    """Print at most one screen: files by split, findings, and the worst classes."""
    total = report.total
    console.print(f"[bold]{plain(name)}[/]  {_facts(total)}\n", soft_wrap=True)
    if leaks := total.verdicts["leak"]:
        console.print(f"[bold red]LEAK: {_files(leaks)} of one split {_are(leaks)} in another[/]: {ALARM}\n")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("split", "files", "usable", "with warnings", "rejected"):
        table.add_column(heading, justify="left" if heading == "split" else "right", header_style="dim")
    for split, h in report.splits.items():
        table.add_row(plain(split), f"{h.files:,}", f"{h.usable:,}", f"{h.warned:,}", _red(h.rejected))
    console.print(table)
    verdicts = _ordered(total)
    if verdicts:
        console.print()
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("found", no_wrap=True, header_style="dim")
        table.add_column("files", no_wrap=True, justify="right", header_style="dim")
        table.add_column("what to do", header_style="dim")
        for verdict in verdicts:
            color = "red" if verdict in REJECTS or verdict == "leak" else "yellow"
            table.add_row(f"[{color}]{plain(verdict)}[/]", f"{total.verdicts[verdict]:,}", plain(_fix(verdict)))
        console.print(table)
    worst = [entry for entry in report.worst_classes() if entry[2].verdicts]
    if worst and len(report.classes) > len(report.splits):
        console.print()
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("worst classes", "rejected", "with warnings", "mostly"):
            right = heading in ("rejected", "with warnings")
            table.add_column(heading, justify="right" if right else "left", header_style="dim", no_wrap=True)
        for split, label, h in worst[:WORST]:
            table.add_row(
                plain(f"{split}/{_class(label)}"), f"{h.rejected:,} of {h.files:,}", f"{h.warned:,}", plain(_mostly(h))
            )
        console.print(table)
        if rest := [h for _, _, h in worst[WORST:]]:
            rejected, warned = sum(h.rejected for h in rest), sum(h.warned for h in rest)
            console.print(
                f"[dim]and {len(rest):,} more with {rejected:,} rejected files and {warned:,} with warnings[/]"
            )
    if not verdicts:
        console.print("\n[green]no findings[/]")
    console.print()


def write_page(path: str | Path, report: Report, name: str) -> Path:
    """Write the report as one HTML file without scripts and network requests. Names are escaped."""
    assets = files("avssl.videos")
    sheets = files("avssl.core") / "page.css", assets / "doctor.css"
    style = "".join(sheet.read_text("utf-8") for sheet in sheets)
    total = report.total
    worst = report.worst_classes()
    leaks = total.verdicts["leak"]
    alarm = f'<p class="alarm"><b>{_files(leaks)} of one split {_are(leaks)} in another:</b> {escape(ALARM)}</p>'
    splits = "".join(_row(split, h) for split, h in report.splits.items())
    classes = "".join(_row(f"{split}/{_class(label)}", h, _mostly(h)) for split, label, h in worst[:WORST_ON_PAGE])
    more = f'<p class="note">and {len(worst) - WORST_ON_PAGE:,} more</p>' if len(worst) > WORST_ON_PAGE else ""
    text = Template((assets / "doctor.html").read_text("utf-8")).substitute(
        style=style,
        name=escape(name),
        root=escape(str(report.root)),
        facts="".join(f"<li>{fact}</li>" for fact in _facts(total).split(", ")),
        alarm=alarm if leaks else "",
        splits=splits,
        findings="".join(_verdict(report, verdict, total) for verdict in _ordered(total))
        or '<p class="note">No findings.</p>',
        classes=classes,
        more=more,
        compared="" if report.compared else "Contents were not compared (duplicates=false). ",
    )
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))
    return Path(path)


def _verdict(report: Report, verdict: str, total: Health) -> str:
    """A verdict with a few of its files, collapsed."""
    kind = "reject" if verdict in REJECTS or verdict == "leak" else "warning"
    shown = report.examples.get(verdict, [])
    count = total.verdicts[verdict]
    items = "".join(
        f"<li><span>{escape(finding.split)}/{escape(_class(finding.class_name))}</span> "
        f"<b>{escape(finding.path)}</b> {escape(finding.detail)}</li>"
        for finding in shown
    )
    rest = f"<li>and {count - len(shown):,} more in doctor.csv</li>" if count > len(shown) else ""
    return (
        f'<details class="{kind}"><summary><b>{escape(verdict)}</b> <span class="number">{_files(count)}:</span> '
        f"{escape(_fix(verdict))}</summary><ul>{items}{rest}</ul></details>"
    )


def _row(name: str, h: Health, last: str | None = None) -> str:
    cells = "".join(f"<td>{count:,}</td>" for count in (h.files, h.usable, h.warned, h.rejected))
    share = h.rejected / h.files if h.files else 0.0
    bar = f'<td class="share"><i style="--share:{share:.3f}"></i></td>'
    mostly = f"<td>{escape(last)}</td>" if last is not None else ""
    return f'<tr><th scope="row">{escape(name)}</th>{cells}{bar}{mostly}</tr>'


def _facts(total: Health) -> str:
    return (
        f"{_files(total.files)}, {total.usable:,} usable, {total.warned:,} of them with warnings, "
        f"{total.rejected:,} rejected"
    )


def _ordered(total: Health) -> list[str]:
    """The verdicts of the files: leaks first, then in the order of `FIXES`."""
    order = ["leak", *(verdict for verdict in FIXES if verdict != "leak")]
    return [v for v in [*order, *sorted(total.verdicts.keys() - FIXES.keys())] if total.verdicts[v]]


def _fix(verdict: str) -> str:
    return FIXES.get(verdict, "")


def _mostly(health: Health) -> str:
    return ", ".join(f"{verdict} {count:,}" for verdict, count in health.verdicts.most_common(3))


def _class(name: str | None) -> str:
    return "(no class)" if name is None else name


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _are(count: int) -> str:
    return "are" if count != 1 else "is"


def _red(count: int) -> str:
    return f"[red]{count:,}[/]" if count else "0"
