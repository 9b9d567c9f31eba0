"""The videos of a data set, from its split files or its folders, compared with the published numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ..config import DataConfig
from .layout import Video, list_videos
from .match import MISSING, UNLISTED, Matched, match_annotations


@dataclass
class Catalogue:
    """The videos to index, the published counts by split if known, and the match with split files if given."""

    videos: Sequence[Video]
    expected: dict[str, int] = field(default_factory=dict)
    matched: Matched | None = None


def catalogue(data: DataConfig, folder: Path) -> Catalogue:
    """The videos below `data.root`; with `data.annotations`, only the annotated ones.

    CSV files in `folder` list annotated videos without a file, and files without an annotation. Raises UserError, as
    `list_videos` and `match_annotations` do.
    """
    expected = data.card.expected(data.fold)
    if data.annotations is not None:
        matched = match_annotations(data, folder)
        return Catalogue(matched.videos, expected, matched)
    videos = list_videos(data)
    for name in (MISSING, UNLISTED):  # left over from an earlier index with annotations
        (folder / name).unlink(missing_ok=True)
    return Catalogue(videos, expected)


def count_table(data: DataConfig, listed: Catalogue, usable: dict[str, int]) -> Table | None:
    """A table of published, annotated, found and usable videos per split; None for videos of no known data set."""
    matched = listed.matched
    counts = _found(listed)
    splits = sorted(counts if matched is None else matched.annotated)
    if matched is None and not listed.expected.keys() & counts.keys():
        return None
    table = Table(box=None, padding=(0, 2))
    for name in ("split", "published", *([] if matched is None else ["annotated"]), "found", "usable"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split in splits:
        published = listed.expected.get(split)
        number = "-" if published is None else f"{'about ' if data.card.about else ''}{published:,}"
        annotated = [] if matched is None else [f"{matched.annotated[split]:,}"]
        table.add_row(
            escape(split), number, *annotated, f"{counts.get(split, 0):,}", f"[green]{usable.get(split, 0):,}[/]"
        )
    return table


def _found(listed: Catalogue) -> dict[str, int]:
    counts: dict[str, int] = {}
    for video in listed.videos:
        counts[video.split] = counts.get(video.split, 0) + 1
    return counts


def shortfalls(data: DataConfig, listed: Catalogue, usable: dict[str, int], folder: Path) -> Iterator[str]:
    """Sentences about missing videos, and about files that are not used."""
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
            yield f"{split}: {lacking:,} of {matched.annotated[split]:,} annotated videos ({share:.1f} %) are missing"
    if matched is None:
        if card.files:
            official = card.file_names(data.fold)[0][1][0]
            yield (
                f"splits and classes come from the folders; for the official ones of {card.title}, give "
                f"data.annotations=<folder of {official}> ({card.annotations_url})"
            )
        return
    if matched.annotated.total() > matched.found.total():
        yield f"annotated but missing: {folder / MISSING}"
    if matched.left_out:
        which = "in other classes" if data.keep_classes else f"in no split of fold {data.fold}"
        yield f"{_files(matched.left_out)} {which}, and not used"
    if matched.unlisted:
        yield f"{_files(matched.unlisted)} not annotated, and not used: {folder / UNLISTED}"
    if card.classes and matched.classes != card.classes:
        yield f"{matched.classes} classes are annotated, but {card.classes} were published"


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count:,} files are"
