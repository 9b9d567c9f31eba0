"""From `key=value` words to a typed config: Hydra's composition, with one-line errors that name the nearest valid word.

A command's primary config is `configs/<command>.yaml`, or a file in the caller's folder. The groups (`experiment=`,
`model=`, …) are the folders in `configs/`, with those in `configs/` of the working folder; the choices of `data=` are
the files in `data/`.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from ..assets import assets_root
from ..core.errors import UserError
from .check_word import check_word, word_of
from .clip import ClipConfig
from .composed_presets import composed_presets
from .model import ModelConfig
from .option import MISSING, Key, accepted_keys, check_config, check_value, keys_of, nearest, shown
from .presets import groups, shadowed, used_groups
from .renamed import refusal
from .train import PlanConfig
from .words import QUOTES, accepted, check_known, with_references

__all__ = [
    "Key",
    "accepted_keys",
    "check_config",
    "check_value",
    "check_word",
    "compose_config",
    "groups",
    "is_missing",
    "keys_of",
    "nearest",
    "used_groups",
]


def _checked_words(
    words: list[str], command: str, schema: type, choices: dict[str, list[str]]
) -> list[tuple[str, Override]]:
    """The words in the form that Hydra parses, each with what it parses to: a list in brackets, and a text outside its
    grammar (é, a leading #, a quote) in quotes."""
    known = accepted(command, schema, choices)
    options = known.keys
    checked: list[tuple[str, Override]] = []
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals:
            raise UserError(f"'{shown(word)}' is not an option: options are key=value{nearest(word, [*options])}")
        key = options.get(name)
        word, parsed = _parsed(in_brackets(word) if key and key.many else word, key)
        if parsed.type != OverrideType.CHANGE or parsed.package is not None or name != parsed.key_or_group:
            name = parsed.key_or_group
            raise UserError(f"'{shown(word)}' is not an option: options are key=value, as {name}=…")
        check_known(known, *word.partition("=")[::2])
        checked.append((word, parsed))
        if parsed.is_sweep_override():
            raise UserError(f"'{shown(word)}' has several values: give one; avssl train --multirun makes a run of each")
        value = parsed.value()
        if key is None:
            if value not in choices[name]:
                close = nearest(str(value), choices[name])
                raise UserError(f"no {name}={word_of(value)}{close} ({name}: {', '.join(choices[name])})")
            if (path := shadowed(name, str(value))) is not None:
                raise UserError(f"{path} has the name of a preset of avssl, {name}={value}: rename the file")
        else:
            check_word(key, value)
    return checked


def in_brackets(word: str) -> str:
    """`key=a,b` as the list `key=[a,b]`; `key=[a,b]`, `key=[a],[b]`, `key=null` and `key=${…}` stay as they are."""
    name, _, value = word.partition("=")
    return word if value.startswith(("[", "${")) or value == "null" else f"{name}=[{value}]"


def _parsed(word: str, key: Key | None) -> tuple[str, Override]:
    """A word in the form that Hydra parses, and the override that it parses to."""
    parser = OverridesParser.create()
    try:
        try:
            return word, parser.parse_override(word)
        except HydraException:
            if key is None or key.kind is not str or (key.choices and not key.pattern):
                raise
            word = _quoted(word, key.many)
            return word, parser.parse_override(word)
    except RecursionError:
        raise UserError(f"cannot read '{shown(word)}': it is nested too deeply") from None
    except (HydraException, ValueError) as error:  # ValueError: a number of thousands of digits
        problem = shown(str(error).partition("\n")[0])
        raise UserError(f"cannot read '{shown(word)}' ({problem}): quote it, as in 'key=\"a value\"'") from None


def _quoted(word: str, many: bool) -> str:
    """`key=value` with the value in quotes, or with each item of a list."""
    key, _, value = word.partition("=")
    if not many:
        return f"{key}={with_references(value)}"
    items = re.findall(r"""(?:"[^"]*"|'[^']*'|[^,"'])+""", value.removeprefix("[").removesuffix("]"))
    return f"{key}=[{','.join(item if item[0] in QUOTES else with_references(item) for item in items)}]"


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
    checked = _checked_words(words, f"{program} {command}", schema, chosen)
    words = [word for word, _ in checked]
    presets = [word for word, override in checked if override.key_or_group in chosen]
    try:
        config = composed_presets(command, schema, presets, assets_root().resolve(), folder)
        for _, override in checked:
            if override.key_or_group not in chosen:  # as Hydra does, after the presets
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
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
        _folder_as_given(typed, words)
        check_config(typed)
        _check_objective(typed, words)
        return typed
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.name}, line {mark.line + 1}" if mark is not None else "a preset"
        raise UserError(f"{where}: {error.problem}") from None
    except (YAMLError, UnicodeDecodeError):
        raise UserError(f"{' or '.join(presets) or 'a preset'}: the file is not text in UTF-8") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error, schema)) from None


def _refuse_noted(schema: type, config: DictConfig) -> None:
    """Raise UserError if a preset sets a value that runs only record, such as `clip.mean`."""
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


def _folder_as_given(config: Any, words: list[str]) -> None:
    """A plan does not write to the folder that a preset names, which is the run's."""
    if isinstance(config, PlanConfig) and "out" not in {word.partition("=")[0] for word in words}:
        config.out = ""


def _length_as_given(config: Any, words: list[str]) -> None:
    """With `optim.epochs` given, a preset's `optim.clips` does not decide the length of the run."""
    keys = {word.partition("=")[0] for word in words}
    if "optim.epochs" not in keys or not hasattr(config, "optim"):
        return
    if "optim.clips" in keys and config.optim.clips:
        raise UserError("optim.epochs and optim.clips are both the length of the run: give one of them")
    config.optim.clips = 0


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
        return f"{key} is a list: write {key}=a,b (it is {declared.text})"
    if declared is not None:
        return f"{key}: {lines[0]} (it is {declared.text}{f', {declared.unit}' if declared.unit else ''})"
    return ": ".join(lines[:2]).replace("::", ":") if lines else type(error).__name__


def is_missing(value: Any) -> bool:
    """Whether this is the default of an option that has to be given."""
    return isinstance(value, str) and value == MISSING


def _check_objective(typed: Any, words: list[str]) -> None:
    """Raise UserError for `objective=…` beside an experiment that has objectives of its own."""
    given = dict(word.partition("=")[::2] for word in words)
    if {"objective", "experiment"} <= given.keys() and "task" not in given and typed.task != "none":
        raise UserError(
            f"experiment={given['experiment']} has a task of its own ({typed.task}), which would be trained instead of "
            f"objective={given['objective']}: use experiment=tiny, or weights such as loss.rotation=0.1"
        )
