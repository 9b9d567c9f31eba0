"""The cores and the memory of this machine."""

import os

from .errors import UserError


def available_cores() -> int:
    """Cores that this process may use; under a scheduler, only those of its job, if the system reports them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_cores() -> int:
    """Cores of this process alone: its part of the machine's, if a launcher started several processes on it."""
    cores, task = available_cores(), os.environ.get("SLURM_CPUS_PER_TASK", "")
    if task.isdigit() and "TORCHELASTIC_RUN_ID" not in os.environ:  # srun gives each task cores of its own
        return max(1, min(cores, int(task)))
    here = os.environ.get("LOCAL_WORLD_SIZE", "")  # processes that torch's launcher started share their cores
    return max(1, cores // max(1, int(here) if here.isdigit() else 1))


def check_memory(option: str, needed: float, what: str) -> None:
    """Raise UserError about `option` if `what` needs more bytes than this machine has."""
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if needed > available > 0:
        raise UserError(
            f"{option}: {what} would take {needed / 1e9:,.0f} GB, and this machine has {available / 1e9:,.0f} GB of "
            f"memory"
        )
