"""Features of held-out videos are measured during a run: without a change to it, alike in one process and two, after a
resume, and with a warning if they collapse."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.cli import main
from avssl.config import LabellingConfig, MonitorConfig, OptimConfig, TrainConfig, TrainedDataConfig
from avssl.config.compose import accepted_keys, compose_config
from avssl.config.distillation import DistillationConfig
from avssl.config.loss import LossConfig
from avssl.objectives.contrast import Contrast
from avssl.runs.checkpoints import load_run_state
from avssl.train import held_out
from avssl.train.collapse import COLLAPSE, MONITOR, FeatureWatch
from avssl.train.feature_monitor import FeatureMonitor, measures, short_line
from avssl.train.held_out import CLIPS, FEWEST_TIMES, FEWEST_VIDEOS, TRAINED_PER_CLIP, affordable, monitor_steps
from avssl.train.log import RunLog
from avssl.train.remedies import BY_OBJECTIVE, CHANCE, CONSTANT, LOW_RANK, feature_remedy
from avssl.train.run_state import RunState
from avssl.train.take_features import take_features
from tests.conftest import made_with_features
from tests.processes import run_together

PLAIN = ["model=tiny", "clip=tiny", "model.dropout=0", "workers=0", "threads=1", "device=cpu", "precision=float32"]
STORED = ["model.adapter=16", "task=gdt", "contrast=preset_1", "contrast.axes.time_shift=off", "optim.batch=12"]
STEPS = 60
LONG = [f"optim.epochs={STEPS * 12 // 36}", "optim.optimizer=adamw", "log_steps=5", "monitor.times=6"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a run of contrast that trains an adapter on stored features: a step takes milliseconds."""
    words, features = made_with_features(tmp_path_factory)
    return [*words, f"data.features={features}", *PLAIN, *STORED]


def state_of(words: list[str]) -> RunState:
    state = RunState(take_features(compose_config("train", TrainConfig, words)), torch.device("cpu"))
    state.begin({}, Path())
    return state


def lines_of(run: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "videos_per_second", "wait_share")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines if line["kind"] == kind]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 50))
def test_the_last_step_is_measured_and_the_first(total, times):
    steps = monitor_steps(total, times)
    assert steps == sorted({*steps})
    assert len(steps) <= times
    assert steps[-1] == total
    assert times == 1 or steps[0] == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**8), st.integers(0, 5000), st.sampled_from([0.0, 1e5, 1e8]))
def test_a_short_run_is_measured_less_and_a_shorter_one_not_at_all(trained, available, size):
    config = config_of()
    times, videos = affordable(config, trained, available, size)
    assert times * videos * CLIPS * TRAINED_PER_CLIP <= trained
    assert (times, videos) == (0, 0) or (FEWEST_TIMES <= times <= 12 and FEWEST_VIDEOS <= videos <= min(512, available))
    assert videos * CLIPS * size <= held_out.MOST_BYTES
    config.monitor = MonitorConfig(times=3, videos=20)  # what is asked for is done
    assert affordable(config, trained, 30, 0.0) == (3, 20)
    config.monitor.times = 0
    assert affordable(config, 10**9, 1000, 0.0) == (0, 0)


def test_measuring_changes_nothing_and_a_resumed_run_measures_the_same(stored, tmp_path, monkeypatch, capsys):
    words = ["train", *stored, *LONG]
    assert main([*words, "monitor.times=0", f"out={tmp_path / 'without'}"]) == 0
    assert "rank" not in capsys.readouterr().out
    assert main([*words, "monitor.videos=10", "-v", f"out={tmp_path / 'whole'}"]) == 0
    said = capsys.readouterr().out
    assert said.count("\nstep ") >= 6
    assert "warning: collapse" not in said
    one, two = (load_run_state(tmp_path / name)["model"] for name in ("without", "whole"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert lines_of(tmp_path / "without", "train") == lines_of(tmp_path / "whole", "train")
    measured = lines_of(tmp_path / "whole", MONITOR)
    assert [line["step"] for line in measured] == monitor_steps(STEPS, 6)
    assert {"rankme_video", "lidar_audio", "deviation_video", "knn5_video", "knn20_audio", "recall5"} <= {*measured[0]}
    assert measured[0]["videos"] == 10
    update, calls = RunState.update, []

    def interrupted(self, wanted):
        calls.append(self.step)
        if self.step == 33:
            raise KeyboardInterrupt
        return update(self, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(RunState, "update", interrupted)
        part = [*words, "monitor.videos=10", "save_seconds=0", f"out={tmp_path / 'part'}"]
        assert main(part) == 130
    assert main(part) == 0
    assert lines_of(tmp_path / "part", MONITOR) == measured
    assert main(part) == 0  # at its end already
    assert lines_of(tmp_path / "part", MONITOR) == measured


def test_a_run_that_collapses_is_warned_about_once(stored, tmp_path, monkeypatch, capsys):
    def collapsing(self, batch, detailed):
        loss = sum((x - 1).square().mean() for x in batch.features.values())
        return loss, {"loss": loss}

    monkeypatch.setattr(Contrast, "loss", collapsing)
    words = ["train", *stored, *LONG, "monitor.videos=10", "optim.lr=0.1", f"out={tmp_path / 'run'}"]
    assert main([*words, "monitor.times=20"]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: collapse")]
    assert len(warnings) == 2, warnings
    assert "optim.batch" in warnings[0]
    kinds = {(line["modality"], line["way"]) for line in lines_of(tmp_path / "run", COLLAPSE)}
    assert kinds == {("video", CONSTANT), ("audio", CONSTANT)}


VIDEOS = ["labelling.clusters=3", "labelling.heads=2", "monitor.videos=9", "monitor.times=2"]


def test_training_is_left_as_it_was(stored):
    data = stored[:2]
    state = state_of([*data, *PLAIN, *VIDEOS, "model.dropout=0.5", "optim.batch=6"])
    monitor = FeatureMonitor(state, 0)
    state.model.train()
    state.model.encoders["video"].eval()
    before = {key: x.clone() for key, x in state.model.state_dict().items()}
    modes = {name: module.training for name, module in state.model.named_modules()}
    random = torch.get_rng_state()
    figures = monitor.measure()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(x, before[key]) for key, x in state.model.state_dict().items())
    assert {name: module.training for name, module in state.model.named_modules()} == modes
    assert figures["videos"] == 9
    assert monitor.held_out.origin == "videos of the split test"
    assert "recall1" in figures  # of the clusters' probabilities
    features, _ = monitor.encode()
    clips = features["video"]
    assert clips.shape[:2] == (9, CLIPS)
    assert not torch.allclose(clips[:, 1], clips[:, 2])  # each augmented in its own way
    assert monitor.measure() | {"seconds": 0} == figures | {"seconds": 0}


def test_without_a_test_split_or_classes_there_are_still_figures(stored):
    state = state_of([*stored, "monitor.videos=9", "data.test_split=val"])
    state.data.rows = state.data.rows.drop_columns("class")
    monitor = FeatureMonitor(state, 0)
    assert monitor.held_out.origin == "training videos"
    figures = monitor.measure()
    assert not any(name.startswith("knn") for name in figures)
    assert {"recall1", "recall5", "rank_audio"} <= {*figures}


def test_features_that_never_change_are_not_measured(stored):
    words = [word for word in stored if not word.startswith("model.adapter")]
    monitor = FeatureMonitor(state_of([*words, "monitor.videos=9"]), 0)
    assert not monitor.steps
    assert "frozen" in monitor.reason


def test_videos_that_cannot_be_used_are_left_out(stored):
    state = state_of([*stored[:2], *PLAIN, *VIDEOS, "optim.batch=6"])
    seconds, rates = (state.data.rows[name].to_pylist() for name in ("window_seconds", "audio_rate"))
    seconds[3], rates[5] = 0.2, 0
    rows = state.data.rows
    for name, values in (("window_seconds", seconds), ("audio_rate", rates)):
        at = rows.column_names.index(name)
        rows = rows.set_column(at, name, pa.array(values, rows.schema.field(name).type))
    usable = held_out._decodable(state.config, rows, ["video", "audio"])
    assert np.flatnonzero(~usable).tolist() == [3, 5]
    assert np.flatnonzero(~held_out._decodable(state.config, rows, ["video"])).tolist() == [3]


def _process(rank: int, folder: str, cases: dict[str, list[str]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {name: FeatureMonitor(state_of(words), 0).measure() for name, words in cases.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_measure_what_one_does(stored, tmp_path):
    cases = {
        "videos": [*stored[:2], *PLAIN, *VIDEOS, "optim.batch=6"],
        "features": [*stored, "monitor.videos=11"],
    }
    run_together(_process, (str(tmp_path), cases), 2)
    together, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, words in cases.items():
        alone = FeatureMonitor(state_of(words), 0).measure()
        assert other[name] == {}
        assert together[name].keys() == alone.keys()
        for key in alone.keys() - {"seconds"}:
            assert together[name][key] == pytest.approx(alone[key], rel=1e-4), (name, key)


def figures(**changed: float) -> dict[str, float]:
    usual = {"videos": 100, "chance": 0.1, "knn5_video": 0.5, "deviation_video": 0.4, "rank_video": 25.0}
    return usual | changed


def config_of(**options: Any) -> TrainConfig:
    return TrainConfig(data=TrainedDataConfig(root="x"), **options)


def watch_of(log: RunLog) -> FeatureWatch:
    return FeatureWatch(log, config_of(task="gdt"), videos=32, total=200)


def test_each_kind_is_warned_about_once_even_after_a_resume(tmp_path, capsys):
    log = RunLog(tmp_path, 0, 200)
    watch = watch_of(log)
    for step, each in ((0, figures()), (10, figures(deviation_video=1e-5)), (60, figures()), (100, figures())):
        log.write(step, MONITOR, each)
        watch.check(step, each)
    assert capsys.readouterr().out == ""  # batch norm settles in the first steps
    watch.check(120, figures(rank_video=2.0))
    watch.check(130, figures(rank_video=2.0, deviation_video=0.005))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" at step ")[1].split(":")[0] for line in said] == ["120", "130"]
    assert "the video features use 2.0 directions, and used 25.0 before" in said[0]
    log.close()
    log = RunLog(tmp_path, 140, 200)
    watch = watch_of(log)
    watch.check(150, figures(rank_video=2.0))
    watch.check(160, figures(rank_video=2.0, deviation_video=0.005))
    assert capsys.readouterr().out == ""
    log.close()


@pytest.mark.parametrize(
    ("loss", "each", "warned"),
    [
        (1.0, {"knn5_video": 0.12}, True),
        (1.0, {"knn5_video": 0.3}, False),
        (3.9, {"knn5_video": 0.12}, False),  # the loss does not fall either
        (1.0, {"knn5_video": 0.12, "knn5_audio": 0.9}, False),  # only one modality says little
        (1.0, {"knn5_video": 0.12, "videos": 20}, False),
    ],
)
def test_neighbours_at_chance_while_the_loss_falls(loss, each, warned, tmp_path, capsys):
    log = RunLog(tmp_path, 0, 200)
    for step, value in ((0, 4.0), (90, loss)):
        log.write(step, "train", {"loss": value})
    watch = watch_of(log)
    watch.check(60, figures(**each))
    assert capsys.readouterr().out == ""
    watch.check(120, figures(**each))
    assert ("chance: 10%" in capsys.readouterr().out) is warned
    log.close()


@pytest.mark.parametrize("kind", [CONSTANT, LOW_RANK, CHANCE])
@pytest.mark.parametrize(
    "options",
    [
        {"task": "gdt"}, {"task": "gdt", "optim": OptimConfig(batch=256)}, {"task": "selavi"},
        {"task": "selavi", "labelling": LabellingConfig(method="kmeans")}, {"loss": LossConfig(rotation=1)},
        {"loss": LossConfig(jepa=1)}, {"loss": LossConfig(distillation=1)},
        {"loss": LossConfig(distillation=1), "distillation": DistillationConfig(teacher=False)},
    ],
    ids=str,
)  # fmt: skip
def test_advice_names_options_that_there_are(kind, options):
    config = config_of(**{"task": "none", **options})
    known = {key.name for key in accepted_keys(TrainConfig)}
    advice = feature_remedy(kind, config, config.optim.batch)
    named = [word.partition("=")[0].strip("(),;:") for word in advice.split() if "." in word.strip("(),;:.")]
    named = [name for name in named if name.partition(".")[0] in vars(config)]
    if not {"jepa.lam", "distillation.target"} <= known:  # their sections are not complete yet
        named = [name for name in named if name.partition(".")[0] not in ("jepa", "distillation")] or ["optim.lr"]
    assert named
    assert {*named} <= known, advice
    assert {*BY_OBJECTIVE} >= {*config.objectives}


def test_the_short_line_says_rank_and_neighbours():
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal((40, CLIPS, 8)) for name in ("video", "audio")}
    embeddings = {name: x["video"][:, 0] for name in x}
    found = measures(x, embeddings, np.arange(40) % 4, np.arange(40))
    line = short_line(found, {"video": 8, "audio": 8})
    assert line.startswith("RankMe video 7.")
    assert "own audio in the nearest five 100% (chance 12.5%)" in line
    assert "k-NN video" in line
    assert "k-NN" not in short_line(measures(x, {}, None, np.arange(40)), {"video": 8})
