"""Localisation as an objective: its clips, its heads, what it waits for, options that are refused, and a run."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from avssl.cli import main
from avssl.clips.transform import DeviceTransform
from avssl.config import EvaluateConfig, ExportConfig, PlanConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.contrast.localisation import localisation_loss
from avssl.core.errors import UserError
from avssl.models.localise import Localiser, heat_maps
from avssl.models.video import TinyVideo
from avssl.objectives.build import build_model, build_objectives, make_composition, make_plan
from avssl.objectives.labelling import Labelling
from avssl.objectives.localisation import Localisation
from avssl.objectives.objective import Context, EncodedBatch
from avssl.objectives.step_clips import StepClips
from avssl.runs.checkpoints import load_run_state
from avssl.runs.export import run as export
from avssl.runs.open import open_source
from avssl.selflabel.labeller import UNLABELLED
from avssl.train.check_options import check
from avssl.train.new_model import check_maps, compile_encoders, freeze_unused
from tests.waits import Waits

CPU, BATCH = torch.device("cpu"), 5
WORDS = ["objective=localisation", "model=tiny", "clip=tiny", "data.root=x", "localisation.projection=6"]


def configured(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, [*WORDS, *words])


def objective(*words: str, device: torch.device = CPU) -> Localisation:
    config = configured(*words)
    torch.manual_seed(0)
    model = build_model(config)
    return Localisation(
        Context(config, model, device, DeviceTransform(config.clip, device), 50, 100, BATCH), make_composition(config)
    )


def batch_of(made: Localisation, device: torch.device = CPU) -> EncodedBatch:
    """Random maps of 2 moments of 3 x 3 positions, and features."""
    count = BATCH * made.views
    features = {name: torch.randn(count, width, device=device) for name, width in made.model.widths.items()}
    maps = {"video": torch.randn(count, made.model.widths["video"], 2, 3, 3, device=device, requires_grad=True)}
    return EncodedBatch({}, features, torch.arange(BATCH), maps)


def test_the_loss_compares_positions_with_the_audio_of_the_clip():
    made = objective("localisation.temperature=0.2")
    batch = batch_of(made)
    loss, logged = made.loss(batch, detailed=True)
    heads = made.model.heads["localisation"]
    expected = localisation_loss(
        heads["video"](batch.maps["video"]), heads["audio"](batch.features["audio"]), torch.arange(BATCH), 0.2
    )
    assert torch.equal(loss, expected.loss)
    assert logged.keys() == {"loss", "retrieval", "positive", "sounding"}
    own = expected.similarities.diag()
    assert logged["positive"] == pytest.approx(float(own.mean()), abs=1e-6)
    assert logged["retrieval"] == (expected.similarities.argmax(1) == torch.arange(BATCH)).float().mean()


def test_clips_of_one_cluster_are_no_negatives_of_each_other():
    """The clusters of the head whose labels cost least; a video without a label is compared with all others."""
    config = configured("objective=localisation_labels", "labelling.clusters=4", "labelling.heads=2")
    torch.manual_seed(0)
    context = Context(config, build_model(config), CPU, DeviceTransform(config.clip, CPU), 50, 100, BATCH)
    made = {type(x): x for _, x in build_objectives(context, make_composition(config))}
    localisation, labeller = made[Localisation], made[Labelling].labeller
    batch = batch_of(localisation)
    heads = localisation.model.heads["localisation"]
    embedded = heads["video"](batch.maps["video"]), heads["audio"](batch.features["audio"])

    def expected(*alike: int) -> torch.Tensor:
        return localisation_loss(*embedded, torch.tensor(alike), config.localisation.temperature).loss

    assert torch.equal(localisation.loss(batch, detailed=False)[0], expected(0, 1, 2, 3, 4))
    labeller.labels[:BATCH] = torch.tensor([[0, 1, 2, 3, 0], [2, 2, 1, UNLABELLED, 1]]).T
    labeller.costs = torch.tensor([2.0, 1.0])
    labeller.on_device.clear()
    assert torch.equal(localisation.loss(batch, detailed=False)[0], expected(2, 2, 1, 9, 1))


@pytest.mark.parametrize(("form", "window"), [("max", 3), ("soft", 1)])
def test_the_window_is_of_the_form_whose_positions_are_averaged(form, window):
    made = objective(f"localisation.form={form}", "localisation.window=3")
    assert made.model.heads["localisation"]["video"].window == window


def test_clips_that_an_axis_changes_after_decoding_are_left_out():
    """Two clips at different times, each also reversed: the reversed frames do not belong to any moment's audio."""
    made = objective("loss.contrast=1", "contrast.axes.time_shift=distinct", "contrast.axes.reversal=distinct")
    assert (made.views, made.turns) == (4, 2)
    batch = batch_of(made)
    loss, _ = made.loss(batch, detailed=False)
    loss.backward()
    gradient = batch.maps["video"].grad
    assert gradient is not None
    moved = gradient.unflatten(0, (BATCH, 4)).abs().amax((0, 2, 3, 4, 5))
    assert (moved > 0).tolist() == [True, False, True, False]


@pytest.mark.parametrize("words", [[], ["localisation.form=soft"], ["loss.contrast=1", "contrast=preset_9"]])
def test_a_step_reads_nothing_from_the_device(words):
    made = objective(*words)
    batch = batch_of(made)
    waits = Waits(*batch.features.values(), *batch.maps.values(), batch.device_index, *made.model.parameters())
    with pytest.MonkeyPatch.context() as patch, waits:
        waits.watch(patch)
        loss, _ = made.loss(batch, detailed=True)
        loss.backward()
    assert loss.isfinite()
    assert not +waits.found


@pytest.mark.parametrize("form", ["max", "soft"])
def test_a_loss_on_a_gpu_has_no_operands_elsewhere(form):
    """On tensors of a GPU without values: those of the CPU would be an error, and so would any value read."""
    gpu = torch.device("cuda")
    made = objective(f"localisation.form={form}")
    with FakeTensorMode(allow_non_fake_inputs=True):
        made.model.to_empty(device=gpu)
        batch = batch_of(made, gpu)
        loss, logged = made.loss(batch, detailed=True)
        assert loss.device.type == "cuda"
        assert all(x.device.type == "cuda" for x in logged.values())  # type: ignore[union-attr]


# options


@pytest.mark.parametrize(("words", "message"), [
    (["contrast.modalities=[video]"], "does not encode audio: set contrast.modalities=[video,audio]"),
    (["loss.labelling=1", "labelling.modalities=[video]", "contrast.modalities=[video]"], "set labelling.modalities="),
    (["data.features=x.parquet"], "needs feature maps of the frames, which data.features=x.parquet does not"),
    (["localisation.form=maximum"], "did you mean max?"),
    (["localisation.temperature=0"], "below the minimum 0.001"),
    (["model.video_stride=2"], "model.video=tiny has the strides 4, 8, 16: choose one"),
    (["model.video=efficientnet_lite0", "model.video_stride=8"], "has the strides 32 only: omit it"),
    (["contrast.axes.augmentation=invariant"], "has no effect with localisation: omit it"),
    (["localisation.window=4"], "has no position in its middle: choose an odd number, such as 5"),
    (["model.adapter=64"], "adapts pooled features, but loss.localisation alone compares those of positions"),
    (["model.video=efficientnet_lite0", "model.temporal_pooling=attention"], "which compares every frame: omit it"),
])  # fmt: skip
def test_options_that_are_refused(words, message):
    with pytest.raises(UserError) as error:
        check(configured(*words))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stride_without_video_is_refused():
    config = compose_config("train", TrainConfig, [
        "model=tiny", "clip=tiny", "data.root=x", "task=selavi", "labelling.modalities=[audio]", "model.video_stride=8",
    ])  # fmt: skip
    with pytest.raises(UserError, match="does not encode video"):
        check(config)


@pytest.mark.parametrize(("name", "expected"), [
    ("localisation", {"localisation": 1.0}),
    ("localisation_labels", {"labelling": 1.0, "localisation": 1.0}),
    ("lvs", {"localisation": 1.0}),
])  # fmt: skip
def test_the_presets_are_accepted(name, expected):
    config = compose_config("train", TrainConfig, [f"objective={name}", "experiment=tiny", "data.root=x"])
    check(config)
    assert config.objectives == expected
    assert (config.task, config.out) == ("none", f"runs/x_{name}_seed0")
    assert config.localisation.form == ("soft" if name == "lvs" else "max")
    assert config.localisation.temperature == (0.07 if name == "lvs" else 0.03)
    check(compose_config("train", TrainConfig, [f"objective={name}", "experiment=tiny_localisation", "data.root=x"]))


class Wide(TinyVideo):
    """An encoder whose map has twice the channels of its features, which it does not say."""

    def with_map(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, x = super().with_map(video)
        return features, torch.cat([x, x], 1)


class Flat(nn.Module):
    """An encoder without a map."""

    dim = 128

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return video.new_zeros(len(video), 128)


def test_encoders_without_a_usable_map_are_refused():
    config = configured()
    model = build_model(config)
    check_maps(config, model)
    model.encoders["video"] = Flat()
    with pytest.raises(UserError, match="has no feature_map, in which sounds could be located: choose tiny"):
        check_maps(config, model)
    model.encoders["video"] = Wide()
    with pytest.raises(UserError, match=r"returns 256 channels, but dim is 128: set self.map_dim=256"):
        check_maps(config, model)
    coarse = configured("model.video=torchvision:resnet18", "clip.crop=32", "clip.short_side_min=32")
    with pytest.raises(UserError, match="a single position for frames of 32 px"):
        check_maps(coarse, build_model(coarse))
    narrow = configured("model.video_stride=8", "clip.crop=32", "clip.short_side_min=32")  # 4 x 4 positions
    check_maps(replace(narrow, localisation=replace(narrow.localisation, window=3)), build_model(narrow))
    narrow.localisation.window = 5
    with pytest.raises(UserError, match=r"window=5 is larger than the map of 4 × 4 .*: set localisation.window=3 or"):
        check_maps(narrow, build_model(narrow))
    narrow.localisation.form = "soft"  # it has no window
    check_maps(narrow, build_model(narrow))


def test_weights_of_pooled_features_alone_are_not_trained():
    """They have no gradient, for which the processes of a run would wait."""
    pytest.importorskip("timm")
    words = ["model.video=timm:mobilenetv3_small_050", "clip.crop=64", "clip.frames=1", "clip.fps=1"]
    trained = {}
    for more in ([], ["loss.contrast=1"]):
        config = configured(*words, *more)
        model = build_model(config)
        freeze_unused(config, model, {"video"})
        trained[len(more)] = {name for name, x in model.encoders["video"].named_parameters() if x.requires_grad}
    assert {name.split(".")[2] for name in trained[1] - trained[0]} == {"conv_head"}


def test_a_compiled_run_compiles_the_map_too(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled.append((function, options)) or function)
    made = objective()
    encode = made.model.encoders["video"].with_map
    compile_encoders(made.model, {"video"})
    assert (encode, {"dynamic": False}) in compiled


@pytest.mark.parametrize("form", ["max", "soft"])
def test_under_bfloat16_it_compares_in_float32(form):
    made = objective(f"localisation.form={form}")
    batch = batch_of(made)
    expected, _ = made.loss(batch, detailed=False)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = made.loss(batch, detailed=True)
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=0.1)


# a run


def test_a_run_resumes_and_its_maps_are_there(
    indexed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = [
        *indexed, "objective=localisation_labels", "experiment=tiny", "optim.batch=4", "optim.clips=24", "log_steps=1",
        "threads=1", "device=cpu", "model.video_stride=8", "labelling.clusters=3", "labelling.heads=1",
        "labelling.passes=2", "labelling.warmup_batches=0", "monitor.times=0",
    ]  # fmt: skip
    assert main(["train", *words, f"out={tmp_path / 'whole'}"]) == 0
    place = tmp_path / "whole"
    assert f"next: avssl clusters {place}, then avssl locate {place}" in capsys.readouterr().out

    def stop(made: Localisation, step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Localisation, "after_step", stop)
        assert main(["train", *words, f"out={tmp_path / 'run'}"]) != 0
    assert 2 < load_run_state(tmp_path / "run")["step"] < 6
    assert main(["train", *words, f"out={tmp_path / 'run'}"]) == 0
    one, other = (load_run_state(tmp_path / name)["model"] for name in ("whole", "run"))
    assert {key.split(".")[1] for key in one if key.startswith("heads.")} == {"labelling", "localisation"}
    assert all(torch.equal(one[key], other[key]) for key in one)
    figures = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in figures if "localisation_loss" in line]
    assert [line["step"] for line in trained] == [*range(6)]
    assert trained[0].keys() >= {f"localisation_{x}" for x in ("retrieval", "positive", "sounding")}

    source = open_source(EvaluateConfig(run=str(tmp_path / "run")))
    assert source.model is not None
    localiser = Localiser(source.model)
    positions, audio = localiser.embed({"video": torch.randn(1, 3, 4, 64, 64), "audio": torch.randn(1, 1, 40, 62)})
    assert heat_maps(positions, audio).shape == (1, 1, 8, 8)
    out = tmp_path / "video.safetensors"
    assert export(ExportConfig(run=str(tmp_path / "run"), modality="video", format="safetensors", out=str(out))) == out


def test_a_plan_counts_it(indexed: list[str]):
    config = compose_config("plan", PlanConfig, [*indexed, "objective=localisation", "experiment=tiny"])
    check(config)
    assert StepClips.of(config, make_plan(config)).whole == 2
