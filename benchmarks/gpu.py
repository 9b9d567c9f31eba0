"""`python -m benchmarks gpu`: what a GPU does with avssl, on one page.

Each part runs in a process of its own with a time limit, so that a part that fails or hangs leaves the others whole.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avssl.core.atomic import write_json, write_text
from avssl.core.errors import UserError
from avssl.core.report import markdown_table
from avssl.core.screen import Console
from benchmarks.options import BenchGpuConfig

PARTS = {
    "machine": (60, "The machine"),
    "steps": (120, "Steps beside a bare PyTorch loop"),
    "memory": (60, "GPU memory"),
    "profile": (45, "Where a step's time goes"),
    "labelling": (45, "A labelling pass"),
    "solver": (120, "The solver"),
    "files": (60, "Files to decode"),
    "decode": (60, "Decoding, up to the device"),
    "waiting": (60, "Steps that wait for their clips"),
    "plan": (90, "What `avssl plan` said"),
}
"""The parts in their order: the longest time of each, s, and its heading. The functions are in `gpu_parts`."""

TOTAL = 600.0
"""Time for all parts together, s. Those that are then left are not begun."""

ENDING = 10.0
"""Time for a part's process to end by itself after its result, s."""

Record = dict[str, Any]
"""A row of a part's table, by the heads of its columns."""


@dataclass
class Found:
    """What a part found, or the reason why it found nothing."""

    records: list[Record] = field(default_factory=list)
    about: str = ""
    error: str = ""
    seconds: float = 0.0


def main(config: BenchGpuConfig) -> dict[str, Found]:
    """Run the parts, write gpu.md and gpu.json to `out`, and print the page. Raises UserError without a GPU."""
    console, began = Console(highlight=False, soft_wrap=True), time.monotonic()
    found: dict[str, Found] = {}
    with TemporaryDirectory(prefix="avssl_gpu_") as folder:
        for name in ["machine", *(part for part in PARTS if part in config.parts)]:
            left = TOTAL - (time.monotonic() - began)
            found[name] = run_part(name, config, folder, found, min(PARTS[name][0], left))
            if name == "machine" and found[name].error:
                raise UserError(found[name].error)
            outcome = found[name].error or f"{found[name].seconds:.0f} s"
            console.note(f"{name}: {outcome}")
            _write(config, found)  # after each part, so that an interrupted benchmark leaves what it had
    console.print("\n".join(page(config, found)), markup=False)
    return found


def run_part(name: str, config: BenchGpuConfig, folder: str, before: dict[str, Found], limit: float) -> Found:
    """Run a part in a process of its own, for at most `limit` seconds. Its errors are in what it returns."""
    if limit <= 0:
        return Found(error=f"not begun: all parts together have {TOTAL:.0f} s")
    # forked from a process that has imported torch, but has not touched the GPU
    context: Any = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.gpu_parts"])
    ours, theirs = context.Pipe(duplex=False)
    began, found = time.monotonic(), Found()
    process = context.Process(target=_child, args=(theirs, name, config, folder, before))
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(limit) else Found(error=f"stopped after {limit:.0f} s")
    except EOFError:
        process.join()
        found = Found(error=f"its process ended with status {process.exitcode}")
    finally:
        ours.close()
        process.join(ENDING if found.records else 0)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # the decoding processes too
        process.kill()
        process.join()
    found.seconds = time.monotonic() - began
    return found


def _child(results: Connection, name: str, config: BenchGpuConfig, folder: str, before: dict[str, Found]) -> None:
    os.setsid()
    from benchmarks import gpu_parts

    try:
        records, about = getattr(gpu_parts, name)(gpu_parts.Job(config, Path(folder), before))
        found = Found(records, about)
    except BaseException as error:
        text = " ".join(str(error).split())
        found = Found(error=text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"[:300])
    results.send(found)


def page(config: BenchGpuConfig, found: dict[str, Found]) -> list[str]:
    """The lines of the page."""
    size = "small sizes, of which the figures mean nothing" if config.quick else "full sizes"
    lines = ["# avssl on a GPU", "", f"`python -m benchmarks gpu`, {size}."]
    for name, part in found.items():
        lines += ["", f"## {PARTS[name][1]}", ""]
        if part.error:
            lines.append(f"Not measured: {part.error}.")
        if part.records:
            head = list(dict.fromkeys(key for record in part.records for key in record))
            lines += markdown_table(head, [[cell(record.get(key, "")) for key in head] for record in part.records])
        if part.about:
            lines += ["", part.about]
    return lines


def cell(value: Any) -> str:
    """A value of a table: numbers with three digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _write(config: BenchGpuConfig, found: dict[str, Found]) -> None:
    if config.out is None:
        return
    folder = Path(config.out)
    write_text(folder / "gpu.md", "\n".join(page(config, found)) + "\n")
    write_json(folder / "gpu.json", {"options": asdict(config), **{name: asdict(part) for name, part in found.items()}})
