"""The groups of presets, `group=choice`: the folders in `configs/` and the files in `data/`, each with its few words.

The files are read as lines: neither Hydra nor OmegaConf is imported, so that help and refusals are quick.
"""

import re
from pathlib import Path

from ..assets import assets_root

_GROUP = re.compile(r"\s+-\s+(?:optional\s+|override\s+)*/?(\w+):")
"""A group in the defaults of a primary config."""


def primary_name(command: str) -> str:
    """The name of the primary config of a command."""
    return command.replace(" ", "_")


def _folders() -> dict[str, Path]:
    root = assets_root()
    return {p.name: p for p in sorted((root / "configs").iterdir()) if p.is_dir()} | {"data": root / "data"}


def groups() -> dict[str, list[str]]:
    """The groups by name, each with the choices that `group=choice` accepts."""
    return {name: sorted(f.stem for f in folder.glob("*.yaml")) for name, folder in _folders().items()}


def used_groups(command: str, folder: Path | None = None) -> dict[str, list[str]]:
    """The groups that the primary config of `command` uses, with their choices.

    Args:
        command: the command.
        folder: of the primary configs; None is `configs/`.
    """
    path = (folder or assets_root() / "configs") / f"{primary_name(command)}.yaml"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    names = {found[1] for line in lines if (found := _GROUP.match(line))}
    return {name: choices for name, choices in groups().items() if name in names}


def described(group: str) -> dict[str, str]:
    """The choices of a group, each with the first comment of its file: a few words."""
    return {path.stem: _first_comment(path) for path in sorted(_folders()[group].glob("*.yaml"))}


def card_names() -> list[str]:
    """The names of published weights, as `avssl models` lists them."""
    return sorted(path.stem for path in (assets_root() / "models").glob("*.yaml"))


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            if not line.startswith("# @package"):
                return line.lstrip("# ").rstrip().removesuffix(".")
    return ""
