"""Presets of the user's own, in `configs/<group>/` of the working folder."""

from pathlib import Path

import pytest

from avssl.assets import assets_root
from avssl.commands import AVSSL
from avssl.completion import completions
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.config.presets import described, groups, own_presets
from avssl.core.errors import UserError
from avssl.help import command_help

MINE = """# @package _global_
# rotation and direction of time
task: none
loss: {rotation: 1, arrow: 0.5}
out: runs/${data.name}_mine_seed${seed}
"""


def train(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, ["data.root=x", *words])


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A working folder with presets of its own."""
    folder = tmp_path / "a b, c='é'"
    for group, name, text in (("objective", "mine", MINE), ("clip", "wide", "fps: 8\n"), ("nothing", "x", "a: 1\n")):
        path = folder / "configs" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.chdir(folder)
    return folder


def test_a_preset_of_the_working_folder_is_chosen_by_name(place):
    config = train("objective=mine", "experiment=tiny", "loss.arrow=2")
    assert config.predicted == {"rotation": 1, "reversal": 2}
    assert config.out == "runs/x_mine_seed0"
    assert train("experiment=tiny", "clip=wide").clip.fps == 8
    assert train("objective=rotation", "experiment=tiny").predicted == {"rotation": 1}


def test_the_help_has_it_and_the_completion_not(place):
    assert described("objective")["mine"] == "rotation and direction of time"
    text = "\n".join(command_help(AVSSL, "train", ["objective"]))
    assert "objective=mine" in text
    assert "mine" not in completions(AVSSL, "train").values["objective"].split()
    assert "nothing" not in groups()


def test_wrong_ones_are_one_line(place):
    with pytest.raises(UserError, match=r"^no objective=min; did you mean mine\?"):
        train("objective=min")
    (place / "configs" / "objective" / "moco.yaml").write_text(MINE)
    with pytest.raises(UserError, match=r"^configs/objective/moco.yaml has the name of a preset of avssl, .*: rename"):
        train("objective=moco")
    (place / "configs" / "objective" / "broken.yaml").write_text("# @package _global_\nloss: {rotation: 1\n")
    with pytest.raises(UserError, match=r"broken.yaml, line 3: ") as error:
        train("objective=broken")
    assert "\n" not in str(error.value)
    for content in (b"# @package _global_\nout: \xff\n", b"# @package _global_\nout: \x00\n"):
        (place / "configs" / "objective" / "bytes.yaml").write_bytes(content)
        with pytest.raises(UserError, match="^objective=bytes: the file is not text in UTF-8$"):
            train("objective=bytes")
    (place / "configs" / "objective" / "odd.yaml").write_text("# @package _global_\nloss: {rotatoin: 1}\n")
    with pytest.raises(UserError, match="rotatoin") as error:
        train("objective=odd")
    assert "\n" not in str(error.value)


def test_what_is_not_a_preset_is_no_choice(place):
    for name in ("a b", "x'y", "folder"):
        path = place / "configs" / "objective" / f"{name}.yaml"
        path.mkdir() if name == "folder" else path.write_text(MINE)
    (place / "configs" / "objective" / ".#mine.yaml").symlink_to("somebody@nowhere.1")  # the lock of an editor
    assert train("objective=mine", "experiment=tiny").out == "runs/x_mine_seed0"
    assert {*groups()["objective"]} == {"mine", *(p.stem for p in (assets_root() / "configs/objective").glob("*.yaml"))}


def test_a_file_with_the_name_of_a_data_set_does_not_take_its_place(place):
    expected = train("experiment=tiny").data
    (place / "configs" / "data").mkdir()
    for name in ("folder", "ucf101"):
        (place / "configs" / "data" / f"{name}.yaml").write_text("name: mine\n")
    assert train("experiment=tiny").data == expected
    with pytest.raises(UserError, match=r"^configs/data/ucf101.yaml has the name of a preset of avssl"):
        train("data=ucf101", "experiment=tiny")


def test_the_folder_of_avssl_is_not_one_of_the_user(monkeypatch, tmp_path):
    monkeypatch.chdir(assets_root())
    assert own_presets() is None
    monkeypatch.chdir(tmp_path)
    assert own_presets() is None
    (tmp_path / "configs").write_text("")
    assert own_presets() is None
