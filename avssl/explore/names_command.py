"""The command that applies the names that the page downloads, for a shell."""

import shlex
from pathlib import Path

from ..config.run_names import RUNS


def names_command(run: str, out: str, names: str = "names.json") -> str:
    """The command, with words quoted if a shell needs it.

    The run is meant for good: by the name of its folder, not by its videos, whose newest run is another one tomorrow.

    Args:
        run: the run folder.
        out: the folder of the clusters.
        names: the file with the names.
    """
    folder = Path(run)  # a run in `RUNS` is named by its own name alone
    plain = folder.parent == RUNS and "=" not in folder.name and not folder.name.startswith("-")
    words = ["avssl", "clusters", folder.name if plain else f"run={run}"]
    if Path(out) != folder / "clusters":
        words.append(f"out={out}")
    return shlex.join([*words, f"names={names}"])
