"""`python -m experiments objectives`: its methods, its page, and an experiment that goes on."""

import json

import pytest
from omegaconf import OmegaConf

from avssl.assets import assets_root
from avssl.cli import main as avssl
from avssl.config import DataConfig
from avssl.metrics.intervals import mean_of
from experiments.__main__ import main
from experiments.objectives import METHODS, REFERENCE, UNTRAINED, check, chosen, train_words
from experiments.objectives_page import BY, better, margin, page
from tests.conftest import made_once

PRESETS = {path.stem for path in (assets_root() / "configs" / "objective").glob("*.yaml")}
SETTINGS = {"clips": 640, "train": 4, "test": 2}


def preset_of(words):
    return next((word.partition("=")[2] for word in words if word.startswith("objective=")), None)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_made_of_known_options(name):
    if (preset := preset_of(METHODS[name])) and preset not in PRESETS:
        pytest.skip(f"there is no preset {preset} yet")
    check(name, train_words(name, 640))


def test_no_preset_changes_the_optimiser_or_the_encoders_that_all_have():
    for path in (assets_root() / "configs" / "objective").glob("*.yaml"):
        assert not OmegaConf.load(path).keys() & {"optim", "model"}


def test_what_is_compared_with_is_always_there():
    assert chosen(["gdt"]) == [UNTRAINED, REFERENCE, "gdt"]
    assert chosen([]) == [*METHODS]
    assert BY.keys() <= METHODS.keys()


def run_of(digit, direction, nmi=None, seconds=0.1):
    figures = {f"video/{column}, {probe}": x for column, x in (("digit", digit), ("direction", direction))
               for probe in ("linear", "5-NN")}  # fmt: skip
    return {"figures": figures | ({} if nmi is None else {"NMI": nmi}), "step_seconds": seconds}


def test_better_is_above_the_untrained_encoders_by_more_than_the_interval():
    assert better(mean_of([0.2, 0.21, 0.22]))
    assert not better(mean_of([0.2, 0.01, 0.1]))
    assert not better(mean_of([-0.2, -0.21, -0.22]))
    assert not better(mean_of([0.5]))  # one seed has no interval


def test_the_page():
    seeds, methods = [0, 1, 2], [UNTRAINED, REFERENCE, "arrow", "selavi"]
    found = {}
    for seed in seeds:
        found[UNTRAINED, seed] = run_of(0.2 + 0.01 * seed, 0.5, seconds=None)
        found[REFERENCE, seed] = run_of(0.6 + 0.02 * seed, 0.5)
        found["arrow", seed] = run_of(0.6, 0.4 + 0.1 * seed, seconds=0.15)
        found["selavi", seed] = run_of(0.1, 0.5, nmi=0.8, seconds=0.2)
    found["selavi", 1]["figures"].pop("video/digit, linear")
    lines = page(found, methods, seeds, "python -m experiments objectives", SETTINGS)
    # 40, 41 and 42 points: t(0.975, 2 degrees) = 4.303 times 1 / √3
    assert "| simclr | digit | **yes**, by video | **+41.0 ± 2.5** | – | +0.0 ± 0.0 | – |" in lines
    # judged by the direction: -10, 0 and 10 points; the digit does not count
    assert "| arrow | direction | no | **+39.0 ± 2.5** | – | +0.0 ± 24.8 | – |" in lines
    assert margin(found, "selavi", seeds, "video/digit, linear") == mean_of([-0.1, -0.12])
    assert "| selavi | 80.0 ± 0.0 | 0.200 | 2.00 × |" in lines
    assert not [line for line in lines if line.startswith("- `simclr`: ")]  # which is better
    for seed in seeds:
        found["pace", seed] = found["arrow", seed]
    lines = page(found, [*methods, "pace"], seeds, "python -m experiments objectives", SETTINGS)
    assert [line[:8] for line in lines if line.startswith("- `")] == ["- `pace`"]
    assert "| arrow | – | 0.150 | 1.50 × |" in lines
    assert not [line for line in lines if line.startswith("| untrained | –")]
    assert any("sees 640 clips" in line and "4 training videos per class" in line for line in lines)


def test_an_experiment_goes_on(tmp_path, tmp_path_factory, capsys, monkeypatch):
    """Its commands run in this process: test_jobs.py is about those of their own."""
    commands = []
    made = made_once(tmp_path_factory, "both_ways", "direction=true", "min_seconds=2.2", "max_seconds=2.4")
    root, index = (given.partition("=")[2] for given in made)

    def here(command, words, folder):
        commands.append((command, folder.name))
        assert avssl([command, *words]) == 0

    monkeypatch.setattr("experiments.objectives.avssl", here)
    # a training sets handlers of signals, which only a main thread may
    one_by_one = lambda do, wanted, jobs: {job: do(job) for job in wanted}  # noqa: E731
    monkeypatch.setattr("experiments.objectives.run_parallel", one_by_one)
    monkeypatch.setattr(
        "experiments.objectives.make_videos", lambda config, out: DataConfig(root=root, name="sample", index=index)
    )
    out = tmp_path / "it's (one) place"
    words = ["objectives", f'out="{out}"', "methods=[selavi]", "seeds=[3]", "clips=64", "device=cpu", "jobs=2"]
    assert main(words) == 0
    text, found = (out / "objectives.md").read_text(), json.loads((out / "objectives.json").read_text())
    assert "methods=[selavi] seeds=[3] clips=64 jobs=2`, avssl" in text
    assert [(row["method"], row["seed"]) for row in found] == [(UNTRAINED, 3), (REFERENCE, 3), ("selavi", 3)]
    by_method = {row["method"]: row for row in found}
    views = {method: {name.split("/")[0] for name in row["figures"]} for method, row in by_method.items()}
    assert views == {UNTRAINED: {"video", "audio"}, REFERENCE: {"video"}, "selavi": {"video", "audio", "NMI"}}
    assert by_method[UNTRAINED]["step_seconds"] is None
    assert all(by_method[name]["step_seconds"] > 0 for name in (REFERENCE, "selavi"))
    assert all(0 <= x <= 1 for row in found for x in row["figures"].values())
    run, figures = out / "runs" / "selavi_seed3", out / "runs" / "selavi_seed3.json"
    kept = (run / "metrics.jsonl").read_bytes()
    figures.unlink()  # stopped before it was measured
    assert main(words) == 0
    assert commands[6:] == [("train", "selavi_seed3"), ("evaluate", "selavi_seed3")]
    assert (run / "metrics.jsonl").read_bytes() == kept
    again = json.loads((out / "objectives.json").read_text())
    assert [row["figures"] for row in again] == [row["figures"] for row in found]
    capsys.readouterr()
    assert main([*words, "clips=96"]) == 2
    assert "clips=64, not 96" in capsys.readouterr().err
    monkeypatch.setitem(METHODS, "selavi", (*METHODS["selavi"], "labelling.marginal=zipf"))
    assert main(words) == 2
    assert "selavi_seed3 was trained with experiment=tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["methods=[moko]"], "methods=moko is not one of"),
        (["seeds=[]"], "seeds"),
        (["clips=1"], "clips=1 is below the minimum 32"),
    ],
)
def test_wrong_words(words, said, tmp_path, capsys):
    assert main(["objectives", f"out={tmp_path / 'x'}", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
