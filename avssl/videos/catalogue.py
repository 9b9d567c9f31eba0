"""Which videos a data set has, by its split files or its folders, and how that compares with what was published."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ..config import DataConfig
from .layout import Video, scan
from .match import MISSING, UNLISTED, Matched, match_annotations


@dataclass
class Catalogue:
    """The videos to index, the published counts by split (where known), and what the split files name (if given)."""

    videos: list[Video]
    expected: dict[str, int] = field(default_factory=dict)
    matched: Matched | None = None


def catalogue(data: DataConfig, folder: Path) -> Catalogue:
    """The videos below `data.root`. With `data.annotations`, the annotated ones; the rest is told of in CSV files in
    `folder`. UserError as `scan` and `match_annotations` raise it."""
    expected = data.card.expected(data.fold)
    if data.annotations is not None:
        matched = match_annotations(data, folder)
        return Catalogue(matched.videos, expected, matched)
    videos = scan(data)
    for name in (MISSING, UNLISTED):  # left from an index with annotations
        (folder / name).unlink(missing_ok=True)
    return Catalogue(videos, expected)


def count_table(data: DataConfig, listed: Catalogue, usable: dict[str, int]) -> Table | None:
    """By split: published, annotated, found and usable videos. None where nothing is known but what is there."""
    matched = listed.matched
    found = _found(listed)
    splits = sorted(found if matched is None else matched.annotated)
    if matched is None and not listed.expected.keys() & found.keys():
        return None
    table = Table(box=None, padding=(0, 2))
    for name in ("split", "published", *([] if matched is None else ["annotated"]), "found", "usable"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split in splits:
        published = listed.expected.get(split)
        told = "-" if published is None else f"{'about ' if data.card.about else ''}{published:,}"
        annotated = [] if matched is None else [f"{matched.annotated[split]:,}"]
        table.add_row(
            escape(split), told, *annotated, f"{found.get(split, 0):,}", f"[green]{usable.get(split, 0):,}[/]"
        )
    return table


def _found(listed: Catalogue) -> dict[str, int]:
    counts: dict[str, int] = {}
    for video in listed.videos:
        counts[video.split] = counts.get(video.split, 0) + 1
    return counts


def shortfalls(data: DataConfig, listed: Catalogue, usable: dict[str, int], folder: Path) -> Iterator[str]:
    """What is not there, in plain sentences."""
    matched, card = listed.matched, data.card
    for split in sorted(listed.expected.keys() & usable.keys()) if matched is None else sorted(matched.annotated):
        if matched is None:
            lacking = listed.expected[split] - usable[split]
            if lacking > 0:
                about = "about " if card.about else ""
                yield f"{split}: {lacking:,} fewer than the {about}{listed.expected[split]:,} published videos"
            continue
        lacking = matched.annotated[split] - matched.found[split]
        if lacking:
            share = 100 * lacking / matched.annotated[split]
            yield f"{split}: {lacking:,} of {matched.annotated[split]:,} annotated videos ({share:.1f} %) are not here"
    if matched is None:
        if card.files:
            official = card.file_names(data.fold)[0][1][0]
            yield (
                f"splits and classes are those of the folders; for {card.title}'s own, give "
                f"data.annotations=<folder of {official}> ({card.annotations_url})"
            )
        return
    if matched.annotated.total() > matched.found.total():
        yield f"annotated but not here: {folder / MISSING}"
    if matched.left_out:
        which = "other classes" if data.keep_classes else f"no split of fold {data.fold}"
        yield f"{_files(matched.left_out)} of {which}, and left out"
    if matched.unlisted:
        yield f"{_files(matched.unlisted)} not annotated, and left out: {folder / UNLISTED}"
    if card.classes and matched.classes != card.classes:
        yield f"{matched.classes} classes are annotated, {card.classes} were published"


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count:,} files are"
