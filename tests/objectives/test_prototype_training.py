"""Contrast with prototypes (PCL) as a run: its passes beside those of labelling, resumed bit for bit; bad input."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from avssl.cli import main
from avssl.clips.loader import load
from avssl.config import ContrastConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.prototypes import PrototypeReport
from avssl.core.checkpoint_store import FOLDER, name_of, steps_of
from avssl.objectives.contrast import Contrast
from avssl.objectives.labelling import Labelling
from avssl.objectives.prototypes import PrototypePasses, evaluation, prototype_steps
from avssl.runs.checkpoints import load_run_state
from avssl.train.run_state import RunState
from avssl.train.take_features import take_features
from tests.conftest import made_with_features

STEPS, BATCH = 12, 9
WORDS = [
    "task=both", "contrast=preset_5", "contrast.keys=queue", "contrast.prototypes=[3,5]",
    "contrast.prototype_start=0.3",
    "labelling.clusters=3", "labelling.heads=1", "labelling.passes=3", "labelling.start=0.33",
    f"optim.clips={BATCH * STEPS}", f"optim.batch={BATCH}", "optim.warmup_epochs=0", "model.hidden=32", "threads=1",
    "device=cpu", "log_steps=1", "save_seconds=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features of three clips of 36 training videos."""
    return f"data.features={made_with_features(tmp_path_factory)[1]}"


def passes_of(run: Path) -> list[tuple[str, int]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["kind"], line["step"]) for line in lines if line["kind"] in ("labelling", "prototypes")]


def same(one: Path, two: Path) -> None:
    ours, theirs = (load_run_state(x) for x in (one, two))
    assert ours["step"] == theirs["step"] == STEPS
    assert all(torch.equal(ours["model"][key], x) for key, x in theirs["model"].items())
    assert torch.equal(ours["labeller"]["labels"], theirs["labeller"]["labels"])
    assert all(torch.equal(ours["teacher"][key], x) for key, x in theirs["teacher"].items())
    assert ours["prototypes"]["done"] == theirs["prototypes"]["done"]
    for name, found in theirs["prototypes"]["found"].items():
        assert all(torch.equal(ours["prototypes"]["found"][name][key], x) for key, x in found.items())


def test_passes_of_two_objectives_are_resumed_bit_for_bit(features, tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.core.checkpoint_store.KEPT_CHECKPOINTS", 99)
    words, whole = ["train", features, *WORDS], tmp_path / "whole"
    assert main([*words, f"out={whole}"]) == 0
    # prototypes once an epoch of four steps, from 0.3 of the run; both before step 4, in the order of the objectives
    assert passes_of(whole) == [
        ("prototypes", 4), ("labelling", 4), ("labelling", 7), ("prototypes", 8), ("labelling", 12)
    ]  # fmt: skip
    for step in (3, 9):  # before the first prototypes, and with the second ones
        run = tmp_path / f"at_{step}"
        shutil.copytree(whole, run)
        for later in steps_of(run / FOLDER):
            if later > step:
                shutil.rmtree(run / FOLDER / name_of(later))
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(str(whole), str(run)))
        assert main([*words, f"out={run}"]) == 0
        same(run, whole)

    original = Labelling.relabel

    def interrupted(self, *args):
        signal.raise_signal(signal.SIGTERM)  # noticed before the pass's first batch
        return original(self, *args)

    run = tmp_path / "between"
    with monkeypatch.context() as patch:
        patch.setattr(Labelling, "relabel", interrupted)
        assert main([*words, f"out={run}"]) != 0
    saved = load_run_state(run)
    assert (saved["step"], saved["prototypes"]["done"], saved["labeller"]["done"]) == (4, 1, 0)
    assert main([*words, f"out={run}"]) == 0
    same(run, whole)


def test_the_loss_falls_once_prototypes_are_predicted(features):
    """The pass clusters the embeddings, its numbers are those of the batch's videos, and descent lowers the loss."""
    words = [features, *WORDS, "task=gdt", "contrast.keys=batch", "contrast.prototype_start=0"]
    words += ["model.dropout=0", "optim.optimizer=adamw", "optim.lr=0.01", "optim.schedule=cosine"]
    words = [word for word in words if not word.startswith("labelling.")]
    state = RunState(take_features(compose_config("train", TrainConfig, words)), torch.device("cpu"))
    state.begin({}, Path())
    (contrast,) = (objective for _, objective in state.objectives)
    assert isinstance(contrast, Contrast)
    assert contrast.prototypes is not None
    passes, losses = contrast.prototypes, []
    batches = load(state.dataset, state.requests(), 0)
    report = state.relabel(batches)
    assert isinstance(report, PrototypeReport)
    assert report.clusters == [3, 5]
    assert state.labelling(0) is None
    assert passes.numbers.shape == (36, 4)
    assert (passes.numbers >= 0).all()
    assert [x.directions.shape for x in passes.found.values()] == [(3, 256), (5, 256)] * 2
    batch = next(batches)
    for _ in range(11):
        state.begin_step()
        loss, logged = state.forward(batch, False)
        state.backward(loss)
        state.update(False)
        losses.append(float(logged["loss_prototypes"]))
        torch.testing.assert_close(loss.detach(), sum(logged[f"loss_{x}"].detach() for x in ("clips", "prototypes")))
    assert losses[-1] < 0.95 * losses[0]


def test_a_clip_predicts_prototypes_of_the_modality_it_is_compared_with():
    class Fixed(PrototypePasses):
        def __init__(self, compare):
            self.contrast, self.modalities = ContrastConfig(compare=compare), ["video", "audio"]

    assert [Fixed(compare)._predicted_by("video") for compare in ("cross_modal", "within_modal", "all")] == [
        ["audio"], ["video"], ["video", "audio"]
    ]  # fmt: skip


def test_prototypes_are_found_once_an_epoch_while_contrast_is_trained():
    contrast = ContrastConfig(prototypes=[4])
    assert prototype_steps(contrast, 100, 20) == [10, 30, 50, 70, 90]
    assert prototype_steps(contrast, 100, 12.5)[:3] == [10, 22, 35]
    assert prototype_steps(ContrastConfig(prototypes=[4], end=0.5), 100, 20) == [10, 30]
    assert prototype_steps(ContrastConfig(prototypes=[4], prototype_start=0), 6, 0.4) == [0, 1, 2, 3, 4, 5]
    assert prototype_steps(ContrastConfig(), 100, 20) == []


def test_evaluation_ends_where_each_part_was():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(2)).eval()
    model[1].training = True  # as a teacher's norms are
    with evaluation(model):
        assert not model[1].training
    assert (model.training, model[0].training, model[1].training) == (False, False, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["contrast.prototypes=[3,50]"], "contrast.prototypes: 50 clusters are more than the 36 training videos"),
        (["contrast.prototypes=[1]"], "contrast.prototypes=1"),
        (["contrast.prototypes=[3,3]"], "contrast.prototypes"),
        (["contrast.prototype_start=0.5"], "has no effect without prototypes"),
        (["contrast.prototypes=[3]", "contrast.prototype_start=0.5", "contrast.end=0.4"], "is not before contrast.end"),
    ],
)
def test_bad_input_is_one_line_before_training(words, message, indexed, tmp_path, capsys):
    task = ["task=both", "labelling.clusters=3"] if "contrast.end=0.4" in words else ["task=gdt"]
    out = tmp_path / "run"
    assert main(["train", *indexed, "model=tiny", "clip=tiny", *task, *words, f"out={out}"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "harm",
    [
        lambda x: x.update(done=99),
        lambda x: x["found"].pop("video_3"),
        lambda x: x["found"]["video_3"].update(concentration=torch.tensor([0.1, -1, 0.1])),
        lambda x: x["found"]["video_3"].update(directions=torch.ones(9, 256)),
        lambda x: x["found"]["video_3"].update(directions=torch.full((3, 256), torch.nan)),
        lambda x: x["found"]["video_3"].update(directions=torch.ones(3, 256, dtype=torch.int64)),
        lambda x: x["found"]["video_3"].update(directions=torch.ones(3, 256, dtype=torch.bool)),
        lambda x: x["found"]["video_3"].update(directions=torch.full((3, 256), 1e30)),
        lambda x: x["found"]["video_3"].update(concentration=torch.ones(3, dtype=torch.bool)),
        lambda x: x["found"]["video_3"].update(concentration=torch.full((3,), 1e-38)),
    ],
)
def test_a_checkpoint_with_other_prototypes_is_an_error(harm):
    class Fixed(PrototypePasses):
        def __init__(self):
            self.clusters, self.modalities, self.steps = [3], ["video"], [0]
            self.contrast, self.rows = ContrastConfig(prototypes=[3]), range(2)
            self.numbers = torch.zeros(2, 1, dtype=torch.int32)
            self.context = type("", (), {"device": torch.device("cpu")})

    found = {"video_3": {"directions": torch.ones(3, 256), "concentration": torch.full((3,), 0.1)}}
    state, passes = {"done": 1, "found": found}, Fixed()
    passes.load_shared_state({"prototypes": state})
    passes.load_rank_state({"prototypes": torch.tensor([[2], [-1]], dtype=torch.int32)})
    with pytest.raises(ValueError, match="does not exist"):
        passes.load_rank_state({"prototypes": torch.tensor([[3], [0]], dtype=torch.int32)})
    with pytest.raises(ValueError, match="bool"):
        passes.load_rank_state({"prototypes": torch.ones(2, 1, dtype=torch.bool)})
    harm(state)
    with pytest.raises((ValueError, KeyError)):
        passes.load_shared_state({"prototypes": state})
