"""The place of the folders that users read and edit: inside the wheel, or beside `avssl/` in a checkout."""

from pathlib import Path


def assets_root() -> Path:
    """The folder that contains `configs/`, `data/`, `models/` and `slurm/`."""
    installed = Path(__file__).parent
    return installed if (installed / "configs").is_dir() else installed.parents[1]
