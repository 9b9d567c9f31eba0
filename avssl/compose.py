"""From `key=value` words to a typed config: Hydra's composition, with one-line errors that name the nearest valid word.

Primary configs are `configs/<command>.yaml`; groups (`experiment=`, `model=`, …) are the folders beside them, and
`data=` is the folder of data set definitions.
"""

import difflib
import math
import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from threading import Lock
from typing import Any, get_args

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .assets import assets_root
from .errors import UserError


@dataclass
class Key:
    """One option, for the help and for finding the nearest name."""

    name: str
    default: Any
    text: str
    unit: str
    choices: list[str]
    least: float | None


def keys_of(schema: type, prefix: str = "") -> list[Key]:
    """All options of a config dataclass, nested ones as `section.key`."""
    found = []
    for f in fields(schema):
        if f.metadata.get("description"):
            continue
        nested = next((t for t in (f.type, *get_args(f.type)) if is_dataclass(t)), None)
        if nested is not None:
            found += keys_of(nested, f"{prefix}{f.name}.")  # type: ignore[arg-type]
            continue
        default = f.default_factory() if f.default_factory is not NO_DEFAULT else f.default
        m = f.metadata
        found.append(Key(prefix + f.name, default, m["help"], m["unit"], m["choices"], m["least"]))
    return found


def groups() -> dict[str, list[str]]:
    """The names that `group=name` may take."""
    root = assets_root()
    folders = {p.name: p for p in sorted((root / "configs").iterdir()) if p.is_dir()} | {"data": root / "data"}
    return {name: sorted(f.stem for f in folder.glob("*.yaml")) for name, folder in folders.items()}


def _primary(command: str) -> str:
    return command.replace(" ", "_")


def used_groups(command: str) -> dict[str, list[str]]:
    """The groups that the defaults list of `command` names, with their choices."""
    primary = OmegaConf.load(assets_root() / "configs" / f"{_primary(command)}.yaml")
    assert isinstance(primary, DictConfig)
    names: set[str] = set()
    for entry in primary.get("defaults", []):
        if isinstance(entry, DictConfig):
            names |= {str(k).removeprefix("optional ").removeprefix("override ").strip("/") for k in entry}
    return {name: choices for name, choices in groups().items() if name in names}


def nearest(word: str, names: list[str]) -> str:
    """`; did you mean …?`, or nothing."""
    close = difflib.get_close_matches(word, names, 1, 0.6) or [
        n for n in names if n.split(".")[-1] == word.split(".")[-1]
    ]
    return f"; did you mean {close[0]}?" if close else ""


def _checked_words(words: list[str], command: str, schema: type) -> list[str]:
    """As Hydra takes them: a text that its grammar does not know (with é, a leading # or a quote) in quotes."""
    known = keys_of(schema)
    keys = [k.name for k in known]
    texts = {k.name for k in known if isinstance(k.default, str) and not k.choices}
    checked = []
    sections = {k.rpartition(".")[0] for k in keys} - {""}
    choices = used_groups(command)
    for word in words:
        if "=" not in word:
            raise UserError(f"'{word}' is not an option: options are key=value{nearest(word, keys)}")
        parser = OverridesParser.create()
        try:
            try:
                parsed = parser.parse_override(word)
            except HydraException:
                if word.partition("=")[0] not in texts:
                    raise
                word = _quoted(word)
                parsed = parser.parse_override(word)
        except HydraException as error:
            problem = str(error).splitlines()[0]
            raise UserError(f"cannot read '{word}' ({problem}): quote it, as in 'key=\"a value\"'") from None
        checked.append(word)
        if parsed.is_sweep_override():
            raise UserError(f"'{word}' has several values: a list is [a,b]; avssl train --multirun trains with each")
        key, value = parsed.key_or_group, parsed.value()
        if key in choices:
            if value is not None and value not in choices[key]:
                close = nearest(str(value), choices[key])
                raise UserError(f"no {key}={value}{close} ({key}: {', '.join(choices[key])})")
        elif key not in keys:
            if key in sections:
                raise UserError(f"'{key}' is a section: set one of its options, as {key}.{_first(keys, key)}=…")
            raise UserError(
                f"unknown option '{key}'{nearest(key, keys + list(choices))} (avssl {command} --help lists them)"
            )
    return checked


def _quoted(word: str) -> str:
    """`key=value` with any value in Hydra's quotes."""
    key, _, value = word.partition("=")
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    escaped += re.search(r"\\*$", escaped)[0]  # type: ignore[index]
    return f'{key}="{escaped}"'


def _first(keys: list[str], section: str) -> str:
    return next(k for k in keys if k.startswith(section + ".")).removeprefix(section + ".")


_composing = Lock()
"""Hydra composes one config at a time in a process."""


def compose_config(command: str, schema: type, words: list[str]) -> Any:
    """The config of `avssl <command> <words>`, an instance of `schema`. UserError for a word that does not fit."""
    words = _checked_words(words, command, schema)
    root = assets_root()
    try:
        with _composing:
            if not OmegaConf.has_resolver("basename"):
                OmegaConf.register_new_resolver("basename", lambda path: Path(path).resolve().name)
            ConfigStore.instance().store(f"{_primary(command)}_schema", schema)
            GlobalHydra.instance().clear()
            with initialize_config_dir(str((root / "configs").resolve()), version_base="1.3"):
                config = compose(_primary(command), overrides=[*words, f"hydra.searchpath=[file://{root.resolve()}]"])
        missing = sorted(k for k in (key.name for key in keys_of(schema)) if OmegaConf.is_missing(*_at(config, k)))
        if missing:
            raise UserError(f"{missing[0]} is needed: add {missing[0]}=…")
        typed = OmegaConf.to_object(config)
        check_config(typed)
        return typed
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error, schema)) from None


def _at(config: DictConfig, key: str) -> tuple[Any, str]:
    section, _, name = key.rpartition(".")
    return (OmegaConf.select(config, section) if section else config) or OmegaConf.create({name: None}), name


def check_config(config: Any) -> None:
    """UserError for a value of `config`, an instance of a schema, that its option does not allow."""
    for key in keys_of(type(config)):
        value = config
        for part in key.name.split("."):
            value = getattr(value, part)
        _check_value(key, value)


def _check_value(key: Key, value: Any) -> None:
    if key.choices and value is not None and value not in key.choices:
        raise UserError(f"no {key.name}={value}{nearest(str(value), key.choices)} ({', '.join(key.choices)})")
    if isinstance(value, list):
        for item in value:
            _check_value(key, item)
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{key.name}=nan is no number ({key.text})")
    if key.least is not None and isinstance(value, int | float) and value < key.least:
        raise UserError(f"{key.name}={value:g} is too small: at least {key.least:g} ({key.text})")


def _one_line(error: Exception, schema: type) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    known = next((k for k in keys_of(schema) if k.name == key.partition("[")[0]), None)
    if known is not None and isinstance(known.default, list) and "is not a ListConfig" in lines[0]:
        return f"{key} is a list: write {key}=[…] (it is {known.text})"
    if known is not None:
        return f"{key}: {lines[0]} (it is {known.text}{f', {known.unit}' if known.unit else ''})"
    return lines[0] if lines else type(error).__name__


def is_missing(value: Any) -> bool:
    """Is this an option without a default?"""
    return isinstance(value, str) and value == MISSING
