"""`avssl reproduce`: its experiments' files, its page, and experiments that go on."""

import json
import shutil

import pytest

from avssl.cli import main
from avssl.compose import compose_config
from avssl.config import ReproduceConfig, SampleConfig, TrainConfig
from avssl.errors import UserError
from avssl.reproduce import experiment as module
from avssl.reproduce.experiment import experiments, read_experiment
from avssl.reproduce.run import METRICS, page, training

CONFIG = ReproduceConfig()


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_is_made_of_known_options(name):
    found = read_experiment(name)
    assert found.claim.endswith(".")
    compose_config("sample", SampleConfig, [f"{k}={v}" for k, v in found.sample.items()])
    words = {arm: (*found.words, *options) for arm, options in found.arms.items()}
    for options in words.values():
        compose_config("train", TrainConfig, ["data.root=x", "experiment=sample", *options])
    assert len(set(words.values())) == len(words)
    assert found.compare
    assert all(c.arm != c.than for c in found.compare)


def test_arms_of_the_same_options_are_one_training():
    balanced, alignment = read_experiment("marginals_balanced"), read_experiment("alignment")
    assert training(CONFIG, balanced, "uniform", 1) == training(CONFIG, alignment, "shared", 1)
    different = [
        training(CONFIG, e, arm, seed)
        for e in map(read_experiment, ("marginals_balanced", "marginals_longtail"))
        for arm in e.arms
        for seed in (0, 1)
    ]
    assert len({t.name for t in different}) == len(different) == 12


def test_the_page_compares_pairs():
    found = read_experiment("marginals_balanced")
    nmi = {"uniform": [0.9, 0.8], "zipf": [0.7, 0.61], "gaussian": [0.9, 0.3]}
    figures = {
        training(CONFIG, found, arm, seed): dict.fromkeys(METRICS, values[seed])
        for arm, values in nmi.items()
        for seed in (0, 1)
    }
    lines = page(CONFIG, {"marginals_balanced": found}, [0, 1], figures)
    cell = "+19.5 ± 6.4"  # 20 and 19 points: t(0.975, 1 degree) = 12.71 times 0.5
    assert f"| uniform − zipf | {' | '.join([cell] * 4)} | 0 | **holds** |" in lines
    assert any(line.startswith("| gaussian − uniform |") and line.endswith("| -5 | **undecided** |") for line in lines)


@pytest.mark.slow
def test_experiments_go_on(tmp_path, capsys):
    out = tmp_path / "it's (one) place"
    words = [
        "reproduce", f'out="{out}"', "experiments=[alignment]", "seeds=[3]", "train=4", "test=2", "epochs=1",
        "device=cpu",
    ]  # fmt: skip
    assert main(words) == 0
    text = (out / "reproduce.md").read_text()
    assert text.count("**undecided**") == 2  # one seed decides nothing
    assert "epochs=1 train=4 test=2`" in text
    rows = json.loads((out / "reproduce.json").read_text())
    assert [len(row["words"]) for row in rows] == [1, 2, 3]
    assert all(0 <= row["nmi"] <= 1 and row["seed"] == 3 for row in rows)
    runs = sorted(p for p in (out / "runs").iterdir() if p.is_dir())
    kept = (runs[0] / "checkpoints").stat().st_mtime_ns
    shutil.rmtree(runs[1])
    assert main(words) == 0
    assert (out / "reproduce.md").read_text() == text
    assert (runs[0] / "checkpoints").stat().st_mtime_ns == kept
    capsys.readouterr()
    assert main([*words, "epochs=2"]) == 2
    assert "epochs=1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["experiments=[aligment]"], "did you mean alignment?"), (["seeds=[]"], "seeds")],
)
def test_wrong_words(words, said, tmp_path, capsys):
    assert main(["reproduce", f"out={tmp_path / 'x'}", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claim: x\narms: {a: []}\ncompare: [{arm: a, than: b}]", "compares b"),
        ("claim: x", "compares nothing"),
        ("clam: x", "clam"),
    ],
)
def test_a_file_that_is_no_experiment(text, said, tmp_path, monkeypatch):
    (tmp_path / "configs" / "reproduce").mkdir(parents=True)
    (tmp_path / "configs" / "reproduce" / "mine.yaml").write_text(text)
    monkeypatch.setattr(module, "assets_root", lambda: tmp_path)
    with pytest.raises(UserError, match=said):
        read_experiment("mine")
