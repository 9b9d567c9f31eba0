"""Turns what is typed after a command into `key=value` words: a bare word, `--key value`, the name of a run.

`avssl.config.compose` makes the config from these words. This file refuses unknown options without it, because Hydra
takes longer to import than a refusal may take.
"""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UserError
from ..core.printable import one_line, warn
from .check_word import check_plain
from .index_root import made_of, root_of_word
from .option import MISSING, Key, accepted_keys, nearest, shown
from .presets import card_names
from .renamed import refusal

if TYPE_CHECKING:
    from .run_names import Chosen, Wish

HELP = ("-h", "--help")
END = "--"
"""Ends the options: every word after it is a bare word, even if it begins with a dash."""

MULTIRUN = "--multirun"
SHOW_CONFIG = "--show-config"
FLAGS = (MULTIRUN, SHOW_CONFIG, "--help", "--quiet", "--verbose")
BOOLEANS = ("true", "false")
QUOTES = "\"'"

VIDEOS = "videos"
"""The option that a bare word beside `run=…` sets, of commands whose bare word is else the run."""

SHORT = ("-h", "-q", "-v")

_PLAIN = re.compile(r"[A-Za-z_./][\w./@+-]*", re.ASCII)
"""Values that Hydra takes as they are, unless they are one of `_SPECIAL`."""

_SPECIAL = ("null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf")


@dataclass
class Given:
    """What was typed after a command."""

    words: list[str] = field(default_factory=list)
    """`key=value`, each with a key that the command knows."""
    help: list[str] | None = None
    """The words after --help; None without it."""
    multirun: bool = False
    show_config: bool = False
    notes: list[str] = field(default_factory=list)
    """Lines about what a word means."""
    named: "Chosen | None" = None
    """The run that a name means, or the newest run; None if the user gave the folder, or if there is no run."""


@dataclass(frozen=True)
class Accepted:
    """What a command accepts."""

    command: str
    """With its program, as the user types it."""
    keys: dict[str, Key]
    groups: dict[str, list[str]]
    positional: str = ""
    """The option that a bare word sets; empty: the command takes no bare word."""
    otherwise: str = ""
    """The option that a bare word sets instead of `run`, if it names no run."""
    subcommands: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    """Options of which one is needed, `run` among them: without any, it is the newest run."""
    run_file: str = ""
    """A file that the run should have, if a word may mean several; empty: it should be finished."""
    any_run: bool = False
    """Whether the run may be one that is not finished, if a word may mean several."""


def accepted(
    command: str, schema: type, groups: dict[str, list[str]], positional: str = "", otherwise: str = "",
    subcommands: Sequence[str] = (),
) -> Accepted:  # fmt: skip
    """What a command with the options of `schema` accepts; the arguments are those of `Accepted`."""
    keys = {key.name: key for key in accepted_keys(schema)}
    one_of: tuple[str, ...] = ("run",) if "run" in keys and keys["run"].default == MISSING else ()
    return Accepted(
        command, keys, groups, positional, otherwise, tuple(subcommands), getattr(schema, "one_of", one_of),
        getattr(schema, "run_file", ""), getattr(schema, "any_run", False),
    )  # fmt: skip


def read_words(known: Accepted, typed: Sequence[str]) -> Given:
    """The words of a command, in the form of `key=value`.

    Raises:
        UserError: names the first word that the command does not know.
    """
    given, bare = _sorted_out(known, typed)
    if given.help is not None:
        return given
    _check_presets(known, given.words)
    _add_bare(known, given, bare)
    _check_values(known, given.words)
    if not given.multirun:
        _find_runs(known, given)
    return given


def _sorted_out(known: Accepted, typed: Sequence[str]) -> tuple[Given, list[str]]:
    """Options and flags, and the bare words beside them."""
    given, bare, rest = Given(), [], list(typed)
    while rest:
        word = rest.pop(0)
        if word == END:
            bare += rest
            break
        if word in HELP:
            given.help = [w for w in rest if w not in HELP]
            break
        if word == MULTIRUN:
            given.multirun = True
        elif word == SHOW_CONFIG:
            given.show_config = True
        elif word.startswith("--") and len(word) > 2:
            given.words.append(_long(known, word, rest))
        elif re.match(r"-[a-zA-Z]", word) and not os.path.lexists(word):
            raise UserError(f"no option {shown(word)}{_help_or(word, SHORT)} ({known.command} --help lists them)")
        elif "=" in word and not _is_path(known, word):
            check_known(known, *word.partition("=")[::2])
            given.words.append(word)
        else:
            bare.append(word)
    return given, bare


def _long(known: Accepted, word: str, rest: list[str]) -> str:
    """`--key=value`, `--key value` or, for true and false, `--key` as `key=value`; takes the value from `rest`."""
    name, equals, value = word[2:].partition("=")
    name = name if name in known.keys or name in known.groups else name.replace("-", "_")
    key = known.keys.get(name)
    if key is None and name not in known.groups:
        _check_section(known, name)
        if instead := refusal(name, known.command.partition(" ")[2], value or None):
            raise UserError(instead)
        close = nearest(name, [*known.keys, *known.groups]).replace("did you mean ", "did you mean --")
        if difflib.get_close_matches(word, FLAGS, 1, 0.7):
            close = _help_or(word, FLAGS)
        raise UserError(f"unknown option --{shown(name)}{close} ({known.command} --help lists them)")
    if "${" in (value if equals else rest[0] if rest else ""):
        raise UserError(f"--{name} takes its value as it is: to refer to another option, write '{name}=${{…}}'")
    if equals:
        return f"{name}={value}"
    if key is not None and key.kind is bool and not key.many:
        return f"{name}={rest.pop(0).lower() if rest and rest[0].lower() in BOOLEANS else 'true'}"
    if not rest or rest[0].startswith("--"):
        raise UserError(f"--{name} needs a value: --{name} …{_about(key)}")
    return f"{name}={rest.pop(0)}"


def _check_values(known: Accepted, words: list[str]) -> None:
    """Refuse wrong numbers and choices here: composing the config takes longer than a refusal may take."""
    for word in words:
        name, _, value = word.partition("=")
        if name in known.keys and name not in known.groups:
            check_plain(known.keys[name], value)


def _check_presets(known: Accepted, words: list[str]) -> None:
    """Raise UserError for two presets of a group, of which the last would win."""
    chosen: dict[str, str] = {}
    for word in words:
        name = word.partition("=")[0]
        before = chosen.setdefault(name, word)
        if name not in known.groups or before == word:
            continue
        fix = ", and combine terms by their weights, such as loss.contrast=1 loss.rotation=0.1"
        fix = fix if name == "objective" else ""
        raise UserError(f"{one_line(shown(before))} and {one_line(shown(word))} are given: give one of them{fix}")


def _about(key: Key | None) -> str:
    return f" ({key.text})" if key else ""


def _help_or(word: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, [*names, "-help"], 1, 0.6)
    close = ["--help"] if close == ["-help"] else close
    return f"; did you mean {close[0]}?" if close else ""


def _is_path(known: Accepted, word: str) -> bool:
    """Whether the word is a path that contains `=`. An option that the command knows is not a path."""
    name = word.partition("=")[0]
    return bool(known.positional) and name not in known.keys and name not in known.groups and os.path.lexists(word)


def check_known(known: Accepted, name: str, value: str = "") -> None:
    """Raise UserError for an option that the command does not have."""
    if name in known.keys or name in known.groups:
        return
    if name.startswith(("+", "~")) or "@" in name:
        raise UserError(
            f"'{shown(f'{name}={value}')}' is not an option: options are key=value, as {name.strip('+~')}=…"
        )
    plain = value.strip("[]\"'")
    if instead := refusal(name, known.command.partition(" ")[2], None if plain in ("", "null") else plain):
        raise UserError(instead)
    _check_section(known, name)
    close = nearest(name, [*known.keys, *known.groups])
    raise UserError(f"unknown option '{one_line(shown(name))}'{close} ({known.command} --help lists them)")


def _check_section(known: Accepted, name: str) -> None:
    first = next((k for k in known.keys if k.startswith(f"{name}.")), None)
    if first is not None:
        raise UserError(f"'{name}' is a section: set one of its options, as {first}=…")


def _add_bare(known: Accepted, given: Given, bare: list[str]) -> None:
    """Turn the bare words into the option that they set."""
    for word in bare:
        if "${" in word:  # the files of an index and of a run may not contain it
            raise UserError(f"'{one_line(shown(word, 300))}' contains ${{, which avssl cannot read back: rename it")
        _check_bare(known, word)
    name, key = known.positional, known.keys.get(known.positional)
    words = {word.partition("=")[0] for word in given.words}
    if not bare and key and key.default == MISSING and key.path != "run" and name not in words:
        form = "|".join(key.choices) or word_for(key)
        raise UserError(f"{word_for(key)} is needed: {known.command} {form} ({key.text})")
    if not bare or key is None:
        return
    if len(bare) > 1 and not key.many:
        what = f"one {word_for(key).lower()}"
        raise UserError(f"{known.command} takes {what}, not {len(bare)}: {one_line(' '.join(map(shown, bare)))}")
    if key.path == "run" and {name, VIDEOS} & words == {name} and VIDEOS in known.keys:  # avssl locate new run=digits
        name = VIDEOS
    for other in {name, known.otherwise} & words:
        raise UserError(f"'{one_line(shown(bare[0]))}' and {other}=… are given: give one of them")
    if key.many:
        runs = _run_folders(bare) if key.path == "run" else bare
        given.words.append(f"{name}=[{','.join(map(quoted, runs))}]")
        return
    word = bare[0]
    if known.otherwise and not _is_a_run(word):
        _check_weights(word)
        name = known.otherwise
    elif key.path == "folder":
        _check_folder(known, key, word)
    if name == "data.root" and (root := root_of_word(word)):  # `holiday` for `index/holiday`, made of ../holiday
        given.notes.append(f"videos: {root} ({made_of(word)})")
        for option, value in (("data.name", word), ("data.index", f"index/{word}")):
            if os.path.basename(root) != word and option in known.keys and option not in words:
                given.words.append(f"{option}={quoted(value)}")
        word = root
    given.words.append(f"{name}={quoted(word)}")


def _check_bare(known: Accepted, word: str) -> None:
    """Raise UserError for a word that is an option without a value, or that nothing takes."""
    text = one_line(shown(word))
    if os.path.lexists(word) and known.positional:
        return
    if word.lower() in ("help", "hlep", "hepl", "halp", "hlp"):
        raise UserError(f"'{text}' is not an option; did you mean --help?")
    if word in known.keys or word in known.groups:
        raise UserError(f"{text} needs a value: {text}=…{_about(known.keys.get(word))}")
    _check_section(known, word)
    if known.positional:
        return
    if known.subcommands:
        close = nearest(word, list(known.subcommands)) or f": it has {', '.join(known.subcommands)}"
        raise UserError(f"'{text}' is not a command of {known.command}{close}")
    close = nearest(word, [*known.keys, *known.groups])
    raise UserError(f"'{text}' is not an option: options are key=value{close} ({known.command} --help lists them)")


def word_for(key: Key) -> str:
    """The word that stands for the value of an option that is given without its name, such as FOLDER."""
    last = key.name.rpartition(".")[2]
    return "FOLDER" if last in ("root", "out") else last.upper()


def quoted(value: str) -> str:
    """A value in the form that Hydra takes for this very text: `${…}` refers to nothing."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", with_references(value))


def with_references(value: str) -> str:
    """A value in the form that Hydra takes for this text, in which `${…}` refers to another option."""
    if _PLAIN.fullmatch(value) and value.lower() not in _SPECIAL:
        return value
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    escaped += re.search(r"\\*$", escaped)[0]  # type: ignore[index]
    return f'"{escaped}"'


def unquoted(value: str) -> str:
    """The text of a value that `quoted` may have quoted."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
        return re.sub(r'(\\+)(?=["\']|$|\$\{)', lambda found: found[1][: len(found[1]) // 2], value[1:-1])
    return value


def _check_folder(known: Accepted, key: Key, word: str) -> None:
    """Raise UserError for a missing folder, unless its index exists and is enough for the command."""
    name = os.path.basename(os.path.normpath(word))
    if not word or os.path.lexists(word) or word.startswith("~"):
        return
    if key.default != MISSING and os.path.isdir(os.path.join("index", name)):
        return
    if key.name == "data.root" and (made := made_of(word)):
        raise UserError(f"no folder {one_line(shown(word, 300))}: {one_line(made)}, so give that folder")
    above = os.path.dirname(os.path.normpath(word))
    try:
        beside = [entry.name for entry in os.scandir(above or ".") if entry.is_dir() and entry.name[0] != "."]
    except OSError:
        beside = []
    close = difflib.get_close_matches(name, beside, 1, 0.6)
    hint = f"; did you mean {one_line(os.path.join(above, close[0]))}?" if close else ""
    fix = hint or f": give the folder of {'the run folders' if key.name == 'folder' else 'your videos'}"
    raise UserError(f"no folder {one_line(shown(word, 300))}{fix}")


def _is_a_run(word: str) -> bool:
    from .run_names import is_run, resolve_run

    if is_run(word) or not word or os.path.isfile(word):
        return is_run(word)
    try:
        resolve_run(word)
    except UserError:
        return False
    return True


def _check_weights(word: str) -> None:
    """Raise UserError for a word that is neither a file or folder nor the name of published weights."""
    names = card_names()
    if not os.path.lexists(word) and word not in names:
        raise UserError(
            f"'{one_line(shown(word, 300))}' is not a run, a file or the name of published weights"
            f"{nearest(word, names)} (`avssl runs` and `avssl models` list them)"
        )


def _run_folders(words: list[str]) -> list[str]:
    """Run folders and names of runs; other files and folders among several words are skipped, with a message."""
    from .run_names import RUNS, is_run, resolve_run

    def is_other(word: str) -> bool:
        beside = Path(word).absolute().parent == RUNS.absolute()
        return os.path.lexists(word) and not is_run(word) and (beside or os.path.isfile(word))

    others = [word for word in words if is_other(word)]
    kept = [word for word in words if word not in others]
    if not kept:
        raise UserError(f"no run among {one_line(shown(' '.join(words)))}: give run folders, as runs/*")
    if others:
        warn(f"skipped, not {'a run' if len(others) == 1 else 'runs'}: {shown(' '.join(others), 300)}")
    return [str(resolve_run(word)) if word else word for word in kept]


def _find_runs(known: Accepted, given: Given) -> None:
    """Replace the name of a run by its folder, and add the newest run if the command needs one and none is given."""
    from .run_names import Wish, choose_run

    texts = {name: unquoted(value) for name, _, value in (word.partition("=") for word in given.words)}
    if len(texts.keys() & {*known.one_of}) > 1:
        return  # the check of options says which go together
    wish = Wish(known.run_file, known.any_run, texts.get("names", "") if "names" in known.keys else "")
    if "run" in known.one_of and not texts.keys() & {*known.one_of}:
        given.named = choose_run("", wish=wish)
        given.words.append(f"run={quoted(str(given.named.folder))}")
        return
    for place, word in enumerate(given.words):
        name, _, value = word.partition("=")
        key = known.keys.get(name)
        if key is None or key.path != "run":
            continue
        if key.many:
            if '"' in value or "'" in value:
                continue
            parts = value.removeprefix("[").removesuffix("]").split(",")
            folders = [part if (run := _named_run(part, wish)) is None else _value(run) for part in parts]
            given.words[place] = f"{name}=[{','.join(folders)}]"
        elif (run := _named_run(value, wish)) is not None:
            given.words[place], given.named = f"{name}={_value(run)}", run


def _value(run: "Chosen") -> str:
    return quoted(str(run.folder))


def _named_run(value: str, wish: "Wish") -> "Chosen | None":
    """The run that a value names; None for a run folder, and for a value that names no run."""
    from .run_names import choose_run, is_run

    text = unquoted(value.strip())
    if not text or text == "null" or "${" in text or text.startswith("~") or is_run(text):
        return None
    if os.path.lexists(text) and not os.path.isdir(text):
        return None  # a file, or a link to itself: the check of paths says what is wrong with it
    return choose_run(text, wish=wish)
