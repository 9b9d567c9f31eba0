"""Tables as plain lines of at most 80 columns, whose first column is never cut: names that users copy are whole."""

from collections.abc import Sequence

from rich.cells import cell_len

WIDTH = 80
GAP = 2


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), width: int = WIDTH) -> str:
    """A table as text.

    Args:
        head: the headings.
        rows: the cells. A first cell that does not fit beside the others gets a line of its own.
        right: the columns whose cells are set to the right.
        width: of the lines, in columns of the terminal.
    """
    widths = [max(cell_len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    room = max(cell_len(head[0]), width - sum(widths[1:]) - GAP * (len(head) - 1))
    widths[0] = min(widths[0], room)
    lines = []
    for row in (head, *rows):
        cells = list(row)
        if cell_len(cells[0]) > widths[0]:
            lines.append(cells[0])
            cells[0] = ""
        padded = [_padded(cell, widths[i], i in right) for i, cell in enumerate(cells)]
        lines.append((" " * GAP).join(padded).rstrip())
    return "\n".join(lines)


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * max(0, width - cell_len(cell))
    return space + cell if right else cell + space
