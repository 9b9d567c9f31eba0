"""Runs that start from weights: frozen encoders, learning rates by depth, and resuming, bit for bit."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from avssl.cli import main
from avssl.clips.loader import load
from avssl.config import ModelConfig, OptimConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.config.run_folder import licences
from avssl.core.checkpoint_store import FOLDER, name_of, steps_of
from avssl.models import build_multi_stream
from avssl.models.audio import build_audio
from avssl.models.video import build_video
from avssl.runs.checkpoints import load_run_state
from avssl.train.optimizers import make_optimizer, set_rate
from avssl.train.parameter_groups import blocks_of, parameter_groups
from avssl.train.run_state import RunState
from tests.processes import run_together

WORDS = [
    "experiment=selavi_sample", "labelling.clusters=3", "labelling.heads=2", "labelling.passes=3",
    "labelling.warmup_batches=2", "optim.batch=6", "optim.epochs=2", "workers=0", "threads=1", "device=cpu",
    "log_steps=1", "save_seconds=0",
]  # fmt: skip
STEPS = 12


@pytest.fixture(scope="module")
def source(indexed, tmp_path_factory) -> Path:
    """A run to start from."""
    out = tmp_path_factory.mktemp("runs") / "source"
    assert main(["train", *indexed, *WORDS, "optim.epochs=1", "seed=5", f"out={out}"]) == 0
    return out


def encoders(state: dict) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state["model"].items() if k.startswith("encoders.")}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(x, two[key]) for key, x in one.items())


def state_of(words: list[str]) -> RunState:
    state = RunState(compose_config("train", TrainConfig, words), torch.device("cpu"))
    state.begin({}, Path())
    return state


def test_frozen_encoders_keep_their_weights_and_statistics(source, indexed, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AVSSL_VERBOSITY", "verbose")
    out = tmp_path / "run"
    words = [*indexed, *WORDS, f"model.init={source}", "model.freeze=[video,audio]", f"out={out}"]
    assert main(["train", *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    before, after = load_run_state(source), load_run_state(out)
    assert same(encoders(before), encoders(after))
    heads = "heads.labelling.shared.out.weight"
    assert not torch.equal(before["model"][heads], after["model"][heads])
    assert sum(len(g["params"]) for g in after["optimizer"]["param_groups"]) == len(
        [name for name, _ in build(("video", "audio")).named_parameters() if not name.startswith("encoders.")]
    )
    record = json.loads((out / "init.json").read_text())["encoders"]
    assert record["video"]["line"] in said
    assert record["video"]["source"] == str(source)
    assert record["video"]["licence"] == "that of the run, which started from random weights"
    newest = source / FOLDER / name_of(steps_of(source / FOLDER)[-1])
    manifest = json.loads((newest / "manifest.json").read_text())
    assert record["video"]["files"] == {str(newest / "state.ckpt"): manifest["files"]["state.ckpt"]["sha256"]}
    assert record["video"]["missing"] == []
    assert len(record["video"]["loaded"]) + len(record["video"]["left"]) == len(before["model"])
    assert f"video encoder: {len(record['video']['loaded'])} of {len(before['model'])} tensors from" in said
    # what a run that has ended needs no more
    assert main(["train", *words, "device=cpu"]) == 0


def build(modalities: tuple[str, ...]):
    return build_multi_stream(ModelConfig(video="tiny", audio="tiny", hidden=128), 3, 2, "shared", 0, modalities)


def test_frozen_and_unfrozen_have_the_same_features_at_step_0(source, indexed):
    plain = state_of([*indexed, *WORDS, f"model.init={source}"])
    frozen = state_of([*indexed, *WORDS, f"model.init={source}", "model.freeze=[video,audio]"])
    clips = {"video": torch.randn(3, 3, 8, 48, 48), "audio": torch.randn(3, 1, 40, 99)}
    for state in (plain, frozen):
        state.model.eval()
    features = plain.model.encode(clips)
    assert all(torch.equal(x, features[name]) for name, x in frozen.model.encode(clips).items())
    assert features["video"].requires_grad
    frozen.model.train()  # frozen encoders stay in evaluation mode
    again = frozen.model.encode(clips)
    assert all(torch.equal(x, features[name]) for name, x in again.items())
    assert not any(x.requires_grad for x in again.values())
    assert frozen.model.norms["video"].training
    mapped, maps = frozen.model.encode_with_maps(clips, {"video"})
    assert not maps["video"].requires_grad
    torch.testing.assert_close(mapped["video"], features["video"])


def test_a_run_without_its_source_is_resumed_bit_for_bit(source, indexed, tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.core.checkpoint_store.KEPT_CHECKPOINTS", 99)
    copy, out = tmp_path / "copy", tmp_path / "run"
    shutil.copytree(source, copy)
    words = [
        *indexed, *WORDS, f"model.init=[video:{copy},audio:{copy}]", "optim.encoder_start=0.5", "optim.encoder_lr=0.1",
        "optim.layer_decay=0.5", "optim.optimizer=adamw",
    ]  # fmt: skip
    assert main(["train", *words, f"out={out}"]) == 0
    at = {step: tmp_path / f"at_{step}" for step in (4, 6, 9)}  # before, when and after the encoders begin to move
    for step, folder in at.items():
        shutil.copytree(out, folder)
        for later in steps_of(folder / FOLDER):
            if later > step:
                shutil.rmtree(folder / FOLDER / name_of(later))
    begin = load_run_state(source)
    probed = load_run_state(at[6])
    whole = load_run_state(out)
    assert whole["step"] == STEPS
    assert same(encoders(begin), encoders(probed))
    heads = "heads.labelling.shared.out.weight"
    assert not torch.equal(load_run_state(at[4])["model"][heads], probed["model"][heads])
    assert not same(encoders(begin), encoders(load_run_state(at[9])))
    shutil.rmtree(copy)
    for folder in at.values():
        (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace(str(out), str(folder)))
        assert main(["train", *words, f"out={folder}"]) == 0
        again = load_run_state(folder)
        assert same(again["model"], whole["model"])
        assert torch.equal(again["labeller"]["labels"], whole["labeller"]["labels"])


CASES = {
    "frozen": ["model.freeze=audio"],
    "probed": ["optim.encoder_start=0.1", "optim.encoder_lr=0.5", "optim.layer_decay=0.5"],
}


def losses(case: str, data: list[str], batch: int) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Losses of the first steps, and the weights after them."""
    words = [
        *data,
        *WORDS,
        "optim.optimizer=sgd",
        "optim.scale_lr=false",
        "model.dropout=0",
        f"optim.batch={batch}",
        *CASES[case],
    ]
    state = state_of(words)
    batches, found = load(state.dataset, state.requests(), 0), []
    for step in range(4):
        if state.labelling(step):
            state.relabel(batches)
        state.begin_step()
        loss, _ = state.forward(next(batches), False)
        state.backward(loss)
        state.update(False)
        found.append(loss.detach())
    return found, {name: x.detach().clone() for name, x in state.model.state_dict().items()}


def _process(rank: int, folder: str, data: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for case in CASES:
        torch.save(losses(case, data, 3), f"{folder}/{case}-{rank}.pt")
    dist.barrier()
    os._exit(0)  # torch 2.14 may abort when the interpreter ends after DistributedDataParallel


def test_two_processes_are_one(indexed, tmp_path):
    words = [*indexed, "optim.epochs=4"]
    run_together(_process, (str(tmp_path), words), 2)
    for case in CASES:
        one, weights = losses(case, words, 6)
        parts = [torch.load(tmp_path / f"{case}-{rank}.pt") for rank in range(2)]
        for step, loss in enumerate(one):
            mean = (parts[0][0][step] + parts[1][0][step]) / 2
            torch.testing.assert_close(mean, loss, rtol=1e-3, atol=1e-4)
        assert same(parts[0][1], parts[1][1])
        for name, x in weights.items():
            torch.testing.assert_close(parts[0][1][name], x, rtol=1e-2, atol=1e-3)


def test_learning_rates_by_depth():
    model = build(("video", "audio"))
    (group,) = parameter_groups(model)
    assert group["factor"] == 1
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
    optimizer = make_optimizer(model, OptimConfig(optimizer="adamw", encoder_lr=0.1, layer_decay=0.5))
    set_rate(optimizer, 2.0)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    video = model.encoders["video"]
    expected = [
        (video.stem[0].weight, 0.1 * 0.5**4), (video.stem[1].bias, 0.1 * 0.5**4),
        (video.blocks[0][0][0].weight, 0.1 * 0.5**3), (video.blocks[2][1].weight, 0.1 * 0.5),
        (model.heads["labelling"]["shared"].out.weight, 1.0),
    ]  # fmt: skip
    assert [rate[id(p)] for p, _ in expected] == pytest.approx([2 * factor for _, factor in expected])
    assert len(rate) == len([*model.parameters()])
    video.stem[1].bias.requires_grad_(False)  # stays so
    model.freeze(["video", "audio"])
    assert not any(p.requires_grad for p in model.encoders.parameters())
    model.freeze(["audio"])
    assert [name for name, p in video.named_parameters() if not p.requires_grad] == ["stem.1.bias"]
    model.freeze(["video"])
    left = {id(p) for g in parameter_groups(model, 0.1, 0.5) for p in g["params"]}
    assert left == {id(p) for p in model.parameters()} - {id(p) for p in video.parameters()}


def test_blocks_of_every_library():
    sizes = {"r2plus1d_18": 9, "tiny": 4}
    found = {name: blocks_of(build_video(name)) for name in sizes}
    assert {name: len(blocks) for name, blocks in found.items()} == sizes
    assert [len(blocks_of(build_audio(name))) for name in ("resnet9", "resnet18", "tiny")] == [5, 9, 4]
    import torchvision

    timm = pytest.importorskip("timm")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        networks = {
            "resnet50": (torchvision.models.resnet50(), 18), "vit_b_16": (torchvision.models.vit_b_16(), 14),
            "swin3d_t": (torchvision.models.video.swin3d_t(), 17), "mvit": (torchvision.models.video.mvit_v2_s(), 18),
            "efficientnet": (timm.create_model("tf_efficientnet_lite0", num_classes=0), 18),
            "vit": (timm.create_model("vit_tiny_patch16_224", num_classes=0), 13),
            "videomae": (transformers.VideoMAEModel(transformers.VideoMAEConfig(num_hidden_layers=3)), 4),
            "ast": (transformers.ASTModel(transformers.ASTConfig(num_hidden_layers=3)), 4),
        }  # fmt: skip
    for name, (network, blocks) in networks.items():
        whole = nn.Sequential(network)  # a wrapper changes nothing
        assert len(blocks_of(network)) == len(blocks_of(whole)) == blocks, name
        every = [id(p) for block in blocks_of(network) for p in block]
        assert sorted(every) == sorted(id(p) for p in network.parameters()), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.init=no_such"], "model.init=no_such: no such file, run folder or published model"),
        (["model.init=selavi_vgsound"], "did you mean selavi_vggsound?"),
        (["model.init=selavi_vggsound"], "avssl models fetch selavi_vggsound"),
        (["model.init=vidio:pretrained"], "no encoder vidio; did you mean video?"),
        (["model.init='video:'"], "names no source"),
        (["model.init=[video:pretrained,video:runs/a]"], "model.init has two sources for video"),
        (["model.init=audio:pretrained", "labelling.modalities=[video]"], "the run encodes only video"),
        (["model.freeze=audio", "labelling.modalities=[video]"], "model.freeze=audio: the run encodes only video"),
        (["model.freeze=vidio"], "model.freeze=vidio is not one of video, audio; did you mean video?"),
        (["model.freeze=[video,audio]", "optim.encoder_lr=0.1"], "optim.encoder_lr=0.1 has no effect"),
        (["model.freeze=[video,audio]", "optim.encoder_start=0.1"], "optim.encoder_start=0.1 has no effect"),
        (["optim.encoder_start=1"], "above the maximum 0.99"),
    ],
)
def test_wrong_starts_are_one_line(words, message, indexed, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AVSSL_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    assert main(["train", *indexed, *WORDS, *words, f"out={out}"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0
    assert not out.exists()


def test_a_licence_goes_on_with_the_weights(source, indexed, tmp_path, capsys):
    copy, out = tmp_path / "runs" / "copy", tmp_path / "runs" / "run"
    shutil.copytree(source, copy)
    licence = "CC BY-NC 4.0, for non-commercial purposes only"
    (copy / "init.json").write_text(json.dumps({"encoders": {"video": {"licence": licence}}}))
    words = [*indexed, *WORDS, "optim.epochs=1", f"model.init={copy}", "model.freeze=video", f"out={out}"]
    assert main(["train", *words]) == 0
    said = capsys.readouterr().out
    assert f"video encoder: weights of {copy}; licence: {licence}" in " ".join(said.split())
    assert said.index("video encoder:") < said.index("audio encoder:")
    assert licences(out) == {
        "video": licence, "audio": "that of the run, which started from random weights",
    }  # fmt: skip
    assert main(["runs", f"folder={tmp_path / 'runs'}"]) == 0
    assert f"run: started from weights that are not for commercial use: {licence}" in capsys.readouterr().out
    assert main(["export", f"run={out}", "modality=video", "format=safetensors"]) == 0
    assert f"they started from: {licence}" in capsys.readouterr().out
    about = json.loads((out / "export" / "video.safetensors.json").read_text())
    assert about["licence"] == licence
    # the exported file is a source too
    again = [*indexed, *WORDS, "optim.epochs=1", f"model.init=video:{out}/export/video.safetensors"]
    state = state_of([*again, "model.freeze=video"])
    exported = load_run_state(out)
    assert all(torch.equal(x, exported["model"][f"encoders.{k}"]) for k, x in state.model.encoders.state_dict().items()
               if k.startswith("video."))  # fmt: skip
    (out / "init.json").write_text("{")
    assert licences(out)["audio"] == f"unknown: {out / 'init.json'} is damaged"


def test_a_run_of_another_encoder(source, indexed, tmp_path, capsys):
    words = [*indexed, *WORDS, f"model.init=audio:{source}", "model.audio=resnet9", "labelling.sharing=per_modality"]
    assert main(["train", *words, f"out={tmp_path / 'run'}"]) == 2
    assert f"model.init={source} has model.audio=tiny, but this run has resnet9" in capsys.readouterr().err


def test_random_frozen_encoders_are_warned_about(indexed, tmp_path, capsys):
    words = ["model.freeze=video", "optim.epochs=1", f"out={tmp_path / 'run'}"]
    assert main(["train", *indexed, *WORDS, *words]) == 0
    assert "warning: model.freeze=video freezes random weights" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "run" / "init.json").exists()


def test_the_preset_probes_then_finetunes():
    optim = compose_config("train", TrainConfig, ["data.root=x", "optim=probe_then_finetune"]).optim
    assert (optim.encoder_start, optim.encoder_lr, optim.layer_decay) == (0.2, 0.1, 0.75)
