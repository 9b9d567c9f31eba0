"""What is typed after a command: a bare word, --key value, lists, runs by name, and what is refused at once."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from avssl.commands import AVSSL, COMMANDS
from avssl.config.compose import compose_config
from avssl.config.presets import groups, used_groups
from avssl.config.words import Given, accepted, quoted, read_words, unquoted
from avssl.core.errors import UserError


def given(line: str) -> Given:
    """What a line gives its command, which is the first word."""
    name, *words = line.split(" ")
    command = COMMANDS[name]
    choices = used_groups(name)
    return read_words(accepted(f"avssl {name}", command.schema, choices, command.positional, command.otherwise), words)


def words_of(line: str) -> list[str]:
    return given(line).words


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A working folder with videos, runs of them, and a file of weights."""
    monkeypatch.chdir(tmp_path)
    for folder in ("my_videos", "a b", "my=videos", "-v", "index/gone"):
        (tmp_path / folder).mkdir(parents=True)
    for name, time in (("my_videos_both_seed0", 1), ("my_videos_both_seed1", 3), ("talks_gdt_seed0", 2)):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"data: {{name: {name.partition('_both')[0].partition('_gdt')[0]}}}\n")
        (run / "status.json").write_text(json.dumps({"time": time}))
    (tmp_path / "runs" / "notes.txt").write_text("")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "weights.pth").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("index my_videos", ["data.root=my_videos"]),
        ("index my_videos workers=2", ["workers=2", "data.root=my_videos"]),
        ("index ./my_videos/", ["data.root=./my_videos/"]),
        ("index my=videos", ['data.root="my=videos"']),  # a path wins over an option that there is not
        ("train my_videos --seed 3 --optim.epochs=10", ["seed=3", "optim.epochs=10", "data.root=my_videos"]),
        ("train objective=moco seed=1 seed=2 objective=moco", ["objective=moco", "seed=1", "seed=2", "objective=moco"]),
        ("train gone", ["data.root=gone"]),  # its index is there, which is enough
        ("train my_videos --compile --experiment small", ["compile=true", "experiment=small", "data.root=my_videos"]),
        ("index -- -v", ['data.root="-v"']),
        ("train my_videos optim.lr=1e-3 workers=0", ["optim.lr=1e-3", "workers=0", "data.root=my_videos"]),
        ("clusters my_videos --floors false", ["floors=false", "run=runs/my_videos_both_seed1"]),
        ("clusters --floors talks", ["floors=true", "run=runs/talks_gdt_seed0"]),
        ("clusters --min-confidence 0.5 talks", ["min_confidence=0.5", "run=runs/talks_gdt_seed0"]),
        ("clusters run=talks_gdt_seed0", ["run=runs/talks_gdt_seed0"]),
        ("clusters", ["run=runs/my_videos_both_seed1"]),
        ("index my_videos --data.silence_db -70", ["data.silence_db=-70", "data.root=my_videos"]),
        ("label -", ['videos="-"', "run=runs/my_videos_both_seed1"]),
        ("label my_videos run=talks", ["run=runs/talks_gdt_seed0", "videos=my_videos"]),
        ("label my_videos checkpoint=weights.pth", ["checkpoint=weights.pth", "videos=my_videos"]),
        ("evaluate my_videos", ["run=runs/my_videos_both_seed1"]),
        ("evaluate weights.pth", ["checkpoint=weights.pth"]),
        ("evaluate selavi_vggsound", ["checkpoint=selavi_vggsound"]),
        ("evaluate features=f.npz", ["features=f.npz"]),
        ("features my_videos", ["data.root=my_videos"]),  # it needs no run
        ("summary runs/my_videos_both_seed0 talks", ["runs=[runs/my_videos_both_seed0,runs/talks_gdt_seed0]"]),
        ("summary runs=talks,my_videos", ["runs=[runs/talks_gdt_seed0,runs/my_videos_both_seed1]"]),
        ("runs runs", ["folder=runs"]),
        ("train +seed=1", None),
    ],
)
def test_words_become_options(line: str, words: list[str] | None, place: Path) -> None:
    if words is None:
        with pytest.raises(UserError, match="is not an option"):
            words_of(line)
    else:
        assert words_of(line) == words


def test_a_folder_with_spaces_or_as_a_number_is_taken_as_it_is(place: Path) -> None:
    known = accepted("avssl index", COMMANDS["index"].schema, used_groups("index"), "data.root")
    for name in ("a b", "007", "null", "a,b", "x'y", 'x"y', "x\\", "[1]", "é", "yes"):
        (place / name).mkdir(exist_ok=True)
        words = read_words(known, [name]).words
        assert compose_config("index", COMMANDS["index"].schema, words).data.root == name


def test_quoting_is_undone() -> None:
    for text in (
        "${x}",
        "a\\${x}\\",
        'a"b${',
        "a b",
        'a"b',
        "a\\",
        'a\\"',
        "x",
        "",
        "é",
        "null",
        "a,b",
        "it's",
        "\\\\",
    ):
        assert unquoted(quoted(text)) == text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("index my_vidoes", "no folder my_vidoes; did you mean my_videos?"),
        ("index /no/such", "no folder /no/such: give the folder of your videos"),
        ("index my_videos runs", "avssl index takes one folder, not 2: my_videos runs"),
        ("index my_videos data.root=x", "'my_videos' and data.root=… are given: give one of them"),
        ("evaluate talks checkpoint=x", "'talks' and checkpoint=… are given"),
        ("index ${oc.env:HOME}", "'${oc.env:HOME}' contains ${"),
        ("index my_videos --data.index ${oc.env:HOME}", "--data.index takes its value as it is"),
        ("index my_videos --data.index=${oc.env:HOME}", "--data.index takes its value as it is"),
        ("index my_videos -- -x", "avssl index takes one folder, not 2: my_videos -x"),
        ("train my_videos seed=abc", "seed=abc is not an integer"),
        ("train my_videos seed=1.5", "seed=1.5 is not an integer"),
        ("train my_videos --seed 1e30", "seed="),
        ("train my_videos optim.lr=-1", "optim.lr=-1 is below the minimum"),
        ("plan my_videos task=zzz", "task=zzz is not one of"),
        ("train my_videos compile=maybe", "compile=maybe is not true or false"),
        ("index", "FOLDER is needed: avssl index FOLDER"),
        ("train data.root", "data.root needs a value: data.root=…"),
        ("train --seed", "--seed needs a value: --seed …"),
        ("train --seed --compile", "--seed needs a value"),
        ("train contrast.axes", "'contrast.axes' is a section: set one of its options, as contrast.axes.sample=…"),
        ("train --contrast.axes 3", "'contrast.axes' is a section"),
        ("train labelling", "labelling needs a value: labelling=…"),
        ("train optim.lrr=1", "unknown option 'optim.lrr'; did you mean optim.lr?"),
        ("train --optim.lrr 1", "unknown option --optim.lrr; did you mean --optim.lr?"),
        ("train --hlep", "did you mean --help?"),
        ("train -help", "did you mean --help?"),
        ("train help", "did you mean --help?"),
        ("train --show-confg", "did you mean --show-config?"),
        ("train my=things", "unknown option 'my'"),
        ("train --labelling.solves 3", "labelling.solves is now called labelling.passes"),
        ("runs runs --what", "unknown option --what"),
        ("models x", "'x' is not an option"),
        ("summary runs/notes.txt runs/empty", "no run among runs/notes.txt runs/empty: give run folders, as runs/*"),
        ("clusters tlaks", "did you mean talks?"),
        (
            "evaluate selavi_vgsound",
            "not a run, a file or the name of published weights; did you mean selavi_vggsound?",
        ),
        ("completion", "SHELL is needed: avssl completion bash|zsh|fish"),
        (
            "train objective=moco objective=pcl",
            "objective=moco and objective=pcl are given: give one of them, and comb",
        ),
        ("train experiment=small seed=1 --experiment tiny", "experiment=small and experiment=tiny are given: give one"),
    ],
)
def test_a_wrong_word_is_one_line_with_the_fix(line: str, said: str, place: Path) -> None:
    with pytest.raises(UserError) as error:
        words_of(line)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_what_is_no_run_is_skipped_among_runs_with_one_line(place: Path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("AVSSL_VERBOSITY", raising=False)
    line = " ".join(str(path.relative_to(place)) for path in sorted((place / "runs").iterdir()))
    assert words_of(f"summary {line}") == [
        "runs=[runs/my_videos_both_seed0,runs/my_videos_both_seed1,runs/talks_gdt_seed0]"
    ]
    assert capsys.readouterr().err == "avssl: skipped, not runs: runs/empty runs/notes.txt\n"


def test_the_run_is_named_only_where_the_user_did_not_give_its_folder(place: Path) -> None:
    assert given("clusters my_videos").named.folder == Path("runs/my_videos_both_seed1")
    assert given("clusters").named.folder == Path("runs/my_videos_both_seed1")
    assert given("clusters runs/talks_gdt_seed0").named is None
    assert given("label my_videos checkpoint=x").named is None


def an_index(name: str, root: Path) -> None:
    Path("index", name).mkdir(parents=True)
    Path("index", name, "index.json").write_text(json.dumps({"root": str(root)}))


def test_the_name_of_an_index_means_its_videos_where_they_lie_elsewhere(place: Path, monkeypatch) -> None:
    (place / "work").mkdir()
    monkeypatch.chdir(place / "work")
    an_index("my_videos", place / "my_videos")
    for command in ("train", "plan", "features", "doctor"):
        assert words_of(f"{command} my_videos") == ["data.root=../my_videos"], command
    assert given("train my_videos").notes == ["videos: ../my_videos (index/my_videos was made of ../my_videos)"]
    an_index("talks", place / "my_videos")  # a name of its own
    assert words_of("train talks") == ["data.name=talks", "data.index=index/talks", "data.root=../my_videos"]
    assert words_of("train talks data.index=index/my_videos")[1:] == ["data.name=talks", "data.root=../my_videos"]
    for command in ("index", "prepare out=small", "shard out=tar"):
        with pytest.raises(UserError, match="no folder my_videos: index/my_videos was made of ../my_videos, so give"):
            words_of(f"{command} my_videos")
    an_index("gone", place / "nowhere")  # its index may still be enough
    assert words_of("train gone") == ["data.root=gone"]
    Path("my_videos").mkdir()
    assert words_of("train my_videos") == ["data.root=my_videos"]


def test_names_of_clusters_choose_the_run_and_watching_takes_the_newest(place: Path) -> None:
    (place / "names.json").write_text('{"run": "runs/my_videos_both_seed0"}')
    for line in (
        "clusters my_videos names=names.json",
        "label - run=my_videos --names names.json",
        "label - names=names.json",
    ):
        assert "run=runs/my_videos_both_seed0" in words_of(line), line
        assert "names.json names its clusters" in given(line).named.note
    (place / "runs" / "my_videos_both_seed0" / "status.json").write_text('{"state": "finished", "time": 1}')
    assert words_of("clusters") == words_of("evaluate my_videos") == ["run=runs/my_videos_both_seed0"]
    assert words_of("watch") == words_of("watch my_videos") == ["run=runs/my_videos_both_seed1"]


def test_flags_are_read_anywhere_and_help_takes_the_words_after_it(place: Path) -> None:
    found = given("train my_videos --multirun seed=0,1 --show-config")
    assert (found.multirun, found.show_config, found.help) == (True, True, None)
    assert given("train nowhere --help labelling seed").help == ["labelling", "seed"]
    assert given("train -h").help == []


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("tasks=knn", ["knn"]),
        ("tasks=knn,linear", ["knn", "linear"]),
        ("tasks=[knn,linear]", ["knn", "linear"]),
        ("columns=a b,c", ["a b", "c"]),
        ("columns=é,'d,e'", ["é", "d,e"]),
        ("columns=[é]", ["é"]),
        ("folds=1,2,3", [1, 2, 3]),
        ("folds=", []),
    ],
)
def test_lists_need_no_brackets(word: str, value: list[object]) -> None:
    config = compose_config("evaluate", COMMANDS["evaluate"].schema, [word])
    assert getattr(config, word.partition("=")[0]) == value


def test_the_groups_of_every_command_are_those_of_its_primary_config() -> None:
    """They are read as lines, because a YAML parser takes long to import."""
    from omegaconf import OmegaConf

    configs = Path(__file__).parents[2] / "configs"
    for command in AVSSL.commands:
        path = configs / f"{command.replace(' ', '_')}.yaml"
        if not path.exists():
            assert COMMANDS[command].light
            continue
        entries = [entry for entry in OmegaConf.load(path)["defaults"] if not isinstance(entry, str)]
        names = {str(key).removeprefix("optional ") for entry in entries for key in entry}
        assert names == {*used_groups(command)}, command
    assert {"data", "experiment"} <= {*groups()}


def test_a_refusal_of_a_word_imports_neither_hydra_nor_omegaconf_nor_rich(tmp_path: Path) -> None:
    lines = [
        ["train", "typo=1"],
        ["train", "nowhere"],
        ["clusters"],
        ["trian"],
        ["train", "--hlep"],
        ["index"],
        ["train", "seed=abc"],
        ["plan", "optim.lr=-1"],
        ["train", "task=zzz"],
    ]
    code = (
        "import sys; from avssl.cli import main\n"
        f"statuses = [main(words) for words in {lines!r}] + [main(['train', '--help']), main(['completion', 'zsh'])]\n"
        "heavy = {'hydra', 'omegaconf', 'rich', 'torch', 'numpy', 'importlib.metadata'} & {*sys.modules}\n"
        "print(statuses, sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert done.stderr.splitlines()[-1] == f"{[2] * len(lines) + [0, 0]} []"


def test_every_example_of_the_help_is_understood(place: Path) -> None:
    for folder in ("talks", "UCF-101", "small", "new", "inbox", "sweeps/seeds", "runs/my_videos_gdt_seed0"):
        (place / folder).mkdir(parents=True)
    (place / "runs" / "my_videos_gdt_seed0" / "config.yaml").write_text("data: {name: my_videos}\n")
    (place / "gdt.pth").write_text("")
    understood = 0
    for name, command in COMMANDS.items():
        for line, _ in command.examples:
            words = shlex.split(line.rpartition("| ")[2])
            of_this = words[: 2 + name.count(" ")] == ["avssl", *name.split()] and " ".join(words[1:3]) not in COMMANDS
            if "*" in line or ">" in line or not (of_this or " " in name):
                continue  # for a shell, or of another command
            known = accepted(line, command.schema, used_groups(name), command.positional, command.otherwise)
            assert read_words(known, words[2 + name.count(" ") :]), line
            understood += 1
    assert understood > 35


def test_a_word_beside_a_run_is_the_videos(place):
    for command in ("locate", "detect"):
        assert words_of(f"{command} my_videos run=runs/talks_gdt_seed0") == [
            "run=runs/talks_gdt_seed0",
            "videos=my_videos",
        ]
        assert words_of(f"{command} my_videos") == ["run=runs/my_videos_both_seed1"]
        with pytest.raises(UserError, match="'talks' and run=… are given: give one of them"):
            given(f"{command} talks run=runs/talks_gdt_seed0 videos=my_videos")
