"""Do the commands of a block exist, with their options and values? They are read as `avssl` reads them, and not run."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from avssl.cli import _accepted
from avssl.commands import AVSSL, Program
from avssl.config.compose import _checked_words, used_groups
from avssl.config.sweep import unfold
from avssl.config.words import _sorted_out
from avssl.core.errors import UserError
from tests.docs.pages import ROOT

FLAGS = {"-q", "-v", "--quiet", "--verbose", "--show-config"}
"""Words that every command accepts and that change no option."""

_CALL = re.compile(r"(?:^|(?<!-t)[\s(;|&])(avssl|python -m (?:benchmarks|experiments)|make)(?=\s|$)([^|;&)#<>]*)")


def calls(line: str) -> Iterator[tuple[str, list[str]]]:
    """The calls of `avssl`, `python -m benchmarks`, `python -m experiments` and `make` in a line of shell.

    Yields the program and its words. What a shell would replace (`$v`, `$(date)`) is 1, which every option accepts.
    """
    if line.lstrip().startswith("#"):
        return
    line = re.sub(r"\s#.*$", "", line)
    line = re.sub(r"\$\([^()]*\)|\$\{[^}]*\}|\$\w+", "1", line)
    for found in _CALL.finditer(line):
        yield found[1], shlex.split(found[2])


def problem(program: str, words: list[str]) -> str:
    """What is wrong with a call, or an empty text."""
    if program == "make":
        rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        wrong = [word for word in words if "=" not in word and word not in rules]
        return f"no target {wrong[0]} in the Makefile" if wrong else ""
    if not words or words[0] in ("help", "-h", "--help", "--version", "completion"):
        return ""
    words = [word for word in words if "…" not in word and word not in FLAGS]
    try:
        _check(_program(program), words)
    except UserError as error:
        return str(error)
    return ""


@cache
def _groups(command: str, folder: Path | None) -> dict[str, list[str]]:
    return used_groups(command, folder)


def _program(name: str) -> Program:
    if name == "avssl":
        return AVSSL
    from benchmarks.__main__ import BENCHMARKS
    from experiments.__main__ import EXPERIMENTS

    return BENCHMARKS if "benchmarks" in name else EXPERIMENTS


def _check(program: Program, words: list[str]) -> None:
    name, rest = words[0], words[1:]
    if rest and f"{name} {rest[0]}" in program.commands:
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in program.commands:
        raise UserError(f"no command '{name}'")
    if {"--help", "-h"} & {*rest}:
        return
    command = program.commands[name]
    rest, sweep = _as_options(program, name, rest)
    for options in [run.words for run in unfold(rest)] if sweep else [rest]:
        _checked_words([*options], f"{program.name} {name}", command.schema, _groups(name, program.configs))


def _as_options(program: Program, name: str, words: list[str]) -> tuple[list[str], bool]:
    """The words as key=value, and whether they make several runs."""
    known = _accepted(program, name)
    given, bare = _sorted_out(known, words)
    if bare and not known.positional:
        raise UserError(f"{program.name} {name} takes no word such as {bare[0]}")
    if known.positional and bare:
        many = known.keys[known.positional].many
        given.words.append(f"{known.positional}={f'[{bare[0]}]' if many else bare[0]}")
    return given.words, given.multirun
