"""How much memory a process takes."""

from pathlib import Path


def process_memory(field: str, process: int | str = "self") -> float | None:
    """VmRSS, VmHWM or another such line of a process's status, bytes; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)
