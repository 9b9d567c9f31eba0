"""Modes, baselines and ways of sharing heads, trained from files."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from avssl.assets import assets_root
from avssl.cli import main
from avssl.clips.dataset import Pass
from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.models.build import build_model
from avssl.objectives.labelling import Labelling
from avssl.objectives.objective import Context, EncodedBatch
from avssl.runs.checkpoints import load_run_state
from avssl.train.log import RunLog
from avssl.train.loop import check
from avssl.train.run_state import RunState
from avssl.train.weighted_loss import WeightedLoss

SMALL = [
    "experiment=selavi_sample", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=4", "optim.epochs=2",
    "labelling.warmup_batches=2", "optim.batch=8", "workers=0", "device=cpu", "log_steps=1", "save_seconds=0",
]  # fmt: skip


def labellings(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "labelling"]


@pytest.mark.parametrize(
    "words",
    [
        ["labelling.mode=bank"],
        ["labelling.mode=batch", "labelling.queue=16"],
        ["labelling.groups=2"],
        ["labelling.memory=stream", "labelling.sharing=per_modality"],
        ["labelling.sharing=per_modality", "labelling.align=false", "labelling.marginal=gaussian"],
        ["labelling.sharing=concat"],
        ["labelling.modalities=[video]"],
        ["labelling.modalities=[audio]", "labelling.sharing=per_modality"],
        ["labelling.method=kmeans"],
        ["labelling.method=kmeans", "labelling.modalities=[video]", "labelling.mode=bank"],
        ["labelling.method=xdc", "labelling.sharing=per_modality"],
        ["labelling.modality_weights=auto", "labelling.groups=2"],
        ["labelling.modality_weights=[video:1.5,audio:0.5]", "labelling.mode=batch", "labelling.queue=16"],
    ],
    ids=lambda words: "-".join(w.split(".")[1] for w in words),
)
def test_a_way_of_labelling_from_files_to_clusters(indexed, words, tmp_path):
    out = tmp_path / "run"
    assert main(["train", *indexed, *SMALL, *words, f"out={out}"]) == 0
    state = load_run_state(out)
    assert (state["labeller"]["labels"] >= 0).all()
    assert state["labeller"]["costs"].isfinite().all()
    assert len(labellings(out)) == (1 if "labelling.mode=batch" in words else 4)
    assert ("modality_weights" in state["labeller"]) == any("modality_weights" in word for word in words)
    assert main(["clusters", f"run={out}", "workers=0", "previews=0"]) == 0
    figures = json.loads((out / "clusters" / "clustering.json").read_text())["test"]["evidence"]
    alone = {"video", "audio"} - ({"audio"} if words[0] == "labelling.modalities=[video]" else set())
    alone -= {"video"} if words[0] == "labelling.modalities=[audio]" else set()
    alone -= {"audio"} if "labelling.modalities=[video]" in words else set()
    assert figures.keys() == {"joint"} | (set() if "labelling.sharing=concat" in words else alone)


@pytest.mark.parametrize(
    "words",
    [
        ["labelling.mode=bank"],
        ["labelling.mode=batch"],
        ["labelling.groups=2"],
        ["labelling.method=kmeans"],
        ["labelling.modality_weights=auto"],
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(indexed, words, tmp_path, monkeypatch):
    command = ["train", *indexed, *SMALL, *words]
    assert main([*command, f"out={tmp_path / 'whole'}"]) == 0
    original, calls = WeightedLoss.forward, []

    def interrupted(self, batch, detailed):
        calls.append(batch)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(self, batch, detailed)

    monkeypatch.setattr(WeightedLoss, "forward", interrupted)
    assert main([*command, f"out={tmp_path / 'part'}"]) == 130
    monkeypatch.undo()
    assert load_run_state(tmp_path / "part")["step"] == 5
    assert main([*command, f"out={tmp_path / 'part'}"]) == 0
    ours, theirs = (load_run_state(tmp_path / name) for name in ("part", "whole"))
    assert torch.equal(ours["labeller"]["labels"], theirs["labeller"]["labels"])
    assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in theirs["model"])


def test_the_modalities_of_separate_heads_agree_after_alignment(indexed, tmp_path):
    """The share of videos whose two soft assignments point to one cluster, before the first training step."""
    agreements = []
    for align in ("true", "false"):
        out = tmp_path / align
        words = ["labelling.sharing=per_modality", f"labelling.align={align}", "labelling.clusters=12", "optim.lr=0"]
        assert main(["train", *indexed, *SMALL, *words, "optim.epochs=1", f"out={out}"]) == 0
        assert main(["clusters", f"run={out}", "workers=0", "previews=0"]) == 0
        agreements.append(json.loads((out / "clusters" / "clustering.json").read_text())["train"]["agreement"])
    assert sum(agreements[0]) > sum(agreements[1])


def test_batches_are_labelled_in_float32(indexed, tmp_path, monkeypatch):
    seen = []
    original = Labelling._logits

    def watched(self, head, features):
        found = original(self, head, features)
        seen.append((torch.is_autocast_enabled("cpu"), {z.dtype for z in found.values()}))
        return found

    monkeypatch.setattr(Labelling, "_logits", watched)
    words = ["labelling.mode=batch", "precision=bfloat16", "optim.epochs=1", f"out={tmp_path / 'run'}"]
    assert main(["train", *indexed, *SMALL, *words]) == 0
    assert (True, {torch.float32}) in seen
    assert {dtype for _, dtypes in seen for dtype in dtypes} == {torch.float32}


def test_the_loss_of_unit_logits_and_the_labels_of_those_that_there_are():
    words = ["experiment=selavi_sample", "data.root=x", "labelling.clusters=5", "labelling.heads=2"]
    config = compose_config("train", TrainConfig, [*words, "labelling.released=[normalise_logits]"])
    torch.manual_seed(0)
    model = build_model(config).eval()
    device = torch.device("cpu")
    task = Labelling(Context(config, model, device, DeviceTransform(config.clip, device), 8, 10, 8))
    task.labeller.labels.random_(0, 5)
    features = {name: torch.randn(8, encoder.dim) for name, encoder in model.encoders.items()}
    loss, _ = task.loss(EncodedBatch({}, features, torch.arange(8)), False)
    labels = task.labeller.labels.T.long()
    expected = []
    for logits in model.cluster(features).values():
        unit = logits / logits.norm(dim=-1, keepdim=True)
        expected.append(F.cross_entropy(unit.flatten(0, 1), labels.flatten()))
    assert loss.item() == pytest.approx(sum(expected).item() / 2, rel=1e-5)
    found = task._logits(1, features)
    for name, logits in model.cluster(features).items():
        torch.testing.assert_close(found[name], logits[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["labelling.mode=banc"], "did you mean bank?"),
        (["labelling.modalities=[]"], "labelling.modalities=[] is empty"),
        (["labelling.modalities=[text]"], "labelling.modalities=text is not one of video, audio"),
        (["labelling.modalities=[video,video]"], "more than once"),
        (["labelling.lam=inf"], "finite"),
        (["labelling.lam=nan"], "finite"),
        (["labelling.exponent=-1"], "below the minimum 0"),
        (["labelling.groups=3"], "labelling.groups=3 exceeds labelling.heads=2"),
        (["labelling.groups=2", "labelling.mode=bank"], "needs labelling.mode=offline"),
        (["labelling.method=kmeans", "labelling.mode=batch"], "labelling.mode=offline or bank"),
        (["labelling.method=xdc"], "labelling.sharing=per_modality"),
        (["labelling.method=xdc", "labelling.modalities=[video]"], "labelling.modalities=video,audio"),
        (["labelling.sharing=concat", "labelling.modalities=[video]"], "labelling.modalities=video,audio"),
        (["labelling.marginal=zpif"], "did you mean zipf?"),
        (["labelling.marginal=given"], "labelling.sizes"),
    ],
)
def test_wrong_labelling_is_one_clear_line(indexed, words, said, tmp_path, capsys):
    assert main(["train", *indexed, *SMALL, f"out={tmp_path / 'run'}", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(p.stem for p in (assets_root() / "configs" / "labelling").glob("*.yaml")))
def test_every_labelling_composes(name):
    config = compose_config("train", TrainConfig, [f"labelling={name}", "data.root=x"])
    check(config)
    model = build_model(config)
    assert ("video" in model.encoders) == (name != "sela_audio")
    assert ("audio" in model.cluster_heads) == (name in ("published", "xdc"))


@pytest.mark.parametrize(("asked", "taken"), [(2, 2), (20, 5)])
def test_warm_up_is_one_pass_over_the_data_at_most(indexed, asked, taken):
    words = [*indexed, "experiment=selavi_sample", f"labelling.warmup_batches={asked}", "optim.batch=8"]
    state = RunState(compose_config("train", TrainConfig, words), torch.device("cpu"))
    state.begin({}, Path())
    kinds = [batch[0].kind for batch in islice(state.requests(), taken + 2)]
    assert kinds == [Pass.TRAIN] * taken + [Pass.LABEL, Pass.TRAIN]


def test_warm_up_and_passes_report_progress(indexed, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(RunLog, "show", lambda self, *part: shown.append(part))
    words = ["labelling.groups=2", "labelling.passes=2", "optim.epochs=1", f"out={tmp_path / 'run'}"]
    assert main(["train", *indexed, *SMALL, *words]) == 0
    first = shown[: len(shown) // 2 + 2]
    assert first[:3] == [("warm-up, batches", done, 2) for done in range(3)]
    passes = [f"labelling 1 of 2, pass {number} of 2, videos" for number in (1, 2)]
    assert first[3:7] == [(text, done, 36) for text in passes for done in (0, 36)]
    assert first[7:10] == [("solving, head", done, 2) for done in range(3)]
    assert shown[-4][0] == "labelling 2 of 2, pass 2 of 2, videos"
