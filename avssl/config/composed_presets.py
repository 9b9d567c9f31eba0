"""What the presets of a command give, composed by Hydra once per process: it takes a quarter of a second."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from .data import AUTO
from .presets import own_presets, primary_name
from .words import QUOTES, with_references

MOST_KEPT = 40
"""Configs kept, at most: a megabyte each."""

_kept: dict[tuple[Any, ...], DictConfig] = {}

_stored: dict[tuple[str | None, str], Any] = {}

_composing = Lock()
"""Hydra's state is global: a process can compose only one config at a time."""


def composed_presets(command: str, schema: type, words: Sequence[str], root: Path, folder: Path | None) -> DictConfig:
    """The config of `<command> <words>`, which the caller may change.

    Args:
        command: names the primary config, a file in `folder` or, without one, in `root`/configs.
        schema: the options of the command.
        words: `group=choice`.
        root: the folder of `configs/` and `data/`.

    Raises:
        HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError: a preset is wrong.
    """
    words, own = list(words), own_presets()
    # the groups of presets are in `configs/`, and the user's own in that of the working folder
    searched = [root / "configs"] if folder is not None else []
    # only for a preset that is there: the data sets, which are stored, are found after files of the same name
    searched += [own] if own is not None and any(_is_in(own, word) for word in words) else []
    if searched:
        words.append(f"hydra.searchpath=[{','.join(with_references(f'file://{path}') for path in searched)}]")
    place = (folder or root / "configs").resolve()
    key = (command, schema, *words, place, _files(root / "configs", place, *searched))
    with _composing:
        if key not in _kept:
            if len(_kept) >= MOST_KEPT:
                del _kept[next(iter(_kept))]
            _kept[key] = _composed(command, schema, words, root, place)
        return deepcopy(_kept[key])


def _is_in(folder: Path, word: str) -> bool:
    """Whether `group=choice` is a file in the folder."""
    group, _, choice = word.partition("=")
    return (folder / group / f"{choice.strip(QUOTES)}.yaml").is_file()


def _composed(command: str, schema: type, words: list[str], root: Path, place: Path) -> DictConfig:
    _register_resolvers()
    _store(f"{primary_name(command)}_schema", schema)
    _store_data_sets(schema, root)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(place), version_base="1.3"):
        return compose(primary_name(command), overrides=words)


def _files(*folders: Path) -> tuple[tuple[str, int, int], ...]:
    """The files from which Hydra composes, by path, time of change and size: a changed one is read again."""
    found = []
    for folder in dict.fromkeys(folders):
        for place, _, names in os.walk(folder):
            for name in names:
                if name.endswith(".yaml"):
                    path = os.path.join(place, name)
                    with suppress(OSError):  # a link to nothing, such as an editor's lock
                        state = os.stat(path)
                        found.append((path, state.st_mtime_ns, state.st_size))
    return tuple(found)


def _register_resolvers() -> None:
    if OmegaConf.has_resolver("basename"):
        return

    def basename(path: str) -> str:
        return os.path.basename(os.path.realpath(path))

    def name_of(root: str, *, _parent_: DictConfig) -> str:
        """The name of the folder of videos, else of the features, else of the index folder; empty without all."""
        features = str(_parent_.get("features") or "")
        if features not in ("", AUTO) and not root:
            return re.sub(r"\.(parquet|npz)$", "", basename(features))
        index = str(OmegaConf.to_container(_parent_, resolve=False)["index"])  # type: ignore[call-overload,index]
        return basename(root) if root else "" if "${" in index else basename(index)

    OmegaConf.register_new_resolver("basename", basename)
    OmegaConf.register_new_resolver("name_of", name_of)


def _store(name: str, node: Any, group: str | None = None) -> None:
    """Store what Hydra composes from, unless it is what is there: to convert it takes time."""
    if _stored.get((group, name)) != node:
        ConfigStore.instance().store(name, node, group)
        _stored[group, name] = node


def _store_data_sets(schema: type, root: Path) -> None:
    """For `data=…`: store the files of data/, each with the options that the command has."""
    kind = next((f.type for f in fields(schema) if f.name == "data"), None)
    if not is_dataclass(kind):
        return
    accepted = {f.name for f in fields(kind)}
    for name, options in _data_sets(root / "data").items():
        kept = {key: value for key, value in options.items() if key in accepted}
        if "fold" not in accepted and "index" in kept:
            kept["index"] = kept["index"].replace("${data.fold}", "1")
        _store(name, kept, "data")


@cache
def _data_sets(folder: Path) -> dict[str, dict[str, Any]]:
    """The options that each file of data/ sets, by the file's name; `${…}` is not resolved."""
    files = sorted(folder.glob("*.yaml"))
    return {file.stem: OmegaConf.to_container(OmegaConf.load(file), resolve=False) for file in files}  # type: ignore[misc]
