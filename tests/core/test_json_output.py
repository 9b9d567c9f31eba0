import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avssl.core.json_output import prints_json


@dataclass
class Config:
    json: bool


@prints_json(lambda config, result: {"figure": result, "path": Path("a/é"), "array": np.array([1.0, np.inf])})
def command(config: Config) -> float:
    print("at work")
    return math.nan


def test_the_document_is_alone_on_standard_output(capsys):
    assert math.isnan(command(Config(True)))
    said = capsys.readouterr()
    assert json.loads(said.out) == {"figure": None, "path": "a/é", "array": [1.0, None]}
    assert said.err == "at work\n"


def test_without_json_nothing_changes(capsys):
    command(Config(False))
    assert capsys.readouterr().out == "at work\n"
