"""From `key=value` words to a typed config: Hydra's composition, with one-line errors that name the nearest valid word.

A command's primary config is `configs/<command>.yaml`, or a file in the caller's folder. The groups (`experiment=`,
`model=`, …) are the folders in `configs/`; the choices of `data=` are the files in `data/`.
"""

import math
import os
import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from ..assets import assets_root
from ..core.errors import UserError
from .clip import ClipConfig
from .data import AUTO
from .model import ModelConfig
from .option import Key, accepted_keys, check_config, check_value, keys_of, nearest, shown
from .renamed import refusal

__all__ = [
    "Key",
    "accepted_keys",
    "check_config",
    "check_value",
    "check_word",
    "compose_config",
    "is_missing",
    "keys_of",
    "nearest",
    "used_groups",
]


def groups() -> dict[str, list[str]]:
    """The groups by name, each with the choices that `group=choice` accepts."""
    root = assets_root()
    folders = {p.name: p for p in sorted((root / "configs").iterdir()) if p.is_dir()} | {"data": root / "data"}
    return {name: sorted(f.stem for f in folder.glob("*.yaml")) for name, folder in folders.items()}


def _primary(command: str) -> str:
    return command.replace(" ", "_")


def used_groups(command: str, folder: Path | None = None) -> dict[str, list[str]]:
    """The groups that the primary config of `command` uses, with their choices; `folder` as in `compose_config`."""
    primary = OmegaConf.load((folder or assets_root() / "configs") / f"{_primary(command)}.yaml")
    assert isinstance(primary, DictConfig)
    names: set[str] = set()
    for entry in primary.get("defaults", []):
        if isinstance(entry, DictConfig):
            names |= {str(k).removeprefix("optional ").removeprefix("override ").strip("/") for k in entry}
    return {name: choices for name, choices in groups().items() if name in names}


def _checked_words(words: list[str], command: str, schema: type, choices: dict[str, list[str]]) -> list[str]:
    """The words in the form that Hydra parses: a text outside its grammar (é, a leading #, a quote) is quoted."""
    options = {k.name: k for k in accepted_keys(schema)}
    texts = {
        k.name for k in options.values() if k.kind is str and (not k.many or k.bare) and (k.pattern or not k.choices)
    }
    bare = {k.name for k in options.values() if k.bare}
    checked = []
    for word in words:
        if "=" not in word:
            raise UserError(f"'{shown(word)}' is not an option: options are key=value{nearest(word, [*options])}")
        word, parsed = _parsed(word, texts)
        if word.partition("=")[0] in bare and not parsed.is_sweep_override() and isinstance(parsed.value(), str):
            word, parsed = _parsed("{0}=[{2}]".format(*word.partition("=")), texts)
        checked.append(word)
        if parsed.is_sweep_override():
            raise UserError(
                f"'{shown(word)}' has several values: a list is [a,b]; avssl train --multirun makes a run of each value"
            )
        key = parsed.key_or_group
        if parsed.type != OverrideType.CHANGE or parsed.package is not None:
            raise UserError(f"'{shown(word)}' is not an option: options are key=value, as {key}=…")
        value = parsed.value()
        if key in choices:
            if value not in choices[key]:
                close = nearest(str(value), choices[key])
                raise UserError(f"no {key}={_word(value)}{close} ({key}: {', '.join(choices[key])})")
        elif key in options:
            check_word(options[key], value)
        else:
            raise _unknown(key, [*options], [*choices], command, value)
    return checked


def _parsed(word: str, texts: set[str]) -> tuple[str, Override]:
    """A word in the form that Hydra parses, and the override that it parses to."""
    parser = OverridesParser.create()
    try:
        try:
            return word, parser.parse_override(word)
        except HydraException:
            if word.partition("=")[0] not in texts:
                raise
            word = _quoted(word)
            return word, parser.parse_override(word)
    except RecursionError:
        raise UserError(f"cannot read '{shown(word)}': it is nested too deeply") from None
    except (HydraException, ValueError) as error:  # ValueError: a number of thousands of digits
        problem = shown(str(error).partition("\n")[0])
        raise UserError(f"cannot read '{shown(word)}' ({problem}): quote it, as in 'key=\"a value\"'") from None


def _unknown(key: str, keys: list[str], groups: list[str], command: str, value: Any) -> UserError:
    if instead := refusal(key, command.removeprefix("avssl "), value):
        return UserError(instead)
    first = next((k for k in keys if k.startswith(f"{key}.")), None)
    if first is not None:
        return UserError(f"'{key}' is a section: set one of its options, as {first}=…")
    return UserError(f"unknown option '{shown(key)}'{nearest(key, keys + groups)} ({command} --help lists them)")


def check_word(key: Key, value: Any) -> None:
    """Raise UserError for a value, as Hydra parsed it, that `key` does not accept.

    A value with `${…}` is resolved only later, and checked then.
    """
    if value is None:
        if not key.optional:
            raise UserError(f"{key.name}=null: a value is needed ({key.text})")
        return
    if isinstance(value, str) and "${" in value:
        return
    if key.many != isinstance(value, list) or isinstance(value, dict):
        form = f"is a list: write {key.name}=[…]" if key.many else f"takes one value, not {_word(value)}"
        raise UserError(f"{key.name} {form} ({key.text})")
    items = value if key.many else [value]
    for item in items:
        _check_type(key, item)
    if key.kind is str:
        items = [str(item) for item in items]
    check_value(key, items if key.many else items[0])


NUMBERS = {int: "an integer", float: "a number", bool: "true or false"}


def _check_type(key: Key, value: Any) -> None:
    if key.kind is str:
        fits = isinstance(value, str | int | float)
    elif key.kind is bool:  # OmegaConf would read 2 and 1e300 as true
        fits = isinstance(value, bool) or value in (0, 1) or (isinstance(value, str) and value.lower() in BOOLEANS)
    else:
        fits = _is_number(key.kind, value)
    if not fits:
        raise UserError(f"{key.name}={_word(value)} is not {NUMBERS.get(key.kind, 'a text')} ({key.text})")


BOOLEANS = ("yes", "no", "on", "off", "y", "n", "true", "false")
"""Words that OmegaConf reads as true or false."""


def _is_number(kind: type, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if isinstance(value, float) and kind is int:
        return not (math.isfinite(value) and abs(value) < 1e15)  # the check of bounds explains the others better
    try:
        kind(value)
    except (ValueError, OverflowError):
        return False
    return True


def _word(value: Any) -> str:
    """A value as the user wrote it."""
    return "null" if value is None else shown(value)


def _quoted(word: str) -> str:
    """`key=value` with the value in quotes, by Hydra's rules of escaping."""
    key, _, value = word.partition("=")
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    escaped += re.search(r"\\*$", escaped)[0]  # type: ignore[index]
    return f'{key}="{escaped}"'


_composing = Lock()
"""Hydra's state is global: a process can compose only one config at a time."""


def compose_config(
    command: str, schema: type, words: list[str], program: str = "avssl", folder: Path | None = None
) -> Any:
    """The config of `<program> <command> <words>`, an instance of `schema`.

    Args:
        command: names the primary config, a file in `folder` or, without one, in `configs/`.
        program: the program that an error names before the command.

    Raises:
        UserError: names the first word that is wrong.
    """
    chosen = used_groups(command, folder)
    words = _checked_words(words, f"{program} {command}", schema, chosen)
    root = assets_root().resolve()
    if folder is not None:  # the groups of presets are in `configs/`
        words.append(f"hydra.searchpath=[file://{root / 'configs'}]")
    try:
        with _composing:
            _register_resolvers()
            ConfigStore.instance().store(f"{_primary(command)}_schema", schema)
            _store_data_sets(schema)
            GlobalHydra.instance().clear()
            with initialize_config_dir(str((folder or root / "configs").resolve()), version_base="1.3"):
                config = compose(_primary(command), overrides=words)
        missing = sorted(
            k for k in (key.name for key in accepted_keys(schema)) if OmegaConf.is_missing(*_at(config, k))
        )
        if missing:
            raise UserError(f"{missing[0]} is needed: add {missing[0]}=…")
        _refuse_noted(schema, config)
        typed = OmegaConf.to_object(config)
        _note_given_clip(typed, words)
        _note_given_model(typed, words)
        _length_as_given(typed, words)
        check_config(typed)
        return typed
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.name}, line {mark.line + 1}" if mark is not None else "a preset"
        raise UserError(f"{where}: {error.problem}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error, schema)) from None


def _refuse_noted(schema: type, config: DictConfig) -> None:
    """Raise UserError where a preset sets a value that runs only note, such as `clip.mean`."""
    options = {key.name for key in accepted_keys(schema)}
    for key in accepted_keys(schema, noted=True):
        if key.name in options or key.name.startswith("data."):  # data sets say how an index reads them
            continue
        if OmegaConf.select(config, key.name) != key.default:
            raise UserError(refusal(key.name) or f"{key.name} cannot be set")


def _note_given_clip(config: Any, words: list[str]) -> None:
    """Note in `clip.given` which options of clips the user gave: all of them with `clip=…`."""
    clip = getattr(config, "clip", None)
    if not isinstance(clip, ClipConfig):
        return
    keys = {word.partition("=")[0] for word in words}
    settable = [f.name for f in fields(ClipConfig) if not f.metadata.get("noted")]
    clip.given = [name for name in settable if "clip" in keys or f"clip.{name}" in keys]


def _note_given_model(config: Any, words: list[str]) -> None:
    """Note in `model.given` which options of the encoders the user gave: both encoders with `model=…`."""
    model = getattr(config, "model", None)
    if not isinstance(model, ModelConfig):
        return
    keys = {word.partition("=")[0] for word in words}
    settable = [f.name for f in fields(ModelConfig) if not f.metadata.get("noted")]
    model.given = [x for x in settable if f"model.{x}" in keys or ("model" in keys and x in ("video", "audio"))]


def _length_as_given(config: Any, words: list[str]) -> None:
    """With `optim.epochs` given, a preset's `optim.clips` does not decide the length of the run."""
    keys = {word.partition("=")[0] for word in words}
    if "optim.epochs" not in keys or not hasattr(config, "optim"):
        return
    if "optim.clips" in keys and config.optim.clips:
        raise UserError("optim.epochs and optim.clips are both the length of the run: give one of them")
    config.optim.clips = 0


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


def _store_data_sets(schema: type) -> None:
    """For `data=…`: store the files of data/, each with the options that the command has."""
    kind = next((f.type for f in fields(schema) if f.name == "data"), None)
    if not is_dataclass(kind):
        return
    accepted = {f.name for f in fields(kind)}
    for name, options in _data_sets(assets_root() / "data").items():
        kept = {key: value for key, value in options.items() if key in accepted}
        if "fold" not in accepted and "index" in kept:
            kept["index"] = kept["index"].replace("${data.fold}", "1")
        ConfigStore.instance().store(name, kept, group="data")


@cache
def _data_sets(folder: Path) -> dict[str, dict[str, Any]]:
    """The options that each file of data/ sets, by the file's name; `${…}` is not resolved."""
    files = sorted(folder.glob("*.yaml"))
    return {file.stem: OmegaConf.to_container(OmegaConf.load(file), resolve=False) for file in files}  # type: ignore[misc]


def _at(config: DictConfig, key: str) -> tuple[Any, str]:
    section, _, name = key.rpartition(".")
    return (OmegaConf.select(config, section) if section else config) or OmegaConf.create({name: None}), name


def _one_line(error: Exception, schema: type) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    declared = next((k for k in accepted_keys(schema) if k.name == key.partition("[")[0]), None)
    if declared is None and (instead := refusal(key)):
        return instead
    if declared is not None and isinstance(declared.default, list) and "is not a ListConfig" in lines[0]:
        return f"{key} is a list: write {key}=[…] (it is {declared.text})"
    if declared is not None:
        return f"{key}: {lines[0]} (it is {declared.text}{f', {declared.unit}' if declared.unit else ''})"
    return ": ".join(lines[:2]).replace("::", ":") if lines else type(error).__name__


def is_missing(value: Any) -> bool:
    """Is this the default of an option that has to be given?"""
    return isinstance(value, str) and value == MISSING
