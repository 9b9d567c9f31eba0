"""`--multirun`: words with several values, as seed=0,1, make a training of every combination."""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from ..core.errors import UserError
from . import TrainConfig
from .compose import compose_config

NAMED = ("seed", "task")
"""Options that the default run folder is named after already."""


MOST = 1000
"""Trainings of a sweep."""


@dataclass
class Chosen:
    """The words of one training, and those among them that differ between the trainings."""

    words: list[str]
    swept: list[str]


def unfold(words: list[str]) -> list[Chosen]:
    """Every combination of the words' values, the last word changing first. UserError for what has no values."""
    parser = OverridesParser.create()
    values: list[list[str]] = []
    for word in words:
        try:
            parsed = parser.parse_override(word)
        except HydraException:  # composing it says what is wrong
            values.append([word])
            continue
        if not parsed.is_sweep_override():
            values.append([word])
            continue
        key = word.partition("=")[0]
        try:
            found = itertools.islice(parsed.sweep_string_iterator(), MOST + 1)
            values.append([f"{key}={value}" for value in found])
        except HydraException:
            raise UserError(f"'{word}' cannot be swept: list its values, as seed=0,1, or seed=range(0,5)") from None
    if all(len(choices) == 1 for choices in values):
        raise UserError("--multirun, and no word has several values: give some, as seed=0,1, or leave --multirun away")
    if math.prod(map(len, values)) > MOST:
        raise UserError(f"--multirun: these words make more than {MOST} trainings: give fewer values")
    several = [len(choices) > 1 for choices in values]
    return [
        Chosen(list(words), [w for w, many in zip(words, several, strict=True) if many])
        for words in itertools.product(*values)
    ]


def compose_sweep(command: str, schema: type, words: list[str]) -> list[Any]:
    """The config of every training of a sweep. Each has a run folder of its own: unless `out` is given, the options
    that differ are added to its name. UserError for a word that does not fit in any of them."""
    given = any(word.partition("=")[0] == "out" for word in words)
    configs: list[TrainConfig] = []
    for chosen in unfold(words):
        config = compose_config(command, schema, chosen.words)
        if not given:
            config.out += "".join(f"_{_name(word)}" for word in chosen.swept if word.partition("=")[0] not in NAMED)
        configs.append(config)
    taken: set[str] = set()
    for config in configs:
        if config.out in taken:
            raise UserError(
                f"two trainings of the sweep would write to {config.out}: leave out=… away, or name in it what "
                "differs, as out='runs/seed${seed}'"
            )
        taken.add(config.out)
    return configs


def _name(word: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", word.replace("'", "").replace('"', "")).strip("-")
