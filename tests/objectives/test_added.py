"""What somebody adds to a run: an objective with a teacher, and a third modality, each by entries in tables."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avssl.cli import main
from avssl.clips import dataset, transform
from avssl.clips.dataset import Modality
from avssl.clips.loader import load
from avssl.config import TrainConfig, train
from avssl.config.compose import compose_config
from avssl.models import by_name
from avssl.models.video import TinyVideo
from avssl.objectives.build import OBJECTIVES
from avssl.objectives.objective import Objective
from avssl.runs.checkpoints import load_run_state
from avssl.train.run_state import RunState
from avssl.train.weighted_loss import WeightedLoss

SMALL = [
    "experiment=both_sample",
    "labelling.clusters=3",
    "labelling.heads=1",
    "optim.batch=8",
    "workers=0",
    "device=cpu",
]


class Teacher(Objective):
    """A slow copy of the encoders sees the same clips; a head predicts its features from the fast one's."""

    name = "teacher"
    maps = ("video",)

    @staticmethod
    def own_heads(config, widths):
        return {name: nn.Linear(width, width) for name, width in widths.items()}

    def __init__(self, context, composition=None):
        super().__init__(context)
        self.slow = copy.deepcopy(self.model.encoders).requires_grad_(False).eval()

    def loss(self, batch, detailed):
        assert batch.maps["video"].flatten(2).mean(2).shape == batch.features["video"].shape
        losses = []
        for name, x in batch.features.items():
            with torch.no_grad():
                target = self.slow[name](batch.clips[name])
            losses.append((self.model.heads["teacher"][name](x) - target).square().mean())
        loss = torch.stack(losses).sum()
        return loss, {"loss": loss}

    @torch.no_grad()
    def after_step(self, step):
        for slow, fast in zip(self.slow.parameters(), self.model.encoders.parameters(), strict=True):
            slow.lerp_(fast, 0.1)

    def shared_state(self):
        return {"teacher": self.slow.state_dict()}

    def load_shared_state(self, state):
        self.slow.load_state_dict(state["teacher"])


def test_an_objective_with_a_teacher_trains_and_resumes_bit_for_bit(indexed, tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "teacher", Teacher)
    monkeypatch.setitem(train.TASKS, "both", ("contrast", "labelling", "teacher"))
    weights = property(lambda self: {"contrast": 1.0, "labelling": 1.0, "teacher": 0.5})
    monkeypatch.setattr(TrainConfig, "objectives", weights)
    words = ["train", *indexed, *SMALL, "optim.epochs=1"]
    assert main([*words, f"out={tmp_path / 'whole'}"]) == 0
    forward, calls = WeightedLoss.forward, []

    def interrupted(self, batch, detailed):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, batch, detailed)

    with monkeypatch.context() as patch:
        patch.setattr(WeightedLoss, "forward", interrupted)
        assert main([*words, f"out={tmp_path / 'part'}"]) == 130
    assert main([*words, f"out={tmp_path / 'part'}"]) == 0
    ours, theirs = (load_run_state(tmp_path / name) for name in ("part", "whole"))
    for part in ("model", "teacher"):
        assert all(torch.equal(ours[part][name], x) for name, x in theirs[part].items())
    assert any(
        not torch.equal(theirs["teacher"][name], theirs["model"][f"encoders.{name}"]) for name in theirs["teacher"]
    )
    assert "heads.teacher.video.weight" in theirs["model"]  # trained and saved with the model
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all({"contrast_loss", "labelling_loss", "teacher_loss"} <= x.keys() for x in lines if x["kind"] == "train")


class MotionTransform(nn.Module):
    def __init__(self, config):
        super().__init__()

    def forward(self, clips, draws):
        return clips.permute(0, 4, 1, 2, 3).float().div(255)


@pytest.mark.parametrize("sharing", ["shared", "per_modality"])
def test_a_third_modality_is_data(indexed, sharing, monkeypatch):
    """Differences of frames beside video and audio: encoded, labelled by all three, trained."""
    motion = Modality("video", lambda frames: np.abs(np.diff(frames.astype(np.int16), axis=1)).astype(np.uint8))
    monkeypatch.setitem(dataset.MODALITIES, "motion", motion)
    monkeypatch.setitem(transform.TRANSFORMS, "motion", MotionTransform)
    monkeypatch.setitem(by_name.OURS, "motion", lambda name: TinyVideo())
    words = [
        *indexed,
        "experiment=selavi_sample",
        "labelling.clusters=3",
        f"labelling.sharing={sharing}",
        "optim.batch=8",
    ]
    config: TrainConfig = compose_config("train", TrainConfig, words)
    config = replace(config, labelling=replace(config.labelling, modalities=["video", "audio", "motion"]))
    monkeypatch.setattr(config.model, "motion", "tiny", raising=False)
    state = RunState(config, torch.device("cpu"))
    state.begin({}, Path())
    batches = load(state.dataset, state.requests(), 0)
    assert state.labelling(0)
    report = state.relabel(batches)
    assert report.changed == 1
    state.begin_step()
    batch = next(batches)
    assert [*batch.clips] == ["video", "audio", "motion"]
    loss, logged = state.forward(batch, detailed=False)
    assert {"loss_video", "loss_audio", "loss_motion"} <= logged.keys()
    state.backward(loss)
    state.update(measured=True)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in state.model.encoders["motion"].parameters())
