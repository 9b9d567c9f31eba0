"""The text of `--help`: the overview, a command with its usual options, a section, one option.

The lines are made here, not by rich: it takes longer to import than help may take.
"""

import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from typing import Any

from .commands import Command, Program
from .config.launch import PartsConfig
from .config.option import MISSING, Key, accepted_keys
from .config.presets import described, used_groups
from .config.words import word_for
from .core.errors import UserError
from .core.printable import has_colours, printable

MOST = 22
"""Most options that a command's help shows; for a command with more, it shows `Command.common`."""

GENERAL = "general"
"""The name, in help, of the options that are in no section."""

ALL = "all"

WIDEST = 100
"""Longest line, in characters, however wide the terminal is."""

NAMES = 31
"""Widest column of names and defaults, in characters."""

NARROW = 23
"""Width up to which a column of names is as wide as the longest of them, in characters."""

RUN = "a run folder, or the name of your videos, for their newest finished run; without it: the newest of all"
WEIGHTS = "instead: a file of weights, or a name that `avssl models` lists"
"""What a bare word may be, if it may be a run."""

DESCRIBED = "experiment"
"""The group of presets that a command's help describes; of the others it gives the names."""


def overview(program: Program) -> list[str]:
    """The list of commands, in their groups."""
    from .core.version import __version__  # it reads the metadata of packages: not for other help

    lines = [f"{bold(program.short)} {__version__}  {program.about}", ""]
    lines += [f"  {program.name} <command> [key=value …]", f"  {program.name} help <command>", ""]
    column = max(map(len, program.commands)) + 4
    shown: set[str] = set()
    for title, names in program.groups.items():
        here = [name for name in names if name in program.commands]
        lines += [bold(title), *(_summary(program, name, column) for name in here), ""] if here else []
        shown |= {*names}
    rest = [name for name, command in program.commands.items() if name not in shown and not command.light]
    lines += [*(_summary(program, name, column) for name in rest), ""] if rest else []
    return [*lines, *program.hints]


def _summary(program: Program, name: str, column: int) -> str:
    return f"  {cyan(name)}{' ' * (column - 2 - len(name))}{program.commands[name].summary}"


def command_help(program: Program, name: str, topics: Iterable[str] = ()) -> list[str]:
    """The help of a command; with topics, of these sections, presets and options of it.

    Raises:
        UserError: the command has no such section, preset or option.
    """
    topics = [topic.partition("=")[0].lstrip("-") for topic in topics]
    if not topics:
        return _whole(program, name)
    return [line for topic in topics for line in _topic(program, name, topic)]


def usage(program: Program, name: str) -> str:
    """How a command is called, as `avssl index FOLDER [key=value …]`."""
    command = program.commands[name]
    key = _positional(command)
    given = ""
    if key is not None:
        words = [word_for(key), *([command.otherwise.upper()] if command.otherwise else [])]
        given = " | ".join(words) + ("…" if key.many else "")
        given = f" {given}" if key.default == MISSING and key.path != "run" else f" [{given}]"
    options = " [key=value …]" if any(k is not key and k != key for k in accepted_keys(command.schema)) else ""
    return f"{program.name} {name}{given}{options}"


def _positional(command: Command) -> Key | None:
    return next((key for key in accepted_keys(command.schema) if key.name == command.positional), None)


def _whole(program: Program, name: str) -> list[str]:
    command, full = program.commands[name], f"{program.name} {name}"
    lines = [bold(usage(program, name)), "", *_wrapped(command.about)]
    key = _positional(command)
    if key is not None:
        rows = [(word_for(key), f"{_word_text(key)} (or {key.name}=…)")]
        rows += [(command.otherwise.upper(), f"{WEIGHTS} (or {command.otherwise}=…)")] if command.otherwise else []
        lines += ["", *_columns(rows, NAMES)]
    lines += ["", bold("Examples"), *_examples(command)]
    keys = [k for k in accepted_keys(command.schema) if k != key]
    by_name = {k.name: k for k in keys}
    # the options of a cluster are the same for many commands: here they are one line
    parts = [k for k in keys if k.name.partition(".")[0] in _folded(command)]
    keys = [k for k in keys if k not in parts]
    few = len(keys) <= MOST or not command.common
    usual = keys if few else [by_name[x] for x in command.common]
    if usual:
        title = (
            "Options"
            if few
            else f"Options that people change most ({full} --help all shows all {len(keys) + len(parts)})"
        )
        lines += ["", bold(title), *_options(usual)]
    base = next((n for n, c in program.commands.items() if c.schema is getattr(command.schema, "takes", None)), "")
    if base:
        lines += [f"  … and every option of {program.name} {base}"]
    sections = _sections(command)
    if not few or parts:
        rows = [
            (x, f"{len(of):3} options   {text}")
            for x, (text, of) in sections.items()
            if not few or x in _folded(command)
        ]
        example = rows[0][0]
        lines += ["", bold(f"Sections ({full} --help {example})"), *_columns(rows, 14)]
    lines += _presets(program, name)
    lines += ["", *_wrapped(_flags(command, full, sections))]
    return lines


def _word_text(key: Key) -> str:
    """What a bare word may be."""
    if key.path != "run":
        return _text(key, positional=True)
    return "run folders, or names of videos, for their newest finished runs" if key.many else RUN


def _flags(command: Command, full: str, sections: dict[str, Any]) -> str:
    words = "Options are key=value or --key value; -q prints results only, -v more; --show-config prints every option "
    words += "as it would be used."
    if command.run_all:
        words += (
            " --multirun makes a run of each value: seed=0,1,2. An option that is a list keeps its commas; sweep it as "
            "[a],[b]."
        )
    return f"{words} One option in full: {full} --help OPTION."


def _examples(command: Command) -> list[str]:
    width = max((len(line) for line, _ in command.examples), default=0)
    if all(2 + width + 4 + len(text) <= _width() for _, text in command.examples):
        return [f"  {line.ljust(width)}  {dim(f'# {text}')}" for line, text in command.examples]
    return [part for line, text in command.examples for part in (f"  {dim(f'# {text}')}", f"  {line}")]


def _presets(program: Program, name: str) -> list[str]:
    choices, full = used_groups(name, program.configs), f"{program.name} {name}"
    if not choices:
        return []
    lines = ["", bold("Presets: many options at once; options given beside a preset win")]
    if DESCRIBED in choices:
        lines += _columns([(f"{DESCRIBED}={x}", text) for x, text in described(DESCRIBED).items()], NAMES + 4)
    rest = {group: names for group, names in choices.items() if group != DESCRIBED}
    lines += _columns([(f"{group}=", " | ".join(names)) for group, names in rest.items()], 14)
    return [*lines, f"  {full} --help {next(iter(rest), DESCRIBED)} describes the presets of a group"]


def _sections(command: Command) -> dict[str, tuple[str, list[Key]]]:
    """The sections of a command, each with its text and its options; the options in no section come last."""
    keys = accepted_keys(command.schema)
    found: dict[str, list[Key]] = {}
    schemas = [getattr(command.schema, "takes", None), command.schema]
    texts = {f.name: f.metadata.get("help", "") for schema in schemas if schema for f in fields(schema)}
    for key in keys:
        name = key.name.partition(".")[0] if "." in key.name else GENERAL
        found.setdefault(name, []).append(key)
    plain = found.pop(GENERAL, [])
    sections = {name: (texts.get(name, ""), of) for name, of in found.items()}
    return {**sections, GENERAL: ("all other options", plain)} if plain else sections


def _folded(command: Command) -> set[str]:
    """The sections whose options the help of the command leaves to the help of the section."""
    return {f.name for f in fields(command.schema) if f.type is PartsConfig}


def _topic(program: Program, name: str, topic: str) -> list[str]:
    command, full = program.commands[name], f"{program.name} {name}"
    sections, choices = _sections(command), used_groups(name, program.configs)
    keys = accepted_keys(command.schema)
    if topic == ALL:
        lines = [bold(f"All options of {full}"), ""]
        return [
            *lines,
            *(x for part, (text, of) in sections.items() for x in _section(part, text, of)),
            *_flat(choices),
        ]
    if topic in sections or topic in choices:
        lines = _section(topic, *sections[topic]) if topic in sections else []
        return lines + (_group(topic, full) if topic in choices else [])
    exact = [key for key in keys if key.name == topic]
    found = exact or [key for key in keys if key.name.endswith(f".{topic}")]
    if found:
        return [line for key in found for line in _one(key, full)]
    known = [ALL, *sections, *choices, *(key.name for key in keys)]
    close = difflib.get_close_matches(topic, known, 1, 0.6) or [
        key.name for key in keys if difflib.get_close_matches(topic, [key.name.rpartition(".")[2]], 1, 0.6)
    ]
    hint = f"; did you mean {close[0]}?" if close else f": {', '.join([*sections, ALL])}"
    raise UserError(f"no section, preset or option '{printable(topic)[:60]}' of {full}{hint}")


def _section(name: str, text: str, keys: list[Key]) -> list[str]:
    return [bold(f"{name}: {text}" if text else name), *_options(keys), ""]


def _flat(choices: dict[str, list[str]]) -> list[str]:
    rows = [(f"{group}=", " | ".join(names)) for group, names in choices.items()]
    return [bold("Presets"), *_columns(rows, 14)] if rows else []


def _group(name: str, full: str) -> list[str]:
    rows = [(f"{name}={choice}", text) for choice, text in described(name).items()]
    return [bold(f"Presets: {full} … {name}=…"), *_columns(rows, NAMES + 4), ""]


def _one(key: Key, full: str) -> list[str]:
    """An option in full."""
    kinds = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    kind = kinds.get(key.kind, "a text")
    kind = f"a list, as {key.name}=a,b; each {kind}" if key.many else kind
    if key.minimum is not None:
        kind += f" from {_number(key.minimum)} to {_number(key.maximum)}"
    needed = key.default == MISSING and key.path != "run"
    example = key.choices[0] if key.choices else "true" if key.kind is bool else default_text(key)
    rows = [
        ("default", "none: it has to be given" if needed else default_text(key) or "empty"),
        ("value", f"{kind}{', or null for none' if key.optional else ''}"),
        ("unit", key.unit),
        ("choices", ", ".join(key.choices)),
        ("path", key.path),
    ]
    value = example if example and "<" not in example and len(example) < NAMES else "…"
    lines = [bold(key.name), *_wrapped(f"  {key.text}", "  "), ""]
    lines += _columns([row for row in rows if row[1]], 12)
    return [*lines, "", f"  {full} {key.name}={value}", f"  {full} --{key.name} {value}", ""]


def _number(value: float | None) -> str:
    return f"{value:,.15g}" if value is not None else ""


def _options(keys: list[Key]) -> list[str]:
    return _columns([(f"{key.name}={default_text(key)}", _text(key)) for key in keys], NAMES, equals=True)


def _text(key: Key, positional: bool = False) -> str:
    needed = "needed: " if key.default == MISSING and key.path != "run" and not positional else ""
    unit = f" [{key.unit}]" if key.unit and key.unit not in key.text else ""
    listed = all(re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", key.text) for choice in key.choices)
    choices = f" ({' | '.join(key.choices)})" if key.choices and not listed else ""
    return f"{needed}{key.text}{choices}{unit}"


def default_text(key: Key) -> str:
    """The default of an option as help shows it."""
    value = key.default
    if value == MISSING:
        return "<the newest run>" if key.path == "run" else "…"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, str) and value.startswith(("${basename:", "${name_of:")):
        return "<name of the folder>"
    return re.sub(r"\$\{([\w.]+)\}", r"<\1>", str(value))


def _columns(rows: list[tuple[str, str]], widest: int, equals: bool = False) -> list[str]:
    """Rows of a name and a text. A name that is wider than its column has a line of its own."""
    lengths = sorted(len(name) for name, _ in rows) or [0]
    # most names fit: a column as wide as the longest would leave little room for the texts
    column = min(lengths[-1] if lengths[-1] <= NARROW else max(lengths[len(lengths) * 7 // 8], NARROW), widest) + 2
    lines = []
    for name, text in rows:
        coloured = _name(name, equals)
        parts = textwrap.wrap(printable(text), _width() - 2 - column, break_on_hyphens=False, break_long_words=False)
        if len(name) > column - 2:
            lines.append(f"  {coloured}")
        else:
            lines.append(f"  {coloured}{' ' * (column - len(name))}{parts.pop(0) if parts else ''}".rstrip())
        lines += [f"  {' ' * column}{part}" for part in parts]
    return lines


def _name(text: str, equals: bool) -> str:
    name, sign, value = text.partition("=") if equals else (text, "", "")
    return f"{cyan(name)}{sign}{value}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _width() -> int:
    return max(50, min(shutil.get_terminal_size().columns, WIDEST))


def _styled(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if has_colours(sys.stdout) else text


bold, dim, cyan = partial(_styled, "1"), partial(_styled, "2"), partial(_styled, "36")

__all__ = ["command_help", "default_text", "overview", "usage"]
