"""Parts of a run that were built apart, together: stored features, adapters, contrast first, labels by k-means, soft
labels, weights of the modalities. Resumed bit for bit; two processes equal one."""

import os
import shutil
from math import ceil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from avssl.cli import main
from avssl.clips.loader import load
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.config.encoder_names import OURS
from avssl.core.checkpoint_store import FOLDER, name_of, steps_of
from avssl.core.errors import UserError
from avssl.models.by_name import build_encoder
from avssl.runs.checkpoints import load_run_state
from avssl.train.check_options import check
from avssl.train.new_model import new_model
from avssl.train.run_state import RunState
from avssl.train.take_features import take_features
from tests.processes import run_together

STEPS = 12
WORDS = [
    "task=both", "contrast=preset_5", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=3",
    "labelling.start=0.4", "contrast.end=0.6", "labelling.first=kmeans", "labelling.first_from=embeddings",
    "labelling.stop_gradient=true", "labelling.modality_weights=auto", "labelling.soft=0.5", "model.adapter=16",
    "model.hidden=32", f"optim.clips={6 * STEPS}", "optim.batch=6", "optim.warmup_epochs=0", "threads=1", "device=cpu",
    "log_steps=1", "save_seconds=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(indexed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("store") / "tiny"
    options = ["model=tiny", "clip=tiny", "views=3", "augmented=1", "workers=0", "threads=1", "device=cpu"]
    assert main(["features", *indexed, *options, f"out={out}"]) == 0
    return out


def part(state: dict, *beginnings: str) -> dict[str, torch.Tensor]:
    return {name: x for name, x in state["model"].items() if name.startswith(beginnings)}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(x, two[key]) for key, x in one.items())


def test_a_run_in_parts_on_stored_features_is_resumed_bit_for_bit(store, tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.core.checkpoint_store.KEPT_CHECKPOINTS", 99)
    words, out = [f"data.features={store}", *WORDS], tmp_path / "run"
    assert main(["train", *words, f"out={out}"]) == 0
    at = {step: tmp_path / f"at_{step}" for step in (3, 6, 10)}  # in contrast, in both, in labels alone
    for step, folder in at.items():
        shutil.copytree(out, folder)
        for later in steps_of(folder / FOLDER):
            if later > step:
                shutil.rmtree(folder / FOLDER / name_of(later))
    whole, states = load_run_state(out), {step: load_run_state(folder) for step, folder in at.items()}
    assert whole["step"] == STEPS
    assert [*states] == [state["step"] for state in states.values()]
    # adapters learn in contrast, and stand still once labels alone are trained
    assert not same(part(states[3], "adapters."), part(states[6], "adapters."))
    assert same(part(states[10], "adapters."), part(whole, "adapters."))
    assert not same(part(states[10], "heads.labelling"), part(whole, "heads.labelling"))
    assert same(part(states[3], "encoders."), part(whole, "encoders."))
    assert {*whole["labeller"]["modality_weights"]} == {"video", "audio"}
    for folder in at.values():
        (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace(str(out), str(folder)))
        assert main(["train", *words, f"out={folder}"]) == 0
        again = load_run_state(folder)
        assert same(again["model"], whole["model"])
        assert torch.equal(again["labeller"]["labels"], whole["labeller"]["labels"])
        assert same(again["labeller"]["modality_weights"], whole["labeller"]["modality_weights"])


def steps_of_run(features: str, batch: int) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The losses of all steps of a run, and the weights after them, with the weights of the modalities."""
    words = [
        f"data.features={features}", *WORDS, "optim.optimizer=sgd", "optim.scale_lr=false", "model.dropout=0",
        f"optim.batch={batch}",
    ]  # fmt: skip
    state = RunState(take_features(compose_config("train", TrainConfig, words)), torch.device("cpu"))
    state.begin({}, Path())
    batches, found = load(state.dataset, state.requests(), 0), []
    for step in range(state.total):
        if state.labelling(step):
            state.relabel(batches)
        state.begin_step()
        loss, _ = state.forward(next(batches), False)
        state.backward(loss)
        state.update(False)
        found.append(loss.detach())
    weights = {name: x.detach().clone() for name, x in state.model.state_dict().items()}
    labeller = dict(state.objectives)
    (labelling,) = (objective for objective in labeller.values() if objective.name == "labelling")
    return found, weights | {f"weight of {name}": x for name, x in labelling.labeller.weights.items()}


def _process(rank: int, folder: str, features: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(steps_of_run(features, 3), f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)  # torch 2.14 may abort when the interpreter ends after DistributedDataParallel


def test_two_processes_take_the_steps_of_one(store, tmp_path):
    run_together(_process, (str(tmp_path), str(store)), 2)
    alone, weights = steps_of_run(str(store), 6)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert len(alone) == STEPS
    together = torch.stack([torch.stack(losses) for losses, _ in parts]).mean(0)
    torch.testing.assert_close(together, torch.stack(alone), rtol=2e-3, atol=2e-4)
    for _, theirs in parts:
        for name, x in weights.items():
            torch.testing.assert_close(theirs[name], x, rtol=5e-3, atol=5e-4, msg=lambda text, name=name: name + text)


def test_encoders_of_a_run_as_long_as_its_clips_begin_at_their_share_of_it(indexed):
    words = [*indexed, "experiment=sample", "labelling.clusters=3", "optim.batch=6", "workers=0", "device=cpu",
             "optim.clips=100", "optim.encoder_start=0.3"]  # fmt: skip
    state = RunState(compose_config("train", TrainConfig, words), torch.device("cpu"))
    state.begin({}, Path())
    assert (state.total, state.encoder_start) == (ceil(100 / 6), ceil(0.3 * ceil(100 / 6)))
    assert state.model.frozen == {"video", "audio"}
    state.step = state.encoder_start
    state.move_encoders()
    assert not state.model.frozen


def composed(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, ["data.root=videos", *words])


def test_an_adapter_that_nothing_would_train_is_refused():
    words = ["experiment=selavi_sample", "model.adapter=8", "labelling.stop_gradient=true"]
    with pytest.raises(UserError, match="model.adapter=8 would stay random"):
        check(composed(*words))
    check(composed(*words, "task=both"))


def test_a_pooling_without_frames_is_refused():
    pooled = "model.temporal_pooling=attention"
    for name in OURS["video"]:
        if name == "efficientnet_lite0":
            check(composed(f"model.video={name}", pooled))
            continue
        with pytest.raises(UserError, match=f"{pooled} pools frames, but model.video={name} encodes whole clips"):
            check(composed(f"model.video={name}", pooled))
    with pytest.raises(UserError, match="has no effect: the run does not encode video"):
        check(composed("labelling.modalities=[audio]", pooled))
    with pytest.raises(UserError, match="model.video=torchvision:r3d_18 encodes whole clips"):
        build_encoder("video", "torchvision:r3d_18", "attention")
    assert hasattr(build_encoder("video", "torchvision:resnet18", "attention").pooling, "query")


OF_ANY_RANK = """
import torch
from torch import nn

class Encoder(nn.Module):
    dim = 4

    def __init__(self):
        super().__init__()
        self.line, self.cube = nn.Conv1d(40, 4, 3), nn.Conv3d(1, 4, 1)
        self.plane, self.scale = nn.Conv2d(1, 4, 3), nn.Parameter(torch.ones(4))

    def forward(self, x):
        lines = self.line(x.flatten(1, 2)[:, :40]).mean(-1)
        return lines * self.scale + self.plane(x).mean((2, 3)) + self.cube(x[:, :, None]).mean((2, 3, 4))
"""


def test_an_audio_encoder_may_have_weights_of_any_rank(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("any_rank.py").write_text(OF_ANY_RANK)
    config = composed("experiment=sample", "clip.mels=40", "model.audio=any_rank:Encoder", "labelling.clusters=3")
    model = new_model(config, torch.device("cpu"))
    assert model.encoders["audio"].plane.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.adapters["audio"].in_features == 4
