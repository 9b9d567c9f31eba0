"""Do the commands of a block exist, with their options? They are composed, as `--show-config` does, and not run."""

import re
import shlex
from collections.abc import Iterator

from avssl.commands import AVSSL, Program
from avssl.config.compose import compose_config
from avssl.config.sweep import compose_sweep
from avssl.core.errors import UserError
from tests.docs.old_form import long_form
from tests.docs.pages import ROOT

MULTIRUN = "--multirun"

FLAGS = {"-q", "-v", "--quiet", "--verbose", "--show-config"}
"""Words that every command accepts and that change no option."""

_CALL = re.compile(r"(?:^|[\s(;|&])(avssl|python -m (?:benchmarks|experiments)|make)(?=\s|$)([^|;&)#<>]*)")


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
        _compose(_program(program), words)
    except UserError as error:
        return str(error)
    return ""


def _program(name: str) -> Program:
    if name == "avssl":
        return AVSSL
    from benchmarks.__main__ import BENCHMARKS
    from experiments.__main__ import EXPERIMENTS

    return BENCHMARKS if "benchmarks" in name else EXPERIMENTS


def _compose(program: Program, words: list[str]) -> None:
    if program is AVSSL:
        words = long_form(words)
    name, rest = words[0], words[1:]
    if rest and f"{name} {rest[0]}" in program.commands:
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in program.commands:
        raise UserError(f"no command '{name}'")
    if {"--help", "-h"} & {*rest}:
        return
    schema = program.commands[name].schema
    try:
        if MULTIRUN in rest:
            compose_sweep(name, schema, [w for w in rest if w != MULTIRUN])
        else:
            compose_config(name, schema, rest, program.name, program.configs)
    except UserError as error:
        if " is needed: " not in str(error):  # the page may leave out what it has said before
            raise
