"""Every option of every command, given what it cannot be: one line at once, before any work and before torch."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avssl.cli import main, run_commands
from avssl.commands import AVSSL
from avssl.config import ClipConfig, ModelsConfig, PartsConfig, SampleConfig, TrainConfig, TrainedDataConfig
from avssl.config.check_options import check_command
from avssl.config.compose import check_config, check_value, check_word, compose_config, keys_of
from avssl.config.option import MAX_SEED, Key, accepted_keys
from avssl.core.errors import UserError
from avssl.core.verbosity import VARIABLE
from benchmarks.__main__ import BENCHMARKS
from experiments.__main__ import EXPERIMENTS

NEVER = [math.inf, -math.inf, math.nan, 1e300, -1e300, 2**64, -(2**64)]
"""No number of any option."""

OTHERS = [0, -1, 1, 0.5, True, "", "x" * 5000, "a\0b", "x" * 300, "two words", [], [0], [""], [[1]], None, {"a": 1}]

PROGRAMS = {program.short: program for program in (AVSSL, BENCHMARKS, EXPERIMENTS)}
COMMANDS = {
    name if program is AVSSL else f"{program.short} {name}": command
    for program in PROGRAMS.values()
    for name, command in program.commands.items()
}
OPTIONS = [(command, key) for command, c in COMMANDS.items() for key in keys_of(c.schema)]
LEAVING = ("benchmarks ", "experiments ")
"""Commands for developers, which are counted apart."""


def run(words: list[str]) -> int:
    """The exit status of `avssl` with these words, or of the other program that the first of them names."""
    return run_commands(PROGRAMS[words[0]], words[1:]) if words[0] in PROGRAMS else main(words)


typed = cache(OmegaConf.structured)


def taken(schema: type, key: Key, value: object) -> object:
    """The value that the option has after this one is given, as a command line would give it. UserError."""
    check_word(key, value)
    config = typed(schema)
    OmegaConf.update(config, key.name, value)
    found = OmegaConf.select(config, key.name)
    found = OmegaConf.to_object(found) if OmegaConf.is_config(found) else found
    check_value(key, found)
    return found


def test_the_options_are_few() -> None:
    """Each is declared by one command: `avssl plan` takes those of `avssl train`, and declares its own alone."""
    counted = [(command, key.name) for command, key in OPTIONS if not command.startswith(LEAVING)]
    sharing = [name for name, c in COMMANDS.items() if any(f.type is PartsConfig for f in fields(c.schema))]
    repeated = (len(sharing) - 1) * len(keys_of(PartsConfig))  # one section, declared once, of all commands with parts
    assert len(sharing) == 7
    assert (
        200 < len(counted) - repeated <= 470
    )  # avssl features has the sections clip and model again; json is counted six times
    with_plans = sum(len(accepted_keys(c.schema)) for name, c in COMMANDS.items() if not name.startswith(LEAVING))
    assert with_plans - repeated <= 650  # those of avssl train once more, for avssl plan
    plan = COMMANDS["plan"].schema
    assert {key.name for key in keys_of(TrainConfig)} < {key.name for key in accepted_keys(plan)}
    assert "optim.lr" not in {key.name for key in keys_of(plan)}


def test_every_number_has_a_finite_minimum_and_maximum_and_every_default_is_within_them() -> None:
    for command, key in OPTIONS:
        where = f"{command} {key.name}"
        if key.kind in (int, float):
            assert key.minimum is not None, where
            assert key.maximum is not None, where
            assert -math.inf < key.minimum < key.maximum < math.inf, where
        if key.name.split(".")[-1] == "device":
            assert key.pattern, where
        if key.default != "???" and "${" not in str(key.default):
            check_value(key, key.default)


def test_a_walk_over_all_options_of_all_commands() -> None:
    """Each value is refused in one line that names the option, or is one that the option declares to take."""
    refused = accepted = 0
    for command, key in OPTIONS:
        for value in (*NEVER, *OTHERS):
            where, said = (command, key.name, value), ""
            try:
                found = taken(COMMANDS[command].schema, key, value)
            except UserError as error:
                said = str(error)
            if said:
                refused += 1
                assert key.name in said, where
                assert len(said.splitlines()) == 1, where
                assert len(said) < 600, where
                continue
            accepted += 1
            assert isinstance(found, list) == key.many or found is None, where
            assert found is not None or key.optional, where
            for item in found if isinstance(found, list) else [found]:
                assert found is None or isinstance(item, key.kind), where
                assert found is None or key.kind not in (int, float) or key.minimum <= item <= key.maximum, where
                assert item != "" or (key.empty and not key.many), where
                assert not isinstance(item, str) or (len(item) <= 4096 and "\0" not in item), where
                assert not (key.path and isinstance(item, str)) or len(item) < 256, where
    assert len(OPTIONS) > 250
    assert refused + accepted == len(OPTIONS) * len(NEVER + OTHERS)
    assert refused > 2 * accepted
    print(f"{len(OPTIONS)} options x {len(NEVER + OTHERS)} values: {refused} refused, {accepted} taken")


@pytest.mark.parametrize("value", NEVER)
def test_no_number_takes_what_is_none(value: float) -> None:
    for command, key in OPTIONS:
        if key.kind in (int, float):
            with pytest.raises(UserError, match=key.name):
                taken(COMMANDS[command].schema, key, [value] if key.many else value)


TRAIN = ["train", "data.root=videos"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [*TRAIN, "optim.lr=-1"],
            "optim.lr=-1 is below the minimum 0 (learning rate after warm-up for a single process",
        ),
        ([*TRAIN, "optim.lr=inf"], "optim.lr=inf is not a finite number"),
        (
            [*TRAIN, "clip.window_ms=1e9"],
            "clip.window_ms=1000000000 is above the maximum 1000 ms (duration of the spectrogram's analysis window)",
        ),
        ([*TRAIN, "clip.audio_std=1e-45"], "clip.audio_std=1e-45 is below the minimum 0.001"),
        ([*TRAIN, "seed=18446744073709551616"], f"above the maximum {MAX_SEED}"),
        ([*TRAIN, f"seed={'9' * 5000}"], "cannot read 'seed=999"),
        ([*TRAIN, "seed=1.5"], "seed=1.5 is not an integer"),
        ([*TRAIN, "optim.epochs=many"], "optim.epochs=many is not an integer"),
        ([*TRAIN, "device=meta"], "device=meta is not a valid value (where to compute; auto: "),
        ([*TRAIN, "data=null"], "no data=null (data: "),
        ([*TRAIN, "out=null"], "out=null: a value is needed"),
        ([*TRAIN, "out=${out}"], "out: "),
        ([*TRAIN, "data.name=${nothing}"], "data.name: "),
        ([*TRAIN, "clip.flip=2"], "clip.flip=2 is not true or false"),
        ([*TRAIN, "clip.crop=[112]"], "clip.crop takes one value, not [112]"),
        (["index", "data.root=videos", "data.extensions=[mp4],[avi]"], "has several values: give one"),
        (["index", "data.root=videos", "data.extensions=[]"], "data.extensions=[] is empty"),
        ([*TRAIN, "labelling.modalities=[video,video]"], "labelling.modalities has video more than once"),
        ([*TRAIN, "--multirun", "seed=range(0,1000000000)"], "more than 1000 runs"),
        ([*TRAIN, "--multirun", "seed=range(0,100)", "optim.lr=range(0,1,0.01)"], "more than 1000 runs"),
        ([*TRAIN, "--multirun", "experiment=small", "seed=1,-1"], "seed=-1 is below the minimum 0"),
        ([*TRAIN, "+optim.lr=1"], "'+optim.lr=1' is not an option"),
        ([*TRAIN, f"optim.milestones={'[' * 5000}"], "cannot read 'optim.milestones=[[["),
        (["index", "data.root=videos", "data.index="], "data.index= is empty: give a value"),
        (["index", "data.root=videos", f"data.index={'x' * 300}"], "a name longer than 255 bytes"),
        (["index", "data.root=videos", "data.window_seconds="], "data.window_seconds= is not a number"),
        (["experiments", "hypotheses", "seeds=[-1]"], "seeds=-1 is below the minimum 0 (random seeds of the runs)"),
        (["experiments", "hypotheses", "seeds=[1,1]"], "seeds has 1 more than once"),
        (["models", "fetch", "name=x", "timeout=inf"], "timeout=inf is not a finite number"),
        (
            ["models", "fetch", "name=selavi_ave", "sha256=12"],
            "sha256=12 is not a valid value (checksum of the file, 64 hexadecimal",
        ),
        (["plan", "videos=1e20"], "videos=1e+20 is above the maximum 10000000000 videos"),
        (["summary", "runs=[a,'']"], "runs= is empty"),
        (["benchmarks", "sinkhorn", "sizes=[10000]"], "sizes=10000 is not a valid value (problems, as videos x"),
    ],
)
def test_values_that_cannot_be_are_refused_by_the_command_line(words, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("value", ["a b", "5", "inf", "null_", "-1", "${data.root}x"])
def test_a_text_is_any_text(value: str) -> None:
    assert compose_config("train", TrainConfig, ["data.root=x", f"data.name={value}"]).data.name == value.replace(
        "${data.root}", "x"
    )


def test_what_was_composed_elsewhere_is_checked_by_the_same_bounds() -> None:
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SampleConfig), {"seed": 7}))
    check_config(config)
    config.longtail = math.nan
    with pytest.raises(UserError, match=r"longtail=nan is not a finite number"):
        check_config(config)
    with pytest.raises(OmegaConfBaseException):
        OmegaConf.merge(OmegaConf.structured(SampleConfig), {"seed": "x"})


NEEDED = {
    "models show": ["name=selavi_vggsound"], "models fetch": ["name=selavi_vggsound"],
    "export": ["modality=video", "checkpoint=file"],
    "models convert": ["name=selavi_vggsound", "file=file"], "label": ["videos=folder", "checkpoint=file"],
    "clusters": ["run=run"], "locate": ["run=run"], "detect": ["run=run"], "open": ["run=run"],
    "watch": ["run=run"], "evaluate": ["checkpoint=file"],
}  # fmt: skip
ROOTED = ("index", "prepare", "shard", "train", "doctor")


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """A folder of everything that a path may name."""
    root = tmp_path_factory.mktemp("places")
    (root / "folder").mkdir()
    (root / "file").write_text("{}")
    (root / "run").mkdir()
    config = OmegaConf.structured(TrainConfig(data=TrainedDataConfig(root="no")))
    (root / "run" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to("loop")
    return root


WRONG = {
    "folder": ["file", "pipe", "loop", "file/x", "~/none", "/dev/null"],
    "run": ["file", "folder", "nowhere", "pipe", "loop", "/dev/null"],
    "file": ["folder", "nowhere", "pipe", "loop", "file/x", "/dev/null", "/proc/nothing"],
    "either": ["pipe", "loop", "file/x", "~/none", "/dev/zero"],
    "new folder": ["file", "file/x", "pipe", "loop", "loop/x", "/proc/x", "/dev/null", "~/none"],
    "new": ["file/x", "pipe", "/proc/x", "/dev/null", "~/none"],
    "new file": ["folder", "file/x", "pipe", "/proc/x", "/dev/null", "new/", "~/none"],
}


def test_every_path_is_looked_at(places: Path, monkeypatch) -> None:
    """Of another kind, below a file, in a folder that is none, a device, a pipe, a link to itself, a ~."""
    monkeypatch.chdir(places)
    before = sorted(places.rglob("*"))
    tried = 0
    for command, c in COMMANDS.items():
        paths = [key for key in keys_of(c.schema) if key.path]
        words = [*NEEDED.get(command, []), *(["data.root=folder"] if command in ROOTED else [])]
        program, _, name = command.partition(" ")
        folder, name = (PROGRAMS[program].configs, name) if program in PROGRAMS else (None, command)
        config = compose_config(name, c.schema, words, folder=folder) if paths else None
        for key in paths:
            for path in WRONG[key.path]:
                changed = deepcopy(config)
                if key.name in ("run", "features") and hasattr(config, "checkpoint"):
                    changed.checkpoint = ""
                *sections, name = key.name.split(".")
                setattr(getattr(changed, sections[0]) if sections else changed, name, [path] if key.many else path)
                with pytest.raises(UserError) as error:
                    check_command(changed)
                assert key.name in str(error.value), (command, key.name, path)
                assert path.rstrip("/") in str(error.value), (command, key.name, path)
                assert len(str(error.value).splitlines()) == 1
                tried += 1
    assert tried > 300
    assert sorted(places.rglob("*")) == before


def test_a_wrong_path_is_one_line_of_the_command_line(places: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(places)
    for words, said in (
        (["sample", "out=/proc/x"], "out=/proc/x: cannot write to /proc"),
        (["plan", "videos=9", "out=file"], "out=file: file is a file"),
        (["models", "convert", "name=selavi_vggsound", "file=/dev/null"], "a device or a pipe"),
        (["clusters", "run=folder"], "folder is not a run folder"),
        (["evaluate", "run=loop"], "run=loop cannot be read"),
        (["sample", "out=new\udcff"], r"out=new\udcff is not Unicode: rename it"),
    ):
        assert run(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_a_path_without_permission_is_one_line(places: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shut").mkdir(mode=0o000)
    (tmp_path / "secret").write_text("")
    (tmp_path / "secret").chmod(0o000)
    if os.access(tmp_path / "secret", os.R_OK):
        pytest.skip("this user may read and write everywhere")
    for words in (["data.root=shut"], ["data.root=.", "data.index=shut/index"]):
        with pytest.raises(UserError, match="shut"):
            check_command(compose_config("index", COMMANDS["index"].schema, words))
    with pytest.raises(UserError, match="permission denied"):
        check_command(compose_config("evaluate", COMMANDS["evaluate"].schema, ["features=secret"]))


def test_what_is_written_lies_not_among_the_videos(places: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(places)
    for words in (
        ["index", "data.root=folder", "data.index=folder/index"],
        ["index", "data.root=folder", "data.index=run/../folder"],
        ["doctor", "data.root=folder", "data.index=folder"],
    ):
        assert run(words) == 2
        assert "lies in the folder of videos folder" in capsys.readouterr().err
    (places / "mine").mkdir()
    (places / "mine" / "train.parquet").write_bytes(b"mine")
    (places / "folder" / "a.mp4").write_bytes(b"")
    assert main(["index", "data.root=folder", "data.index=mine"]) == 2
    assert "contains train.parquet, but no index" in capsys.readouterr().err
    assert (places / "mine" / "train.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["doctor", "data.root=folder", "min_fps=61"], "min_fps was removed: the usual frame rates are fixed"),
        (["sample", "min_seconds=3", "max_seconds=2"], "min_seconds=3 is above max_seconds=2"),
        (["index", "data.root=folder", "data.format=ucf101"], "add data.annotations="),
        (["plan", "videos=9", "clip.crop=200"], "must satisfy crop ≤ short_side_min ≤ short_side_max"),
        (["plan", "videos=9", "clip=published", "clip.hop_ms=30"], "clip.hop_ms=30 is longer than clip.window_ms=20"),
        (["plan", "videos=9", "clip.window_ms=1000", "clip.audio_seconds=0.5"], "longer than clip.audio_seconds=0.5 s"),
        (["plan", "videos=9", "clip.audio_rate=400", "clip.hop_ms=1"], "shorter than one sample"),
        (
            ["plan", "videos=9", "labelling.heads=2", "labelling.groups=3"],
            "labelling.groups=3 exceeds labelling.heads=2",
        ),
        (["plan", "videos=9", "optim.batch=65536", "clip.frames=1024"], "the clips of a batch would take"),
        (["plan", "videos=9", "labelling.heads=1000", "labelling.clusters=1000000"], "the heads' weights"),
        (["plan", "videos=9", "launch.processes=1024", "workers=1024"], "of memory"),
        (["plan"], "no videos are given"),
        (["benchmarks", "contrast", "videos=[100000]", "dim=65536"], "their similarities would take"),
        (["benchmarks", "sinkhorn", "sizes=[200000x100000]"], "that problem would take"),
        (["benchmarks", "evaluate", "gallery=10000000", "dim=65536"], "the features would take"),
        (["benchmarks", "alignment", "videos=100000000", "clusters=100000"], "their assignments would take"),
        (["benchmarks", "loader", "clip.crop=999"], "must satisfy crop"),
        (["evaluate", "checkpoint=file", "finetune.crop=200"], "finetune.crop=200"),
        (["experiments", "reproduce", "claims=[nothing]"], "claims=nothing is not in plan.yaml"),
        (["runs", "folder=nowhere"], "the folder nowhere does not exist"),
        (["plan", "videos=9", "device=mps"], "device=mps"),
    ],
)
def test_what_cannot_go_together_is_found_before_work_begins(words, said, places, capsys, monkeypatch) -> None:
    monkeypatch.chdir(places)
    if "device=mps" in words and sys.platform == "darwin":
        pytest.skip("this machine may have it")
    assert run(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_refusal_does_not_wait_for_torch(tmp_path: Path) -> None:
    """In a process of its own: options, paths and what cannot go together are refused without importing it."""
    lines = [
        [*TRAIN, "optim.lr=inf"], [*TRAIN, "clip.crop=200"], TRAIN, ["evaluate"], ["clusters", "run=no"],
        ["label", "videos=no", "checkpoint=x"], ["plan", "videos=1e20"], ["benchmarks", "evaluate", "dim=0"], ["runs"],
        ["export", "modality=video"], ["experiments", "hypotheses", "seeds=[-1]"],
        ["experiments", "reproduce", "experiments=[x]"],
    ]  # fmt: skip
    code = (
        "import sys; from tests.config.test_options import run\n"
        f"statuses = [run(words) for words in {lines!r}]\n"
        "print(statuses, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), VARIABLE: "quiet"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{[2] * len(lines)} False"
    assert len(done.stderr.splitlines()) == len(lines)


class Due:
    """A timer whose time comes when the test says so."""

    say: Callable[[], None] | None = None

    def __init__(self, seconds: float, say: Callable[[], None]) -> None:
        assert seconds == QUIET_SECONDS
        self.said = say

    def start(self) -> None:
        Due.say = self.said

    def cancel(self) -> None:
        Due.say = None

    @staticmethod
    def come() -> None:
        if Due.say is not None:
            Due.say()


QUIET_SECONDS = 0.2


def test_a_command_that_is_long_without_a_word_says_so_and_no_other(capsys, monkeypatch) -> None:
    monkeypatch.setattr("avssl.cli.QUIET", QUIET_SECONDS)
    monkeypatch.setattr("avssl.cli.Timer", Due)
    monkeypatch.setattr("avssl.config.compose.compose_config", lambda *_: ModelsConfig())
    monkeypatch.setattr("avssl.cli._resolve", lambda name: Due.come() or (lambda config: print("work")))
    assert main(["models"]) == 0
    said = capsys.readouterr()  # results alone are on standard output
    assert (said.err.splitlines(), said.out.splitlines()) == (["avssl models: at work …"], ["work"])
    monkeypatch.setattr("avssl.cli._resolve", lambda name: lambda config: print("word") or Due.come())
    assert main(["models"]) == 0
    assert capsys.readouterr() == ("word\n", "")
    monkeypatch.setattr("avssl.cli._resolve", lambda name: lambda config: Due.come())
    assert main(["models", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Due.say is None


def test_shipped_presets_are_within_their_bounds() -> None:
    experiments = sorted(p.stem for p in (Path(__file__).parents[2] / "configs" / "experiment").glob("*.yaml"))
    for name in experiments:
        config = compose_config("train", TrainConfig, ["data.root=x", f"experiment={name}"])
        assert isinstance(config.clip, ClipConfig)
    assert len(experiments) > 5
