"""docs/reference/commands.md: every command with its options, from their declarations."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from avssl.assets import assets_root
from avssl.commands import AVSSL, Command
from avssl.config.compose import used_groups
from avssl.config.option import Key, keys_of, shown
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "commands.md"

TOP = """# Every command and option

<!-- written by `python -m tests.docs --write reference`: edit the options' declarations, not this page -->

A command takes one word for the one thing that it needs, and options as `key=value`, or `--key value`. A list is `a,b`.
`avssl help train` shows the options that people change most. `avssl train --show-config` prints every option as your
presets set it.

"""


def page() -> str:
    """The page, in Markdown."""
    groups = getattr(AVSSL, "groups", None) or {"": tuple(AVSSL.commands)}
    names = [name for title in groups.values() for first in title for name in _with_parts(first)]
    names = list(dict.fromkeys(names))
    names += [name for name in AVSSL.commands if name not in names]
    overview = ["| command | what it does |", "|---|---|"]
    overview += [f"| [`avssl {n}`](#avssl-{_anchor(n)}) | {_cell(AVSSL.commands[n].summary)} |" for n in names]
    return TOP + "\n".join([*overview, "", *(line for name in names for line in _command(name)), ""]).rstrip() + "\n"


def _with_parts(first: str) -> list[str]:
    """A command, and those of two words that begin with it."""
    return [name for name in AVSSL.commands if name == first or name.startswith(f"{first} ")]


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _command(name: str) -> Iterator[str]:
    command = AVSSL.commands[name]
    yield from (f"## avssl {name}", "", f"{_sentence(command.summary)} {_plain_text(command.about)}", "")
    width = max((len(line) for line, _ in command.examples), default=0)
    yield from ("```bash", *(f"{line:{width}}   # {text}" for line, text in command.examples), "```", "")
    if word := getattr(command, "positional", ""):
        other = getattr(command, "otherwise", "")
        yield from (f"A word without `=` sets `{word}`{f' or `{other}`' if other else ''}.", "")
    yield from _presets(name)
    base = next((n for n, c in AVSSL.commands.items() if c.schema is getattr(command.schema, "takes", None)), "")
    if base:
        yield from (f"It takes every option of [`avssl {base}`](#avssl-{_anchor(base)}), and these.", "")
    for section, text, keys in _sections(command):
        if section:
            yield from (f"### {name}: {section}", "", f"{_sentence(text)}", "")
        common = [key for key in keys if key.name in getattr(command, "common", ())]
        yield from ("| option | default | what it is |", "|---|---|---|")
        yield from (_row(key, command) for key in [*common, *(key for key in keys if key not in common)])
        yield ""


def _sections(command: Command) -> Iterator[tuple[str, str, list[Key]]]:
    """The options by section, as name, heading and options; first those of no section."""
    keys, schema = keys_of(command.schema), command.schema
    plain = [key for key in keys if "." not in key.name]
    if plain:
        yield "", "", plain
    for f in fields(schema):
        nested = next((t for t in (f.type, *get_args(f.type)) if is_dataclass(t)), None)
        inside = [key for key in keys if key.name.startswith(f"{f.name}.")]
        if nested is not None and inside:
            yield f.name, f.metadata.get("help") or f.name, inside


def _presets(name: str) -> Iterator[str]:
    groups = used_groups(name, AVSSL.configs)
    if not groups:
        return
    yield from ("A preset sets many options at once; an option given beside it wins.", "")
    yield from ("| preset | what it is |", "|---|---|")
    for group, choices in groups.items():
        if group == "data" and name != "index":
            yield "| `data=…` | A published data set, as for [`avssl index`](#avssl-index). |"
            continue
        folder = assets_root() / ("data" if group == "data" else f"configs/{group}")
        for choice in choices:
            yield f"| `{group}={choice}` | {_cell(_description(Path(str(folder / f'{choice}.yaml'))))} |"
    yield ""


def _description(path: Path) -> str:
    """What a preset's file says of itself: its first comment."""
    said: list[str] = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("#").strip()
        if text.startswith("@package"):
            continue
        if not text:
            if said:
                break
            continue
        said.append(text)
    return _sentence(" ".join(said)) if said else ""


def _row(key: Key, command: Command) -> str:
    default = "needed" if key.default == "???" else f"`{_default(key.default)}`" if _default(key.default) else ""
    if key.path == "run" and (default == "needed" or key.name in getattr(command.schema, "one_of", ())):
        default = "the newest run"
    return f"| `{key.name}` | {default} | {_cell(_sentence(key.text))} {_accepts(key)} |".replace("  |", " |")


def _default(value: Any) -> str:
    """A default as it would be typed; empty for none."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    if str(value).startswith(("${basename:", "${name_of:")):
        return "<the folder's name>"
    return re.sub(r"\$\{(\w+:)?([\w.]+)\}", r"<\2>", str(value)).replace("|", "\\|")


def _accepts(key: Key) -> str:
    """What an option accepts, for the last column: unit, bounds, choices."""
    parts = [_bounds(key)] if key.kind in (int, float) else []
    if key.choices:
        parts.append(", ".join(f"`{choice}`" for choice in key.choices))
    if key.many:
        parts.append(f"a list of {key.length}" if key.length else "a list")
    text = "; ".join(part for part in parts if part)
    return f"({text})" if text else ""


def _bounds(key: Key) -> str:
    unit = f" {key.unit}" if key.unit else ""
    low, high = key.minimum, key.maximum
    if low is None or high is None:
        return key.unit
    return f"{_number(low)} to {_number(high)}{unit}"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else shown(value)


def _sentence(text: str) -> str:
    """Text with a capital, unless it begins with a choice or a name, and a full stop."""
    text = _plain_text(text.strip())
    first = text.split(" ")[0]
    named = not first.rstrip(";,").replace("-", "").isalpha() or " | " in text
    capital = text if named else text[:1].upper() + text[1:]
    return capital if capital.endswith((".", "…")) else f"{capital}."


def _plain_text(text: str) -> str:
    """Text in which Markdown shows signs as they are."""
    return text.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;") if "`" not in text else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
