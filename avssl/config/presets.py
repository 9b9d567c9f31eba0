"""The groups of presets, `group=choice`: the folders in `configs/` and the files in `data/`, each with its few words.

The user's own presets are in `configs/<group>/` of the working folder.

The files are read as lines: neither Hydra nor OmegaConf is imported, so that help and refusals are quick.
"""

import re
from pathlib import Path

from ..assets import assets_root

_GROUP = re.compile(r"\s+-\s+(?:optional\s+|override\s+)*/?(\w+):")
"""A group in the defaults of a primary config."""

_NAME = re.compile(r"[\w-]+", re.ASCII)
"""The name of a preset."""


def primary_name(command: str) -> str:
    """The name of the primary config of a command."""
    return command.replace(" ", "_")


def _folders() -> dict[str, Path]:
    root = assets_root()
    return {p.name: p for p in sorted((root / "configs").iterdir()) if p.is_dir()} | {"data": root / "data"}


def own_presets() -> Path | None:
    """The folder with groups of the user's own presets, `configs` in the working folder; None if there is none."""
    folder = Path("configs")
    try:
        is_own = folder.is_dir() and not folder.samefile(assets_root() / "configs")
        return folder.resolve() if is_own else None
    except OSError:
        return None


def _files(group: str, own: Path | None) -> dict[str, Path]:
    """The files of a group by choice, with those in the folder `own`; a choice of both is that of `configs/`."""
    folders = [] if own is None or group == "data" else [own / group]
    found: dict[str, Path] = {}
    for folder in (*folders, _folders()[group]):
        found |= {path.stem: path for path in folder.glob("*.yaml") if _NAME.fullmatch(path.stem) and path.is_file()}
    return dict(sorted(found.items()))


def shadowed(group: str, choice: str) -> Path | None:
    """The user's own preset that cannot be chosen, because `configs/` has the same choice; None if there is none."""
    own = own_presets()
    if own is None or choice not in _files(group, None):
        return None
    path = own / group / f"{choice}.yaml"
    return path.relative_to(own.parent) if path.exists() else None


def groups(own: bool = True) -> dict[str, list[str]]:
    """The groups by name, each with the choices that `group=choice` accepts. `own`: with the user's own."""
    folder = own_presets() if own else None
    return {name: [*_files(name, folder)] for name in _folders()}


def used_groups(command: str, folder: Path | None = None, own: bool = True) -> dict[str, list[str]]:
    """The groups that the primary config of `command` uses, with their choices.

    Args:
        command: the command.
        folder: of the primary configs; None is `configs/`.
        own: with the user's own presets.
    """
    path = (folder or assets_root() / "configs") / f"{primary_name(command)}.yaml"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    names = {found[1] for line in lines if (found := _GROUP.match(line))}
    return {name: choices for name, choices in groups(own).items() if name in names}


def described(group: str) -> dict[str, str]:
    """The choices of a group, each with the first comment of its file: a few words."""
    return {choice: _first_comment(path) for choice, path in _files(group, own_presets()).items()}


def card_names() -> list[str]:
    """The names of published weights, as `avssl models` lists them."""
    return sorted(path.stem for path in (assets_root() / "models").glob("*.yaml"))


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            if not line.startswith("# @package"):
                return line.lstrip("# ").rstrip().removesuffix(".")
    return ""
