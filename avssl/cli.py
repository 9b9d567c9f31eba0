"""`avssl <command> [key=value …]`: runs commands and prints help and errors, for `benchmarks` and `experiments` too."""

import errno
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pkgutil import resolve_name as _resolve
from threading import Timer
from typing import Any

from rich.markup import escape
from rich.table import Table

from .commands import AVSSL, Program
from .core.errors import FailedError, UserError
from .core.out_folder import NO_SPACE
from .core.screen import Console, check_working_folder, one_line, prepare_streams
from .core.version import __version__

MULTIRUN = "--multirun"

AUTO = "experiment=auto"
"""The word for which `Command.compose` composes the config."""

QUIET = 1.0
"""Seconds after which a command that has printed nothing prints that it is at work."""

FIXES = {
    **dict.fromkeys(NO_SPACE, "free some space and repeat the command"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose a folder that allows larger files",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose another folder"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "move the existing file away, or choose another path"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO), "choose another path"),
    errno.ENOENT: "it has disappeared, or a folder above it is missing: restore it, or choose another path",
    errno.EIO: "the disk cannot be read or written there: check it, and repeat the command",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
}
"""What a user can do about errors of the file system. Any other OSError is a bug, and shown with its traceback."""


def _flush(console: Console, table: Table) -> None:
    console.print(table)
    console.print()


def print_overview(console: Console, program: Program) -> None:
    """Print the list of commands: the answer to a call without a command."""
    console.print(f"[bold]{program.short} {__version__}[/]  {program.about}\n")
    console.print(escape(f"  {program.name} <command> [key=value …]        {program.name} <command> --help") + "\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, command in program.commands.items():
        table.add_row(f"[bold cyan]{name}[/]", command.summary)
    _flush(console, table)
    for line in program.hints:
        console.print(line)


def print_help(console: Console, program: Program, name: str) -> None:
    """Print the help of one command."""
    from .config.compose import is_missing, keys_of, used_groups

    command = program.commands[name]
    console.print(f"[bold]{program.name} {name}[/] {escape('[key=value …]')}: {command.summary}\n")
    console.print(command.about + "\n")
    console.print("[bold]Examples[/]")
    for line, text in command.examples:
        console.print(f"  {escape(line)}   [dim]# {text}[/]", soft_wrap=True)
    console.print()
    choices = used_groups(name, program.configs)
    if choices:
        console.print("[bold]Presets[/] [dim](a preset sets many options at once; options given beside it win)[/]")
        table = Table(box=None, show_header=False, padding=(0, 2))
        for group, names in choices.items():
            table.add_row(f"[cyan]{group}=[/]", " | ".join(names))
        _flush(console, table)
    base = next((n for n, c in program.commands.items() if c.schema is getattr(command.schema, "takes", None)), "")
    if base:
        console.print(f"Every option of {program.name} {base} ({program.name} {base} --help), and these.\n")
    console.print("[bold]Options[/] [dim](with their defaults)[/]")
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True, max_width=44)
    table.add_column()
    for key in keys_of(command.schema):
        needed = is_missing(key.default)
        default = "…" if needed else _plain(key.default)
        unit = f" [dim]{escape(f'[{key.unit}]')}[/]" if key.unit else ""
        text = f"[bold]needed:[/] {escape(key.text)}" if needed else escape(key.text)
        if key.choices:
            text += f" [dim]({' | '.join(key.choices)})[/]"
        table.add_row(f"[cyan]{key.name}[/]={escape(default)}", text + unit)
    console.print(table)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, str) and value.startswith(("${basename:", "${name_of:")):
        return "<the folder's name>"
    return str(value)


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's arguments); returns the exit status as of `run_commands`."""
    return run_commands(AVSSL, sys.argv[1:] if argv is None else argv)


def run_commands(program: Program, given: Sequence[str]) -> int:
    """Run the command that the words `given` name; a wrong option, path or file gives an error of one line.

    Returns:
        The exit status: 0; 1 if launched processes failed; 2 for a wrong option, path or file; 130 if interrupted; 75
        if interrupted and to be requeued.
    """
    words, said_by = [*given], f"[bold red]{program.short}:[/]"
    prepare_streams()
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    if not words or words[0] in ("-h", "--help", "help"):
        print_overview(console, program)
        return 0
    if words[0] in ("--version", "-V"):
        console.print(f"{program.short} {__version__}")
        return 0
    try:
        check_working_folder()
        return _dispatch(program, words[0], words[1:], console)
    except UserError as error:
        errors.print(f"{said_by} {escape(one_line(error))}")
        return 2
    except FailedError as error:
        errors.print(f"{said_by} {escape(one_line(error))}")
        return 1
    except KeyboardInterrupt as error:
        if not getattr(error, "said", False):
            errors.print(f"{program.short}: interrupted; repeat the command to resume")
        return 75 if getattr(error, "requeue", False) else 130
    except BrokenPipeError:  # `avssl … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in FIXES:
            raise
        where, fix = "" if error.filename is None else f"{os.fsdecode(error.filename)}: ", FIXES[error.errno]
        errors.print(f"{said_by} {escape(one_line(f'{where}{error.strerror}; {fix}'))}")
        return 2


def _dispatch(program: Program, name: str, words: list[str], console: Console) -> int:
    from .config.auto import is_left_open
    from .config.check_options import check_command
    from .config.compose import compose_config

    if words and f"{name} {words[0]}" in program.commands:
        name, words = f"{name} {words[0]}", words[1:]
    if name not in program.commands:
        raise _no_command(program, name, words)
    if any(w in ("-h", "--help") for w in words):
        print_help(console, program, name)
        return 0
    command = program.commands[name]
    with _first_word(program, name):
        if MULTIRUN in words:
            if not command.run_all:
                many = ", ".join(n for n, c in program.commands.items() if c.run_all) or "avssl train"
                raise UserError(f"{MULTIRUN} is for {many}, not {name}")
            from .config.sweep import compose_sweep

            left_open = any(word.startswith("experiment=") and "auto" in word for word in words) or is_left_open(words)
            compose = _resolve(command.compose) if command.compose and left_open else None
            sweep, lines = compose_sweep(name, command.schema, [w for w in words if w != MULTIRUN], compose)
            _say(console, lines)
            for config in sweep:
                check_command(config)
            _resolve(command.run_all)(sweep)
        else:
            if command.compose and (AUTO in words or is_left_open(words)):
                config, lines = _resolve(command.compose)(name, command.schema, words)
                _say(console, lines)
            else:
                config = compose_config(name, command.schema, words, program.name, program.configs)
            check_command(config)
            if command.check:
                _resolve(command.check)(config)
            _resolve(command.run)(config)
    return 0


def _say(console: Console, lines: list[str]) -> None:
    """Print what was decided, in the first process of a run."""
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)


def _no_command(program: Program, name: str, words: list[str]) -> UserError:
    from .config.compose import nearest

    if name in program.moved:
        now = " ".join([program.moved[name], *map(shlex.quote, words)])
        return UserError(f"{program.name} {name} has moved: in a checkout of {program.short}, run {now}")
    return UserError(f"no command '{name}'{nearest(name, [*program.commands])} ({program.name} --help lists them)")


class _Heard:
    """A stream that records whether anything was written to it."""

    def __init__(self, file: Any):
        self.file, self.heard = file, False

    def write(self, text: str) -> int:
        self.heard = True
        return self.file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@contextmanager
def _first_word(program: Program, name: str) -> Iterator[None]:
    """Print a line after `QUIET` seconds without output, as during the import of torch."""
    lines_out = program.commands[name].lines_out
    out, err = _Heard(sys.stdout), _Heard(sys.stderr)

    def say() -> None:
        if not (out.heard or err.heard):
            print(f"{program.name} {name}: at work …", file=err if lines_out else out, flush=True)

    timer = Timer(QUIET, say)
    timer.daemon = True
    if os.environ.get("RANK", "0") == "0":  # the other processes of a run print nothing
        timer.start()
    try:
        with redirect_stdout(out), redirect_stderr(err):  # type: ignore[type-var]
            yield
    finally:
        timer.cancel()


if __name__ == "__main__":
    sys.exit(main())
