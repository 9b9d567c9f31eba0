"""`avssl index`, the command: index the videos and print the result."""

import shlex
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from ..config import IndexConfig
from ..core.json_output import prints_json
from ..core.plurals import many, out_of
from ..core.screen import Console, one_line
from ..core.verbosity import is_verbose
from .catalogue import count_table, shortfalls
from .index import IndexReport, index_videos
from .repeat import keeping_silent

MIN_FILES_FOR_RATE = 100  # with fewer files no speed is printed, because most of the time is the start of the processes


def document(config: IndexConfig, report: IndexReport) -> dict[str, Any]:
    """What `avssl index json=true` prints."""
    return {
        "root": config.data.root,
        "index": str(report.folder),
        "splits": {name: {"videos": count, "rows": report.rows[name]} for name, count in report.videos.items()},
        "rejected": report.rejects,
        "rejects": str(report.folder / "rejects.csv") if report.rejects else None,
        "too_short_for_two_clips": report.short,
        "probed_files": report.probed,
        "probing_seconds": report.seconds,
        "probing_cpu_seconds": report.cpu,
    }


@prints_json(document)
def run(config: IndexConfig) -> IndexReport:
    """Index the videos, and print the result."""
    console = Console(highlight=False)
    report = index_videos(config)
    counts = None if report.catalogue is None else count_table(config.data, report.catalogue, report.videos)
    if counts is not None:
        console.print(counts)
    if counts is None or report.rejects or report.rows != report.videos:
        console.print(report_table(report))
    if report.catalogue is not None:
        for line in shortfalls(config.data, report.catalogue, report.videos, report.folder):
            console.print(line, soft_wrap=True, markup=False)
    if report.short and is_verbose():  # of interest to those who contrast time shifts alone
        shortest = 2 * config.clip_seconds
        short = out_of(report.short, sum(report.rows.values()), sum(report.videos.values()))
        console.print(
            f"{short} are shorter than {shortest:g} s, too short for two clips "
            f"of {config.clip_seconds:g} s without overlap (only contrast.axes.time_shift=distinct needs two; "
            f"data.min_seconds={shortest:g} rejects these videos)",
            soft_wrap=True,
        )
    if report.probed:
        rate = f": {report.probed / report.seconds:.0f} per second"
        each = f", {report.probed / report.cpu:.0f} per second of one core" if report.cpu else ""
        rates = rate + each if report.probed >= MIN_FILES_FOR_RATE else ""
        console.note(f"probed {many(report.probed, 'file')} in {report.seconds:.1f} s{rates}")
    console.print(f"index: {one_line(report.folder)}", soft_wrap=True, markup=False)
    if report.rejects:
        console.print(
            f"rejected files and reasons: {one_line(report.folder / 'rejects.csv')}", soft_wrap=True, markup=False
        )
    if report.rejects.get("no sound"):
        console.note(one_line(keeping_silent(config)))
    root = config.data.root
    if report.folder == Path("index") / Path(root).name:  # where `avssl train` looks for it
        console.note(f"next: avssl train {shlex.quote(root)}")
    return report


def report_table(report: IndexReport) -> Table:
    """Usable videos by split, and rejects by reason."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    for split, count in report.videos.items():
        windows = f" in {report.rows[split]:,} windows" if report.rows[split] != count else ""
        table.add_row(f"[green]{escape(one_line(split))}[/]", f"{count:,} usable{windows}")
    for reason in report.rejects:
        table.add_row(f"[red]{reason}[/]", f"{report.rejected(reason)} rejected")
    return table
