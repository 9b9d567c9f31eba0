"""Labels as Python and notebooks show them: a list that prints as a table."""

from dataclasses import asdict
from html import escape
from typing import Any

from ..core.columns import columns
from ..core.printable import one_line
from .new_videos import Labelled

HEAD = ("path", "from s", "label", "name", "confidence", "note")

SHOWN = 50
"""Most rows that are shown."""


class LabelRows(list[Labelled]):
    """Labels of videos: a list of `Labelled`, one for each file, or for each window if the run has windows."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, with all their fields: for pandas, JSON or CSV."""
        return [asdict(row) for row in self]

    def __repr__(self) -> str:
        if not self:
            return "no labels"
        head, rows = self._table()
        more = f"\n… and {len(self) - SHOWN:,} more" if len(self) > SHOWN else ""
        return columns(head, [list(map(one_line, row)) for row in rows], right=_right(head)) + more

    def _repr_html_(self) -> str:
        head, rows = self._table()
        titles = "".join(f"<th>{escape(name)}</th>" for name in head)
        body = "".join(f"<tr>{''.join(f'<td>{escape(one_line(cell))}</td>' for cell in row)}</tr>" for row in rows)
        more = f"<p>… and {len(self) - SHOWN:,} more</p>" if len(self) > SHOWN else ""
        return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>{more}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """The headings and the cells of the first rows, without columns that are empty."""
        rows = [_cells(row) for row in self[:SHOWN]]
        kept = [i for i, name in enumerate(HEAD) if name in ("path", "label") or any(row[i] for row in rows)]
        return [HEAD[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _cells(row: Labelled) -> list[str]:
    start = f"{row.window_start:g}" if row.window_start else ""
    label = "" if row.label < 0 else str(row.label)
    confidence = "" if row.confidence is None else f"{row.confidence:.2f}"
    note = row.reason or ("none of these" if row.none_of_these else "")
    return [row.path, start, label, row.name or "", confidence, note]


def _right(head: list[str]) -> list[int]:
    return [i for i, name in enumerate(head) if name in ("from s", "label", "confidence")]
