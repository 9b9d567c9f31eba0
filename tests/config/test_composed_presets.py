"""What presets give is composed once, and is nobody's to change."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from avssl.config import TrainConfig
from avssl.config import composed_presets as module
from avssl.config.compose import compose_config
from avssl.config.composed_presets import composed_presets


@dataclass
class Options:
    size: int = 1
    names: list[str] = field(default_factory=list)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    write(tmp_path, 2)
    return tmp_path


def write(root: Path, size: int) -> None:
    path = root / "configs" / "measure.yaml"
    path.write_text(f"defaults: [measure_schema, _self_]\nsize: {size}\nnames: [a]\n")
    os.utime(path, ns=(size, size))


def compose(root: Path):
    return composed_presets("measure", Options, [], root, None)


def test_what_a_caller_changes_is_its_own(root: Path) -> None:
    OmegaConf.update(compose(root), "size", 5, merge=True)
    compose(root).names.append("b")
    assert compose(root) == {"size": 2, "names": ["a"]}


def test_a_changed_file_is_read_again(root: Path) -> None:
    assert compose(root).size == 2
    write(root, 3)
    assert compose(root).size == 3


def test_as_many_are_kept_as_may_be(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    monkeypatch.setattr(module, "_kept", {})
    for size in (3, 4, 5):
        write(root, size)
        assert compose(root).size == size
    assert len(module._kept) <= 2


def test_the_last_of_repeated_words_counts() -> None:
    words = ["data.root=x", "experiment=selavi_small", "seed=4", "seed=5", "seed=4", "labelling.heads=3"]
    config = compose_config("train", TrainConfig, words)
    assert (config.seed, config.labelling.heads) == (4, 3)
    assert compose_config("train", TrainConfig, words[:2]).labelling.heads == 8
