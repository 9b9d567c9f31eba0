"""Plans of runs whose parts train different things: contrast, then labels; heads, then encoders."""

import json

import pytest
import torch

from avssl.cli import main
from avssl.config import PlanConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.plan.step import Bench, parts_of, random_batch

SMALL = ["experiment=both_sample", "labelling.clusters=3", "optim.batch=4", "workers=0", "device=cpu"]
PHASES = ["labelling.start=0.4", "contrast.end=0.6", "labelling.first=kmeans", "labelling.stop_gradient=true"]


def composed(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, ["data.root=videos", *SMALL, *words])


def trained(bench: Bench, step: int) -> set[str]:
    """What has gradients in the part of the run that begins with `step`."""
    bench.begin_part(step)
    bench.backward(random_batch(bench.config, bench.plan, 4))
    names = [name for name, p in bench.model.named_parameters() if p.grad is not None]
    return {name.split(".")[1] if name.startswith("heads") else name.split(".")[0] for name in names}


def test_the_parts_and_their_shares():
    assert parts_of(composed()) == {0: 1.0}
    assert parts_of(composed(*PHASES)) == {0: 0.4, 400: 0.2, 600: 0.4}
    assert parts_of(composed(*PHASES, "optim.encoder_start=0.4")) == {0: 0.4, 400: 0.2, 600: 0.4}
    assert parts_of(composed("optim.encoder_start=0.25", "optim.clips=100")) == {0: 0.25, 250: 0.75}


def test_a_part_trains_what_the_run_trains_in_it():
    bench = Bench(composed(*PHASES), torch.device("cpu"))
    assert trained(bench, 0) == {"encoders", "contrast"}
    assert trained(bench, 400) == {"encoders", "contrast", "labelling"}
    assert trained(bench, 600) == {"labelling"}
    assert not any(encoder.training for encoder in bench.model.encoders.values())


def test_encoders_that_are_frozen_or_begin_late_have_no_gradients():
    bench = Bench(composed("optim.encoder_start=0.5", "model.freeze=[audio]"), torch.device("cpu"))
    assert trained(bench, 0) == {"contrast", "labelling"}
    assert trained(bench, 500) == {"contrast", "labelling", "encoders"}
    assert all(p.grad is None for p in bench.model.encoders["audio"].parameters())


def test_a_plan_counts_the_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["plan", *SMALL, "videos=100", "optim.clips=4000"]
    assert main([*words, *PHASES, "out=parts"]) == 0
    assert "means over the parts of the run" in " ".join(capsys.readouterr().out.split())
    plan = json.loads((tmp_path / "parts" / "plan.json").read_text())
    assert plan["estimate"]["steps"] == 1000
    config = compose_config("plan", PlanConfig, [*words[1:], *PHASES])
    assert plan["work"]["solves"] == config.labelling.passes
    assert main([*words, "out=whole"]) == 0
    assert "means over the parts" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [["model.freeze=[video,audio]"], ["optim.encoder_start=0.5"]])
def test_heads_alone_exchange_fewer_gradients(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = ["plan", *SMALL, "videos=100"]
    assert main([*plan, "out=all"]) == main([*plan, *words, "out=fewer"]) == 0
    found = [json.loads((tmp_path / name / "plan.json").read_text())["costs"]["gradients"] for name in ("all", "fewer")]
    assert 0 < found[1] < found[0]
