"""How many processes are worth starting, and what fits into the memory."""

import os

from .errors import UserError


def available_cores() -> int:
    """Cores that this process may use: a scheduler's share of a machine, where the system tells it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_memory(option: str, wanted: float, what: str) -> None:
    """UserError, of `option`, where `what` takes `wanted` bytes, more than this machine tells that it has."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if wanted > there > 0:
        raise UserError(
            f"{option}: {what} would take {wanted / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f} GB of memory"
        )
