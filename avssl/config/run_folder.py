"""The run folder: write its config, package versions and git state, and read the config back."""

import platform
import re
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..core.atomic import write_json, write_text
from ..core.errors import UserError
from ..core.out_folder import check_same
from ..core.untrusted import read_json, read_yaml
from ..core.version import __version__
from . import TrainConfig
from .from_file import from_plain
from .model import MODALITIES
from .renamed import translated_run

INIT = "init.json"
"""The file of a run folder that records its starting weights."""

NON_COMMERCIAL = re.compile(r"non-?commercial|\bnc\b", re.IGNORECASE)
"""Matches the text of a licence that forbids commercial use."""

FREE = {
    "out", "device", "workers", "threads", "save_seconds", "log_steps", "contrast.block", "compile", "clip.cache_mb",
    "clip.given", "model.given", "data.features", "auto", "auto_reasons",
    "data.root", "data.name", "data.reading.probe_timeout", "monitor.times", "monitor.videos",
}  # fmt: skip
"""Options that may change when a run is resumed, because they do not change what it computes."""


def check_run_folder(config: TrainConfig) -> None:
    """Raise UserError if the run folder of `config` contains a run with another config."""
    folder = Path(config.out)
    if (folder / "config.yaml").exists():
        before, now = _flat(asdict(read_config(folder))), _flat(asdict(config))
        kept = {k: x for k, x in now.items() if k not in FREE and not k.startswith("launch.")}
        check_same(folder, "a run", _shown(before), _shown(kept))


def make_run_folder(config: TrainConfig) -> Path:
    """Make the run folder of `config`, unless it exists.

    Raises:
        UserError: the folder contains a run with another config, or it cannot be made.
    """
    check_run_folder(config)
    folder = Path(config.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}; choose another with out=…") from None
    return folder


def write_config(config: TrainConfig) -> None:
    """Write the resolved config and the package versions to the run folder. The caller has claimed the folder."""
    folder = Path(config.out)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    write_json(folder / "versions.json", _versions())


def read_config(folder: Path) -> TrainConfig:
    """The config of the run in `folder`.

    The folder may come from somebody else. Its values are checked like those of a command, and `${…}` is not resolved.

    Raises:
        UserError: there is no config.yaml, or one of its options or values is invalid.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is not a run folder (no config.yaml): give the folder that `avssl train` wrote")
    try:
        return from_plain(TrainConfig, translated_run(read_yaml(path)), path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def licences(run: Path) -> dict[str, str]:
    """The licence of the weights that each encoder of a run started from, by modality; empty for random weights."""
    try:
        encoders = read_json(run / INIT)["encoders"]
        return {name: str(encoders[name]["licence"])[:500] for name in MODALITIES.split() if name in encoders}
    except FileNotFoundError:
        return {}
    except (OSError, UserError, KeyError, TypeError):
        return dict.fromkeys(MODALITIES.split(), f"unknown: {run / INIT} is damaged")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _shown(flat: dict[str, Any]) -> dict[str, Any]:
    """Options under the names that users write: `data.reading.*` of a run is `data.*` of `avssl index`."""
    return {name.replace(".reading.", "."): value for name, value in flat.items()}


def _versions() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in ("torch", "torchvision", "torchaudio", "av", "numpy", "scikit-learn", "scipy", "pyarrow"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {"avssl": __version__, "python": platform.python_version(), "packages": packages, "git": checkout()}


def checkout() -> dict[str, Any] | None:
    """The commit of the checkout that the code runs from, and whether files were changed; None outside a checkout."""
    try:
        here = ["git", "-C", str(Path(__file__).parent)]
        commit = subprocess.run([*here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        status = subprocess.run(
            [*here, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "changed": bool(status.stdout.strip())}
