"""Help: short where a newcomer looks first, complete where one asks, and within 80 columns."""

from dataclasses import fields

import pytest

from avssl.cli import main
from avssl.commands import AVSSL, COMMANDS
from avssl.config import PartsConfig
from avssl.config.option import accepted_keys
from avssl.config.presets import described, groups
from avssl.help import MOST


@pytest.fixture
def said(capsys, monkeypatch):
    """The lines that `avssl` prints on 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def say(*words: str) -> list[str]:
        assert main([*words]) == 0
        return capsys.readouterr().out.splitlines()

    return say


def test_the_overview_has_every_command_in_its_group_on_one_line(said) -> None:
    lines = said()
    assert max(map(len, lines)) <= 80
    for name, command in COMMANDS.items():
        assert len(command.summary) <= 45, name
        assert command.light or any(line.split("  ")[1:2] == [name] and command.summary in line for line in lines), name
    assert [line for line in lines if line in AVSSL.groups] == [*AVSSL.groups]
    grouped = [name for names in AVSSL.groups.values() for name in names]
    assert {name for name, command in COMMANDS.items() if not command.light} <= {*grouped}
    assert lines == said("help") == said("--help")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_help_fits_and_shows_its_usual_options(name: str, said) -> None:
    command, lines = COMMANDS[name], said(*name.split(), "--help")
    text = "\n".join(lines)
    too_long = [line for line in lines if len(line) > 80]
    assert not too_long
    assert lines[0].startswith(f"avssl {name}")
    assert "Examples" in lines
    keys = [key.name for key in accepted_keys(command.schema)]
    assert {*command.common} <= {*keys}
    assert len(command.common) <= MOST
    parts = any(f.type is PartsConfig for f in fields(command.schema))
    hidden = {key for key in keys if parts and key.startswith("launch.")}  # the same for many commands: one line
    assert not parts or "  launch   " in text
    for key in command.common or [key for key in keys if key != command.positional and key not in hidden]:
        assert f"  {key}=" in text
    assert lines == said("help", *name.split())
    if len(keys) - len(hidden) > MOST + 1:
        assert command.common
        assert len(lines) < 140


@pytest.mark.parametrize("name", ["train", "plan", "evaluate", "features"])
def test_all_options_are_one_section_away(name: str, said) -> None:
    keys = [key.name for key in accepted_keys(COMMANDS[name].schema)]
    whole = "\n".join(said(name, "--help", "all"))
    assert all(f"  {key}=" in whole for key in keys)
    sections = {key.partition(".")[0] for key in keys if "." in key}
    assert all(f"  {section} " in "\n".join(said(name, "--help")) for section in [*sections, "general"])
    found = [line for section in [*sections, "general"] for line in said(name, "--help", section)]
    assert all(any(line.startswith(f"  {key}=") for line in found) for key in keys)


def test_a_section_that_is_a_group_of_presets_shows_both(said) -> None:
    text = "\n".join(said("train", "--help", "labelling"))
    assert "  labelling.clusters=10" in text
    assert "  labelling=xdc" in text
    assert "labelling.clusters" not in "\n".join(said("help", "train", "experiment"))


def test_one_option_in_full(said) -> None:
    text = "\n".join(said("train", "--help", "optim.optimizer"))
    assert all(part in text for part in ("optim.optimizer", "default  sgd", "sgd, adamw, lars", "--optim.optimizer"))
    assert said("train", "--help", "optimizer") == said("train", "--help", "--optim.optimizer")
    text = "\n".join(said("help", "train", "optim.batch"))
    assert "an integer from 1 to 65,536" in text
    assert "unit     videos" in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "--help", "labeling"], "did you mean labelling?"),
        (["help", "train", "otpim"], "did you mean optim?"),
        (["help", "train", "xyzzy"], "data, clip, model, labelling"),
        (["help", "trian"], "did you mean train?"),
    ],
)
def test_a_section_that_there_is_not(words: list[str], line: str, capsys) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert line in error
    assert len(error.splitlines()) == 1


def test_every_preset_says_in_a_few_words_what_it_is() -> None:
    for group in groups():
        for name, text in described(group).items():
            assert 0 < len(text) <= 48, f"{group}={name}: {text}"


def test_a_run_that_may_be_left_out_is_the_newest(said) -> None:
    text = "\n".join(said("open", "--help", "run"))
    assert "default  <the newest run>" in text
    assert "has to be given" not in text
