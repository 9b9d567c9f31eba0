"""Read the weights that a run may start from: files, runs and published models. All are checked as untrusted."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config.model_card import find_card, weights_of
from ..config.run_folder import licences, read_config
from ..core.checkpoint_file import file_sha256, load_checkpoint
from ..core.checkpoint_store import FOLDER, MANIFEST, STATE, damage, name_of, steps_of
from ..core.errors import UserError
from ..core.safetensors_file import load_safetensors
from ..core.tensors import load_tensors
from ..core.untrusted import check_file, read_text

NESTED = ("model", "state_dict", "model_state_dict", "module", "net")
"""Entries of a checkpoint that contain its model, if the checkpoint is not a state dict itself."""

UNKNOWN = "unknown: the file names no licence"
"""The licence of weights without a licence."""


class Unfit(UserError):
    """A source has no weights for an encoder."""


@dataclass
class Weights:
    """The tensors of a source by name, and their origin."""

    source: str
    """The source, as the user names it."""
    state: dict[str, torch.Tensor]
    files: dict[str, str]
    """The SHA-256 of each file by its path."""
    licence: str = UNKNOWN


def read_source(source: str, modality: str, encoder: str) -> Weights:
    """The weights of a published model, a run, a folder of transformers, or a file.

    Args:
        source: the name or path of the source.
        modality: the modality of the encoder.
        encoder: the encoder's name, as in the options; a run must have the same.

    Raises:
        UserError: there is no such source, or it is damaged.
        Unfit: it is a run with another encoder.
    """
    path = Path(source)
    if not path.exists():
        card = weights_of(source)
        if card is None:
            raise UserError(f"model.init={source}: there is no such file, run folder or published model")
        return Weights(source, *_file(card)[:2], find_card(source).licence)
    if (path / MANIFEST).is_file() or path.name == STATE:
        path = path if path.is_dir() else path.parent
        return _run(source, path.parents[1], path, modality, encoder)
    if (path / "config.yaml").is_file():
        return _run(source, path, _newest(path), modality, encoder)
    if path.is_dir():
        return read_folder(source, path)
    state, files, licence = _file(path)
    return Weights(source, state, files, licence or UNKNOWN)


def _newest(run: Path) -> Path:
    steps = steps_of(run / FOLDER)
    whole = (run / FOLDER / name_of(step) for step in reversed(steps))
    found = next((path for path in whole if damage(path) is None), None)
    if found is None:
        what = "all its checkpoints are damaged" if steps else "it has no checkpoint: train the run first"
        raise UserError(f"model.init={run}: {what}")
    return found


def _run(source: str, run: Path, checkpoint: Path, modality: str, encoder: str) -> Weights:
    config = read_config(run)
    theirs = getattr(config.model, modality)
    if theirs != encoder:
        raise Unfit(
            f"model.init={source} has model.{modality}={theirs}, but this run has {encoder}: set "
            f"model.{modality}={theirs}"
        )
    if problem := damage(checkpoint):
        raise UserError(f"model.init={source}: {checkpoint} is damaged ({problem})")
    state = load_checkpoint(checkpoint / STATE).get("model")
    files = {str(checkpoint / STATE): file_sha256(checkpoint / STATE)}
    return Weights(source, _named(state, checkpoint / STATE), files, _licence_of_run(run, modality))


def _licence_of_run(run: Path, modality: str) -> str:
    """The licence of a run's weights: that of the weights it started from, else its user's own."""
    return licences(run).get(modality, "that of the run, which started from random weights")


def read_folder(source: str, folder: Path) -> Weights:
    """The weights of a folder that transformers' `save_pretrained` wrote.

    Raises:
        UserError: it has no weights, or a damaged file.
    """
    files = weight_files(folder)
    if not files:
        raise UserError(
            f"{source} is not a run folder (no config.yaml), and has no model.safetensors or pytorch_model.bin"
        )
    state: dict[str, torch.Tensor] = {}
    hashes: dict[str, str] = {}
    for path in files:
        more, digest, _ = _file(path)
        state |= more
        hashes |= digest
    return Weights(source, state, hashes, licence_in(folder) or UNKNOWN)


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a folder of transformers: safetensors if there are any, else pytorch_model*.bin."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def licence_in(folder: Path) -> str:
    """The licence in the header of a model's README.md; empty if there is none."""
    try:
        head = re.match(r"---\n(.*?)\n---", read_text(folder / "README.md").replace("\r", ""), re.DOTALL)
    except (OSError, UserError):
        return ""
    found = re.search(r"^license: *[\"']?([\w.\-]+)", head[1], re.MULTILINE) if head else None
    return found[1] if found else ""


def _file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str], str]:
    """The tensors of a file, its SHA-256, and the licence in its metadata."""
    check_file(path)
    if path.suffix == ".safetensors":
        state, metadata = load_safetensors(path)
        return _named(state, path), {str(path): file_sha256(path)}, metadata.get("license", "")[:200]
    content = load_tensors(path, legacy=True)
    inner: Any = next(
        (content[k] for k in NESTED if isinstance(content, dict) and isinstance(content.get(k), dict)), content
    )
    return _named(inner, path), {str(path): file_sha256(path)}, ""


def _named(state: Any, path: Path) -> dict[str, torch.Tensor]:
    """Check that `state` contains tensors by name. Raises UserError for any other entry."""
    if not isinstance(state, dict) or not state:
        raise UserError(f"{path} contains no weights: a dictionary of tensors by name is needed")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor) or value.is_complex():
            raise UserError(f"{path}: {str(key)[:60]!r} of its model is not a weight")
    return state


def finite(names: Iterable[tuple[str, torch.Tensor]], source: str) -> None:
    """Raise UserError for a weight that is NaN or infinite."""
    for name, value in names:
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(f"model.init={source}: {name} has NaN or infinite weights: use another file")
