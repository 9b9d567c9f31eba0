"""`--multirun`: options with several values, such as seed=0,1, become a run for each combination of values."""

import itertools
import math
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from ..core.errors import UserError
from . import TrainConfig
from .compose import accepted_keys, compose_config, in_brackets

NAMED = ("seed", "task")
"""Options that the default name of a run folder already contains."""


MAX_RUNS = 1000
"""Largest number of runs of a sweep."""


@dataclass
class Chosen:
    """The words of one run, and those of them that differ between the runs."""

    words: list[str]
    swept: list[str]


def unfold(words: list[str], lists: Container[str] = ()) -> list[Chosen]:
    """Every combination of the words' values; the last word varies fastest.

    Args:
        words: `key=value`, or `key=a,b` for several values.
        lists: the options whose value is a list: a,b is one value of it, and [a],[b] are two.

    Raises:
        UserError: a word cannot be swept, no word has several values, or they make more than `MAX_RUNS` combinations.
    """
    parser = OverridesParser.create()
    values: list[list[str]] = []
    for word in words:
        word = in_brackets(word) if word.partition("=")[0] in lists else word
        try:
            parsed = parser.parse_override(word)
        except HydraException:  # `compose_config` reports what is wrong with it
            values.append([word])
            continue
        if not parsed.is_sweep_override():
            values.append([word])
            continue
        key = word.partition("=")[0]
        try:
            swept = itertools.islice(parsed.sweep_string_iterator(), MAX_RUNS + 1)
            values.append([f"{key}={value}" for value in swept])
        except HydraException:
            raise UserError(f"'{word}' cannot be swept: list its values, such as seed=0,1 or seed=range(0,5)") from None
    if all(len(choices) == 1 for choices in values):
        raise UserError("--multirun: no option has several values: give some, such as seed=0,1, or omit --multirun")
    if math.prod(map(len, values)) > MAX_RUNS:
        raise UserError(f"--multirun: these options make more than {MAX_RUNS} runs: give fewer values")
    several = [len(choices) > 1 for choices in values]
    return [
        Chosen(list(words), [w for w, many in zip(words, several, strict=True) if many])
        for words in itertools.product(*values)
    ]


Compose = Callable[[str, type, list[str], str], tuple[Any, list[str]]]
"""Composes the config of one run: see `avssl.videos.auto.compose_auto`."""


def compose_sweep(
    command: str, schema: type, words: list[str], compose: Compose | None = None
) -> tuple[list[Any], list[str]]:
    """The config of every run of a sweep, and the lines to print, from `compose` if it is given.

    Each run has its own folder: unless `out` is given, the options that differ are added to the folder's name.

    Raises:
        UserError: a word is invalid in one of the runs, or two runs would have the same folder.
    """
    given = any(word.partition("=")[0] == "out" for word in words)
    configs: list[TrainConfig] = []
    said: dict[str, None] = {}
    for chosen in unfold(words, {key.name for key in accepted_keys(schema) if key.many}):
        swept = [word for word in chosen.swept if word.partition("=")[0] not in NAMED]
        suffix = "" if given else "".join(f"_{_name(word)}" for word in swept)
        if compose is not None:
            config, lines = compose(command, schema, chosen.words, suffix)
            said |= dict.fromkeys(lines)
        else:
            config = compose_config(command, schema, chosen.words)
            config.out += suffix
        configs.append(config)
    folders: set[str] = set()
    for config in configs:
        if config.out in folders:
            raise UserError(
                f"two runs of the sweep would write to {config.out}: omit out=…, or put the options that differ into "
                "it, such as out='runs/seed${seed}'"
            )
        folders.add(config.out)
    return configs, list(said)


def _name(word: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", word.replace("'", "").replace('"', "")).strip("-")
