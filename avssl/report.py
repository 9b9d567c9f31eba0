"""What the benches share: a table on the terminal and in a folder, and what a process takes."""

from pathlib import Path

from rich.console import Console
from rich.table import Table


def report(console: Console, name: str, head: list[str], rows: list[list[str]], about: str, out: str | None) -> None:
    """The table on the terminal, and as Markdown in the folder `out` if there is one."""
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if about:
        console.print(about, highlight=False)
    if out:
        lines = [" | ".join(cells) for cells in (head, ["---"] * len(head), *rows)]
        Path(out).mkdir(parents=True, exist_ok=True)
        (Path(out) / f"{name}.md").write_text("".join(f"| {line} |\n" for line in lines) + f"\n{about}\n")


def process_memory(field: str, process: int | str = "self") -> float | None:
    """VmRSS or VmHWM of a process, bytes; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)
