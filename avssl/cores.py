"""How many processes are worth starting."""

import os


def available_cores() -> int:
    """Cores that this process may use: a scheduler's share of a machine, where the system tells it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
