"""Contrast first, labels then: the parts of a run, what each of them trains, and labels that begin from k-means."""

import json
from math import ceil
from pathlib import Path

import pytest
import torch

from avssl.cli import main
from avssl.clips.loader import load
from avssl.config import LabellingConfig, OptimConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.runs.checkpoints import load_run_state
from avssl.selflabel.head_opinions import FEW_CLUSTERS
from avssl.selflabel.labeller import LabellingReport
from avssl.train.check_options import check
from avssl.train.collapse import CollapseWatch
from avssl.train.run_state import RunState
from avssl.train.weighted_loss import WeightedLoss

SMALL = [
    "experiment=both_sample", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=3", "clip.cache_mb=100",
    "labelling.warmup_batches=2", "optim.batch=8", "workers=0", "device=cpu", "threads=1", "log_steps=1",
    "save_seconds=0", "optim.clips=78",
]  # fmt: skip
PARTS = [
    "labelling.start=0.4", "contrast.end=0.6", "labelling.first=kmeans", "labelling.first_from=embeddings",
    "labelling.soft=0.5", "labelling.lam_start=5",
]  # fmt: skip


def lines(run: Path, kind: str) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


@pytest.fixture(scope="module")
def trained(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phases") / "whole"
    assert main(["train", *indexed, *SMALL, *PARTS, f"out={out}"]) == 0
    return out


def test_a_run_is_as_long_as_its_clips(trained):
    assert len(lines(trained, "train")) == ceil(78 / 8)
    assert OptimConfig(clips=1000, accumulate=2).steps_of(36, 8) == 63
    assert OptimConfig(epochs=3).steps_of(36, 8) == 14
    assert OptimConfig(clips=72).epochs_of(36) == 2


def test_each_objective_is_trained_in_its_part_alone(trained):
    steps = lines(trained, "train")
    assert [s["step"] for s in steps if "contrast_loss" in s] == [0, 1, 2, 3, 4, 5]
    assert [s["step"] for s in steps if "labelling_loss" in s] == [4, 5, 6, 7, 8, 9]
    assert [s["step"] for s in lines(trained, "labelling")] == [4, 6, 10]
    for s in steps:
        parts = [s[name] for name in ("contrast_loss", "labelling_loss") if name in s]
        assert s["loss"] == pytest.approx(sum(parts), rel=1e-5)


@pytest.mark.parametrize("words", [PARTS, [*PARTS, "labelling.stop_gradient=true", "contrast.end=0.4"]])
def test_a_run_that_stopped_in_any_part_goes_on_bit_for_bit(indexed, words, tmp_path, monkeypatch):
    command = ["train", *indexed, *SMALL, *words]
    assert main([*command, f"out={tmp_path / 'whole'}"]) == 0
    original = WeightedLoss.forward
    for stop in (3, 6, 9):  # in contrast alone, with soft labels, with labels alone
        calls: list[int] = []

        def interrupted(self, batch, detailed, stop=stop, calls=calls):
            calls.append(self.step)
            if self.step == stop:
                raise KeyboardInterrupt
            return original(self, batch, detailed)

        with monkeypatch.context() as patch:
            patch.setattr(WeightedLoss, "forward", interrupted)
            assert main([*command, f"out={tmp_path / 'part'}"]) == 130
        assert load_run_state(tmp_path / "part")["step"] == stop
    assert main([*command, f"out={tmp_path / 'part'}"]) == 0
    ours, theirs = (load_run_state(tmp_path / name) for name in ("part", "whole"))
    assert torch.equal(ours["labeller"]["labels"], theirs["labeller"]["labels"])
    assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in theirs["model"])


def test_untrained_heads_are_not_said_to_have_collapsed():
    """The first labels of a run that begins with contrast come late, but from heads that nothing has trained yet."""
    said: list[str] = []

    class Log:
        def say(self, text: str) -> None:
            said.append(text)

        def write(self, *_: object) -> None: ...

        def lines(self, _: str) -> list[dict]:
            return []

    report = LabellingReport(
        [1.0], [1], [0.0], 1.0, [None], [1.0], [None], [1.0], [None], [None], [FEW_CLUSTERS]
    )  # fmt: skip
    watch = CollapseWatch(Log(), LabellingConfig(), 4.5, start=600)  # type: ignore[arg-type]
    watch.check(600, report)
    assert not said
    watch.check(650, report)
    assert "has collapsed at step 650" in said[0]


def state_of(*words: str) -> RunState:
    state = RunState(compose_config("train", TrainConfig, list(words)), torch.device("cpu"))
    state.begin({}, Path())
    return state


def moved(state: RunState, steps: range) -> set[str]:
    """Take these steps. Returns the parts of the model whose parameters or statistics they have changed."""
    before = {key: x.clone() for key, x in state.model.state_dict().items()}
    state.step = steps.start
    batches = load(state.dataset, state.requests(), 0)
    for _ in steps:
        if state.labelling(state.step):
            state.relabel(batches)
            before = {key: x.clone() for key, x in state.model.state_dict().items()}  # warm-up changes statistics
        state.begin_step()
        loss, _ = state.forward(next(batches), False)
        state.backward(loss)
        state.update(False)
    after = state.model.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    return {".".join(key.split(".")[: 1 if key.startswith("encoders") else 2]) for key in changed}


def test_heads_alone_learn_from_labels_that_move_no_encoder(indexed):
    words = [*indexed, *SMALL, "labelling.stop_gradient=true", "labelling.start=0.5", "contrast.end=0.5"]
    assert moved(state_of(*words), range(2)) == {"encoders", "heads.contrast"}
    found = moved(state_of(*words), range(5, 7))
    assert {"heads.labelling"} <= found <= {"heads.labelling", "norms.video", "norms.audio"}


def test_contrast_moves_encoders_that_labels_do_not(indexed):
    """With the encoders' gradients of contrast alone, where both are trained."""
    gradients = []
    for words in (["labelling.stop_gradient=true"], ["loss.labelling=1e-30"], []):
        state = state_of(*indexed, *SMALL, *words)
        batches = load(state.dataset, state.requests(), 0)
        state.relabel(batches)
        state.begin_step()
        loss, _ = state.forward(next(batches), False)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in state.model.encoders.parameters()]))
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2], rtol=1e-2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["labelling.start=0.5", "contrast.end=0.4"], "set contrast.end=0.5"),
        (["task=selavi", "contrast=cross_modal", "labelling.start=0.5"], "nothing would be trained until then"),
        (["task=gdt", "contrast.end=0.5"], "nothing would be trained from then on"),
        (["task=none", "objective=simclr_av", "loss.rotation=1", "labelling.start=0.3"], "no effect without labelling"),
        (
            ["task=none", "objective=swav", "contrast.temperature=0.2"],
            "contrast.temperature=0.2 has no effect without contrast",
        ),
        (["task=none", "objective=swav", "contrast.keys=queue"], "contrast.keys=queue has no effect without contrast"),
        (
            ["task=none", "objective=rotation", "contrast.axes.augmentation=invariant"],
            "augmentation=invariant has no effect",
        ),
        (["task=none", "objective=jepa", "teacher.momentum=0.9"], "teacher.* has no effect"),
        (["task=none", "objective=moco", "loss.prediction=1"], "loss.prediction=1 has no effect"),
        (["task=none", "objective=moco", "monitor.times=0", "monitor.videos=20"], "no effect with monitor.times=0"),
        (["labelling.first_from=embeddings"], "labelling.first=kmeans"),
        (["labelling.first=kmeans", "labelling.mode=batch"], "labelling.mode=offline"),
        (["labelling.soft=0.5", "labelling.method=kmeans"], "labelling.method=transport"),
        (["labelling.lam_start=5", "labelling.mode=batch"], "labelling.mode=offline"),
    ],
)
def test_options_that_do_not_fit_together_are_refused_in_one_line(words, message):
    with pytest.raises(UserError, match=message) as error:
        check(compose_config("train", TrainConfig, [*SMALL, "data.index=index", *words]))
    assert "\n" not in str(error.value)
