"""`avssl completion`: what the shells themselves make of the script."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.commands import AVSSL, COMMANDS
from avssl.completion import script
from avssl.config.option import accepted_keys

LINES = {
    "avssl cl": ["clusters"],
    "avssl help ev": ["evaluate"],
    "avssl help train labelling.cl": ["labelling.clusters"],
    "avssl train ta": ["task="],
    "avssl train task=g": ["gdt"],
    "avssl train experiment=froz": ["frozen", "frozen_video"],
    "avssl train --optim.opt": ["--optim.optimizer="],
    "avssl train --optim.optimizer a": ["adamw"],
    "avssl train --multirun --mul": ["--multirun"],
    "avssl -q models sh": ["show"],
    "avssl models show selavi_v": ["selavi_vggsound"],
    "avssl evaluate tasks=knn,li": ["knn,linear"],
    "avssl clusters x --floors t": ["true"],
    "avssl index my_v": ["my_videos"],
    "avssl index data.root=my_v": ["my_videos"],
    "avssl completion f": ["fish"],
    "avssl train nothing.at.al": [],
}
"""What is typed, and the words that it may become."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    (folder / "my_videos").mkdir()
    for shell in ("bash", "zsh", "fish"):
        (folder / f"avssl.{shell}").write_text(script(shell, AVSSL))
    return folder


def ran(folder: Path, *command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_bash_completes(folder: Path) -> None:
    asked = ["source ./avssl.bash", 'compopt() { set_to="$2"; }']  # compopt works only while a key is pressed
    for line in LINES:
        # bash breaks words at = too
        words = [part for word in line.split(" ") for part in (word.partition("=") if "=" in word else [word]) if part]
        asked += [f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1} set_to=''", "_avssl"]
        asked += ['echo "${COMPREPLY[*]}|$set_to"']
    found = [line.split("|") for line in ran(folder, "bash", "-c", "\n".join(asked)).splitlines()]
    assert [words.split() for words, _ in found] == [*LINES.values()]
    # no space after an option's =, which readline would escape in the name of a file
    kinds = {"task=": "nospace", "--optim.optimizer=": "nospace", "my_videos": "filenames"}
    assert [set_to for _, set_to in found] == [kinds.get(" ".join(words), "") for words in LINES.values()]


def test_zsh_reads_the_script_and_binds_it(folder: Path) -> None:
    ran(folder, "zsh", "-n", "avssl.zsh")
    code = "autoload -Uz compinit; compinit -u -d ./dump; source ./avssl.zsh; print $_comps[avssl]"
    assert ran(folder, "zsh", "-f", "-c", code) == "_avssl\n"


def test_fish_completes(folder: Path) -> None:
    code = "\n".join(["source avssl.fish", *(f"complete -C {shlex.quote(x)}; echo .." for x in LINES)])
    found = [x.split() for x in ran(folder, "fish", "--no-config", "-c", code).split("..\n")[:-1]]
    for (line, words), answers in zip(LINES.items(), found, strict=True):
        key, equals, _ = line.rpartition(" ")[2].partition("=")
        assert [x.rstrip("/") for x in answers] == [f"{key}={x}" if equals else x for x in words], line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_has_every_command_and_option(shell: str, capsys) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == script(shell, AVSSL)
    for name, command in COMMANDS.items():
        assert f"'{name}'" in text
        assert all(f"{key.name}=" in text for key in accepted_keys(command.schema))
