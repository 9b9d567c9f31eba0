"""What a run and the parts of another command have in common when they are submitted with sbatch."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..core.errors import UserError


def check_sbatch(found: str | None) -> None:
    """Raise UserError if there is no sbatch."""
    if found is None:
        raise UserError(
            "launch=slurm needs sbatch, which is not on this machine: use a login node of the cluster, or launch=local"
        )


def further_options(words: Iterable[str], renamed: Mapping[str, str]) -> dict[str, Any]:
    """The options in `launch.sbatch`, as sbatch calls them.

    Args:
        words: `name` or `name=value`, with or without dashes before it.
        renamed: the options of sbatch that have an option of avssl, each with that, or empty if avssl sets them.

    Raises:
        UserError: a word is no option of sbatch, or has an option of avssl.
    """
    further: dict[str, Any] = {}
    for word in words:
        key, _, value = word.removeprefix("--").partition("=")
        if not key or key.startswith("-"):
            raise UserError(
                f"launch.sbatch: '{word}' is not an option of sbatch: write them as "
                "\"launch.sbatch=[exclusive,'mail-type=END']\""
            )
        if renamed.get(key) == "":
            raise UserError(f"launch.sbatch: avssl sets {key} itself: omit it")
        if key in renamed:
            raise UserError(f"launch.sbatch: {key} has its own option: set {renamed[key]}")
        further[key] = value or True
    return further


def check_values(options: Mapping[str, Any]) -> None:
    """Raise UserError for an option with a line break or the like. It would end its line of the batch script, and the
    next line would be a command of the shell."""
    for name, value in options.items():
        if re.search(r"[\x00-\x1f\x7f]", str(value)):
            raise UserError(
                f"sbatch cannot take {name}={str(value)[:200]!r}: it has a line break or another control character"
            )


def rejected(text: str) -> UserError:
    """The error for what sbatch wrote when it rejected a job."""
    lines = [line for line in text.splitlines() if line.startswith("sbatch: ")] or text.splitlines()
    reasons = "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines)
    return UserError(f"sbatch rejected the job: {reasons}")


def environment() -> dict[str, str]:
    """The variables for sbatch: without those of a job, or of a launcher, in which this command may run."""
    hidden = ("SLURM_", "SLURMD_", "SRUN_", "PMI_", "PMIX_", "TORCHELASTIC_")
    ranks = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "AVSSL_PART", "AVSSL_PARENT", "AVSSL_ENDINGS")
    address = ("SLURM_CONF", "SLURM_CONF_SERVER")  # of SLURM's configuration
    return {k: v for k, v in os.environ.items() if k in address or not (k.startswith(hidden) or k in ranks)}


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in ascending order as sbatch writes an array: `0-3,7`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
