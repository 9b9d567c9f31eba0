"""`avssl <command> [key=value …]`: runs commands and prints help and errors, for `benchmarks` and `experiments` too."""

import errno
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pkgutil import resolve_name as _resolve
from threading import Timer
from typing import Any, TextIO

from .commands import AVSSL, Command, Program
from .config.words import END, Given, accepted, read_words
from .core.errors import FailedError, UserError
from .core.printable import check_working_folder, has_colours, is_first_process, one_line, prepare_streams, printable
from .core.verbosity import VARIABLE, is_quiet, set_verbosity

AUTO = "experiment=auto"
"""The word for which `Command.compose` composes the config."""

QUIET = 0.4
"""Seconds after which a command that has printed nothing prints that it is at work; Python has begun 0.1 s before."""

VERBOSITY = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}

FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space and repeat the command"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose a folder that allows larger files",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose another folder"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "move the existing file away, or choose another path"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO), "choose another path"),
    errno.ENOENT: "it has disappeared, or a folder above it is missing: restore it, or choose another path",
    errno.EIO: "the disk cannot be read or written there: check it, and repeat the command",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n)"),
}
"""What a user can do about errors of the file system. Any other OSError is a bug, and shown with its traceback."""


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's arguments); returns the exit status as of `run_commands`."""
    return run_commands(AVSSL, sys.argv[1:] if argv is None else argv)


def run_commands(program: Program, given: Sequence[str]) -> int:
    """Run the command that the words `given` name; a wrong option, path or file gives an error of one line.

    Returns:
        The exit status: 0; 1 if launched processes failed; 2 for a wrong option, path or file; 130 if interrupted; 75
        if interrupted and to be requeued.
    """
    prepare_streams()
    before = os.environ.get(VARIABLE, "")
    try:
        status = _dispatch(program, _without_verbosity(given))
        sys.stdout.flush()  # a reader that has ended is noticed here, not when the interpreter ends
        return status
    except UserError as error:
        _print_error(program, error)
        return 2
    except FailedError as error:
        _print_error(program, error)
        return 1
    except KeyboardInterrupt as error:
        if not getattr(error, "said", False):
            print(f"{program.short}: interrupted; repeat the command to resume", file=sys.stderr)
        return 75 if getattr(error, "requeue", False) else 130
    except BrokenPipeError:  # `avssl … | head`
        _end_output()
        return 0
    except OSError as error:
        if error.errno not in FIXES:
            raise
        where, fix = "" if error.filename is None else f"{os.fsdecode(error.filename)}: ", FIXES[error.errno]
        _print_error(program, f"{where}{error.strerror}; {fix}")
        return 2
    finally:
        set_verbosity(before)


def _print_error(program: Program, text: object) -> None:
    """Print an error on one line, after what was printed before."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _end_output()
    name = f"{program.short}:"
    name = f"\x1b[1;31m{name}\x1b[0m" if has_colours(sys.stderr) else name
    with suppress(BrokenPipeError):
        print(f"{name} {one_line(text)}", file=sys.stderr, flush=True)


def _end_output() -> None:
    """Let nothing more be written to a standard output whose reader has ended."""
    with suppress(OSError, ValueError):  # a stream that is no file has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _without_verbosity(given: Sequence[str]) -> list[str]:
    """The words without -q and -v, which hold from now on, wherever they are before `--`."""
    end = [*given, END].index(END)
    levels = {VERBOSITY[word] for word in given[:end] if word in VERBOSITY}
    if len(levels) > 1:
        raise UserError("-q and -v are both given: give one of them")
    if levels:
        set_verbosity(*levels)
    return [*(word for word in given[:end] if word not in VERBOSITY), *given[end:]]


def _dispatch(program: Program, words: list[str]) -> int:
    if words[:1] in (["--version"], ["-V"]):
        from .core.version import __version__

        print(f"{program.short} {__version__}")
        return 0
    if words[:1] in (["-h"], ["--help"], ["help"]):
        name, topics = _command_in(program, words[1:]) if words[1:] else ("", [])
        _print_help(program, name, topics)
        return 0
    if not words:
        _print_help(program, "", [])
        return 0
    check_working_folder()
    name, rest = _command_in(program, words)
    command = program.commands[name]
    given = read_words(_accepted(program, name), rest)
    if given.help is not None:
        _print_help(program, name, given.help)
        return 0
    with _first_word(program, name):
        _run(program, name, command, given)
    return 0


def _print_help(program: Program, name: str, topics: list[str]) -> None:
    from .help import command_help, overview

    print("\n".join(command_help(program, name, topics) if name else overview(program)).rstrip("\n"))


def _command_in(program: Program, words: list[str]) -> tuple[str, list[str]]:
    """The command that the words begin with, and the words after it."""
    name, rest = words[0], words[1:]
    if rest and f"{name} {rest[0]}" in program.commands:
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in program.commands:
        raise _no_command(program, name, rest)
    return name, rest


def _accepted(program: Program, name: str) -> Any:
    from .config.presets import used_groups

    command, before = program.commands[name], f"{name} "
    return accepted(
        f"{program.name} {name}", command.schema, used_groups(name, program.configs), command.positional,
        command.otherwise, [other.removeprefix(before) for other in program.commands if other.startswith(before)],
    )  # fmt: skip


def _run(program: Program, name: str, command: Command, given: Given) -> None:
    """Compose the config of a command, check it, and run the command."""
    if command.light:
        _resolve(command.run)(_light_config(command, given.words))
        return
    _say(given.notes, sys.stderr)
    configs, lines = _composed(program, name, command, given)
    if given.show_config:
        _show(configs, lines)
        return
    from .config.check_given import check_given
    from .config.check_options import check_command
    from .config.launch import PartsConfig

    _say(lines, sys.stderr if getattr(configs[0], "json", False) else sys.stdout)
    for config in configs:
        check_command(config)
        if command.check and not given.multirun:
            _resolve(command.check)(config)
    check_given(configs, given.words)
    if given.named is not None:
        from .config.run_names import announce_run

        announce_run(given.named)
    if given.multirun:
        _resolve(command.run_all)(configs)
    elif isinstance(getattr(configs[0], "launch", None), PartsConfig):
        from .launch.parts import run_command

        run_command(name, configs[0], given.words, lambda: _resolve(command.run)(configs[0]))
    else:
        _resolve(command.run)(configs[0])


def _composed(program: Program, name: str, command: Command, given: Given) -> tuple[list[Any], list[str]]:
    """The configs of a command, several with --multirun, and lines that say what was decided for them."""
    from .config.auto import is_left_open

    words = given.words
    if given.multirun:
        if not command.run_all:
            many = ", ".join(n for n, c in program.commands.items() if c.run_all) or "avssl train"
            raise UserError(f"--multirun is for {many}, not {name}")
        from .config.sweep import compose_sweep

        left_open = any(word.startswith("experiment=") and "auto" in word for word in words) or is_left_open(words)
        compose = _resolve(command.compose) if command.compose and left_open else None
        return compose_sweep(name, command.schema, words, compose)
    if command.compose and (AUTO in words or is_left_open(words)):
        config, lines = _resolve(command.compose)(name, command.schema, words)
        return [config], lines
    from .config.compose import compose_config

    return [compose_config(name, command.schema, words, program.name, program.configs)], []


def _light_config(command: Command, words: list[str]) -> Any:
    """The config of a command whose options are plain texts, without Hydra."""
    from .config.option import MISSING, check_config, keys_of

    config = command.schema(**{name: value for name, _, value in (word.partition("=") for word in words)})
    for key in keys_of(command.schema):
        if getattr(config, key.name) == MISSING:
            raise UserError(f"{key.name} is needed: {' or '.join(key.choices)} ({key.text})")
    check_config(config)
    return config


def _show(configs: list[Any], lines: list[str]) -> None:
    """Print the options of configs as YAML documents, below what was decided for them."""
    from .config.show import as_yaml

    for line in lines:
        print(f"# {one_line(line)}")
    print("---\n".join(map(as_yaml, configs)), end="")


def _say(lines: list[str], stream: TextIO) -> None:
    """Print what was decided, in the first process of a run."""
    if is_first_process() and not is_quiet():
        for line in lines:
            print(printable(line), file=stream)


def _no_command(program: Program, name: str, words: list[str]) -> UserError:
    from .config.option import nearest, shown

    if name in program.moved:
        now = " ".join([program.moved[name], *map(shlex.quote, words)])
        return UserError(f"{program.name} {name} has moved: in a checkout of {program.short}, run {now}")
    hint = nearest(name, [*program.commands])
    if not hint and os.path.isdir(name) and "index" in program.commands:
        hint = f"; for a folder of videos, {program.name} index {name}"
    return UserError(f"no command '{shown(name)}'{hint} ({program.name} --help lists them)")


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
    out, err = _Heard(sys.stdout), _Heard(sys.stderr)

    def say() -> None:
        if not (out.heard or err.heard):
            with suppress(OSError, ValueError):  # its reader has ended
                print(f"{program.name} {name}: at work …", file=err, flush=True)

    timer = Timer(QUIET, say)
    timer.daemon = True
    if is_first_process() and not is_quiet():  # the other processes of a run print nothing
        timer.start()
    try:
        with redirect_stdout(out), redirect_stderr(err):  # type: ignore[type-var]
            yield
    finally:
        timer.cancel()


if __name__ == "__main__":
    sys.exit(main())
